"""What the pages can start: each does what a command of `dynafront` does, by running it, and says which one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from search.commands.choice import Choice, chosen
from search.run.lease import is_driven
from search.run.owner import Owner
from search.run.stop_signal import STOP
from search.service import bodies
from search.service.allowed import check_place
from search.service.job_process import STUDY_FILE
from search.service.jobs import JobQueue, described
from search.service.study_check import check, spec_of
from search.service.study_text import changed
from search.spec import stored_spec
from spaces.contract.cascades import is_cascade
from storage.records import JobRecord, JobState, StudyRecord
from storage.settings import Settings
from storage.store import Store
from storage.yaml_text import NotYamlError, file_text
from trainers.data.paths import expanded
from trainers.data.sources import SOURCES

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")  # as study files have it
SOURCE = re.compile(r"(folder|parquet):(.*)", re.DOTALL)


# path below the API: what it does, what it takes, the method that does it
ACTIONS: dict[str, tuple[str, type[bodies.Body], str]] = {
    "/check": ("what is wrong with a study file, and where", bodies.CheckBody, "check"),
    "/edit": ("a study file with values changed, and checked", bodies.EditBody, "edit"),
    "/estimate": ("estimate the time and disk of a study: a job", bodies.EstimateBody, "estimate"),
    "/suggest": ("write a study file for images: a job", bodies.SuggestBody, "suggest"),
    "/launch": ("launch a study, or go on with it: a job", bodies.LaunchBody, "launch"),
    "/stop": ("stop a search as Ctrl-C does", bodies.StudyBody, "stop"),
    "/resume": ("go on with a study: a job", bodies.ResumeBody, "resume"),
    "/more": ("go on with a study, with more trials: a job", bodies.TrialsBody, "more"),
    "/delete": ("delete a study for good: a job", bodies.DeleteBody, "delete"),
    "/export": ("export a point: a job", bodies.ExportBody, "export"),
    "/register": (
        "export a point and register it in MLflow: a job",
        bodies.ExportBody,
        "register",
    ),
    "/cancel": ("end a job as Ctrl-C does", bodies.JobBody, "cancel"),
}


class Actions:
    """The actions on one store. Each raises ValueError with one line for what a person can put right."""

    def __init__(self, store: Store, settings: Settings, queue: JobQueue) -> None:
        self.store, self.settings, self.queue = store, settings, queue

    def run(self, path: str, content: Any) -> dict[str, Any]:
        """The answer to a POST of this JSON."""
        _, kind, method = ACTIONS[path]
        answer: dict[str, Any] = getattr(self, method)(bodies.checked_body(kind, content))
        return answer

    def check(self, body: bodies.CheckBody) -> dict[str, Any]:
        return check(body.text, self.settings, self.store)

    def edit(self, body: bodies.EditBody) -> dict[str, Any]:
        text = changed(body.text, body.changes)
        return {"text": text} | check(text, self.settings, self.store)

    def estimate(self, body: bodies.EstimateBody) -> dict[str, Any]:
        spec = spec_of(body.text, self.settings)
        flags = [*_workers(body.workers), "--json"]
        return self._with_file("check", spec.study, body.text, flags)

    def suggest(self, body: bodies.SuggestBody) -> dict[str, Any]:
        """`dynafront init`. A path may stand there with or without `folder:`."""
        if body.data not in SOURCES:
            source = SOURCE.fullmatch(body.data)
            path = source[2] if source else body.data
            check_place(path, self.settings)
            if not expanded(path).is_dir():
                raise ValueError(f"data: {path} is neither a folder nor a known data set")

        def arguments(folder: Path) -> list[str]:
            out = str(folder / STUDY_FILE)
            return ["init", "--hours", f"{body.hours:g}", "--out", out, "--", body.data]

        return self._started(self.queue.submit("init", "", arguments))

    def launch(self, body: bodies.LaunchBody) -> dict[str, Any]:
        if (body.text is None) == (body.file is None):
            raise ValueError("give either text, a study file's text, or file, its name")
        text = self._file(body.file) if body.text is None else body.text
        spec = spec_of(text or "", self.settings)
        self._check_free(spec.study)
        flags = _workers(body.workers) + ["--baselines"] * body.baselines
        return self._with_file("search", spec.study, text or "", flags)

    def resume(self, body: bodies.ResumeBody) -> dict[str, Any]:
        record = self._study(body.study)
        self._check_free(record.name)
        flags = _workers(body.workers) + ["--retry-failed"] * body.retry_failed
        return self._with_file("search", record.name, record.text, flags)

    def more(self, body: bodies.TrialsBody) -> dict[str, Any]:
        record = self._study(body.study)
        self._check_free(record.name)
        trials = stored_spec(record.spec).budget.trials + body.trials
        text = changed(record.text, {"budget.trials": trials})
        spec_of(text, self.settings)  # a grid, or a list of trials, has so many and no more
        return self._with_file("search", record.name, text, [])

    def stop(self, body: bodies.StudyBody) -> dict[str, Any]:
        """End what searches the study, also where a terminal or another machine started it."""
        jobs = [job for job in self._searches(body.study) if self._is_ours(job)]
        for job in jobs:
            self.queue.cancel(job)
        if jobs:
            return {"stopped": True, "command": "Ctrl-C"}
        record = self._study(body.study)
        if not is_driven(record):
            raise ValueError(f"study {record.name} is not being searched")
        owner = Owner.read(record.owner or "")
        if owner.is_here and _is_stopped(int(owner.pid)):
            return {"stopped": True, "command": f"kill {owner.pid}"}
        self.store.ask_to_stop(record.name)
        return {"stopped": True, "command": f"Ctrl-C on {owner.host}, within 15 seconds"}

    def delete(self, body: bodies.DeleteBody) -> dict[str, Any]:
        record = self._study(body.study)
        if body.confirm != record.name:
            raise ValueError(f"confirm: repeat the name of the study, {record.name}")
        if is_driven(record):
            raise ValueError(f"study {record.name} is being searched; stop it first")
        self._check_free(record.name)
        flags = ["--yes"] + ["--mlflow"] * body.mlflow
        job = self.queue.submit("delete", record.name, lambda _: ["delete", record.name, *flags])
        return self._started(job)

    def export(self, body: bodies.ExportBody) -> dict[str, Any]:
        return self._export(body, "export")

    def register(self, body: bodies.ExportBody) -> dict[str, Any]:
        return self._export(body, "register")

    def _export(self, body: bodies.ExportBody, kind: str) -> dict[str, Any]:
        """Into the data folder; an earlier export of the point is replaced. One that is under way is joined."""
        record = self._study(body.study)
        flags = ["--whole-curve"] * body.whole_curve
        flags += [part for name in body.formats for part in ("--format", name)]
        flags += [part for name in body.quantize for part in ("--quantize", name)]
        for job in self.store.jobs.open_jobs(record.name):
            if job.kind == kind and {str(body.point), *flags} <= set(job.arguments):
                return self._started(job)
        point = chosen(self.store, record, Choice(point=body.point))
        if body.whole_curve and is_cascade(point.knobs):
            raise ValueError(
                "whole_curve: the file of a cascade answers at one point; leave it out"
            )
        folder = self.settings.folder / "exports" / record.name / f"point-{point.id}"
        arguments = ["export", record.name, "--point", str(point.id), "--out", str(folder), *flags]
        arguments += ["--force"] + ["--register"] * (kind == "register")
        return self._started(self.queue.submit(kind, record.name, lambda _: arguments))

    def cancel(self, body: bodies.JobBody) -> dict[str, Any]:
        job = self.queue.job(body.job)
        self.queue.cancel(job)
        return self._started(self.queue.job(job.id))

    def _study(self, name: str) -> StudyRecord:
        record = self.store.find_study(name)
        if record is None:
            raise ValueError(f"there is no study {name}")
        if not NAME.fullmatch(name):
            raise ValueError(f"study {name!r} cannot be named in a command")
        return record

    def _searches(self, name: str) -> list[JobRecord]:
        return [job for job in self.store.jobs.open_jobs(name) if job.kind == "search"]

    def _is_ours(self, job: JobRecord) -> bool:
        """Whether a job can be ended from here: one that waits anywhere, one that runs on this machine."""
        return job.state is JobState.QUEUED or job.host == self.queue.host

    def _check_free(self, name: str) -> None:
        """Raise ValueError where the study is searched, or waits for it."""
        self.queue.refresh()
        record = self.store.find_study(name)
        if self._searches(name) or (record is not None and is_driven(record)):
            raise ValueError(f"study {name} is being searched already; stop it first")

    def _file(self, name: str | None) -> str:
        """The text of a study file below the data folder."""
        folder = self.settings.folder.resolve()
        file = (folder / (name or "")).resolve()
        if not file.is_relative_to(folder) or file.suffix not in (".yml", ".yaml"):
            raise ValueError(f"file: {name} is not a .yml file below {self.settings.folder}")
        try:
            return file_text(file)
        except (OSError, UnicodeDecodeError, NotYamlError) as error:
            raise ValueError(f"file: {name} cannot be read ({error})") from None

    def _with_file(self, kind: str, study: str, text: str, flags: list[str]) -> dict[str, Any]:
        """A job of a command that takes a study file, which is named after the study."""
        name = f"{study}.yml"
        command = "check" if kind == "check" else "search"
        job = self.queue.submit(
            kind, study, lambda folder: [command, str(folder / name), *flags], {name: text}
        )
        return self._started(job)

    def _started(self, job: JobRecord) -> dict[str, Any]:
        found = described(job, self.queue)
        return {"job": found, "command": found["command"]}


def _workers(workers: int | None) -> list[str]:
    return [] if workers is None else ["--workers", str(workers)]


def _is_stopped(pid: int) -> bool:
    """Send the signal; False where the process is another user's, or has just ended."""
    try:
        os.kill(pid, STOP)
    except (PermissionError, ProcessLookupError):
        return False
    return True
