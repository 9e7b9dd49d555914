"""Jobs: commands that were asked for from a page, each in a process of its own that outlives the server."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from shutil import rmtree
from typing import Any

from filelock import FileLock, Timeout

from search.service.environment import job_environment
from storage.places import place, stored_place
from storage.records import JobRecord, JobState
from storage.settings import Settings
from storage.store import Store
from storage.urls import without_password

logger = logging.getLogger(f"dynafront.{__name__}")

SEARCHES = ("search",)
OTHERS = ("export", "register", "check", "init", "delete")
OTHERS_AT_ONCE = 2
MOST = 50  # that wait or run
KEPT = 500  # with their logs; the oldest go
LOG, LOCK, STOPPED = "log.txt", "lock", "stopped"  # files of a job
START_SECONDS = 60.0  # until a process shows that it lives
SILENT_SECONDS = 120.0  # of a process on another machine, after which it is given up
TAIL = 16_384  # bytes of a log that are read
LINES, LONGEST = 60, 500  # of a log that are shown


class JobQueue:
    """Takes jobs, starts as many as may run at once, ends them. Any number of servers may share the tables."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store, self.settings = store, settings
        self.host = socket.gethostname()

    def submit(
        self,
        kind: str,
        study: str,
        arguments: Callable[[Path], Sequence[str]],
        files: Mapping[str, str] | None = None,
    ) -> JobRecord:
        """A new job, started if it may be at once. `arguments` of `dynafront` are made from the job's own folder.

        `files`: texts to put there, by name. Raises ValueError where too many jobs wait.
        """
        name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{kind}-{token_hex(3)}"
        folder = self.settings.folder / "jobs" / name
        folder.mkdir(parents=True)
        for file, text in (files or {}).items():
            (folder / file).write_text(text, encoding="utf-8")
        job = self.store.jobs.add(
            kind,
            study,
            list(arguments(folder)),
            host=self.host,
            folder=stored_place(folder, self.settings.folder),
            most=MOST,
        )
        if job is None:
            rmtree(folder)
            raise ValueError(
                f"{MOST} jobs wait or run already; cancel some, or wait until they end"
            )
        for old in self.store.jobs.forget(KEPT):
            rmtree(self.folder(old), ignore_errors=True)
        self.start_waiting()
        return self.job(job.id)

    def job(self, identifier: int) -> JobRecord:
        """Raises ValueError where there is none."""
        job = self.store.jobs.job(identifier)
        if job is None:
            raise ValueError(f"there is no job {identifier}")
        return job

    def refresh(self) -> None:
        """End jobs whose process is gone, and start what may start now."""
        for job in self.store.jobs.open_jobs():
            if job.state is JobState.RUNNING and self._is_dead(job):
                self._bury(job)
        self.start_waiting()

    def start_waiting(self) -> None:
        """Start waiting jobs of this machine, in order, as many as may run at once, and one that writes a folder."""
        jobs = self.store.jobs.open_jobs()
        written = {written_folder(job) for job in jobs if job.state is JobState.RUNNING}
        for job in jobs:
            if job.state is not JobState.QUEUED or job.host != self.host:
                continue
            if (folder := written_folder(job)) is not None and folder in written:
                continue
            searches = job.kind in SEARCHES
            kinds = SEARCHES if searches else OTHERS
            most = self.settings.server.searches if searches else OTHERS_AT_ONCE
            if self.store.jobs.take(job, kinds, most):
                written.add(folder)
                self._start(job)

    def cancel(self, job: JobRecord) -> None:
        """End a job: one that waits at once, one that runs as Ctrl-C would. Raises ValueError where it cannot be."""
        if self.store.jobs.cancel_waiting(job.id):
            return
        job = self.job(job.id)
        if job.state is not JobState.RUNNING:
            raise ValueError(f"job {job.id} has ended already: it is {job.state}")
        if job.host != self.host:
            raise ValueError(f"job {job.id} runs on {job.host}; cancel it from the server there")
        if job.pid is None:
            raise ValueError(f"job {job.id} is just starting; try again in a few seconds")
        (self.folder(job) / STOPPED).touch()
        if not self._is_dead(job):
            with suppress(ProcessLookupError):
                os.kill(job.pid, signal.SIGTERM)

    def folder(self, job: JobRecord) -> Path:
        """Where the job's log and files are."""
        return place(job.folder, self.settings.folder)

    def log(self, job: JobRecord) -> list[str]:
        """The last lines of the job's log."""
        try:
            with (self.folder(job) / LOG).open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - TAIL))
                text = file.read(TAIL).decode("utf-8", errors="replace")
        except OSError:
            return []
        lines = [line.rstrip() for line in text.splitlines() if line.strip()]
        return [without_password(line)[:LONGEST] for line in lines[-LINES:]]

    def _start(self, job: JobRecord) -> None:
        """Run the job's process; it is nobody's child that anyone waits for, and goes on without the server."""
        command = [sys.executable, "-m", "search.service.job_process", str(job.id)]
        try:
            with (self.folder(job) / LOG).open("ab") as output:
                process = subprocess.Popen(
                    command,
                    env=job_environment(self.settings),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            self.store.jobs.finish(job.id, JobState.FAILED, error=f"it cannot be started: {error}")
            return
        logger.info("job %d (%s %s) is process %d", job.id, job.kind, job.study, process.pid)
        # a dead child stays in the system's table until somebody has asked how it ended
        threading.Thread(target=process.wait, name=f"job-{job.id}", daemon=True).start()

    def _is_dead(self, job: JobRecord) -> bool:
        if job.host != self.host:
            return self.store.jobs.silence(job.id) > SILENT_SECONDS
        if job.pid is None:
            return self.store.jobs.silence(job.id) > START_SECONDS
        return not is_held(self.folder(job))

    def _bury(self, job: JobRecord) -> None:
        """End a job whose process ended without saying how."""
        if (self.folder(job) / STOPPED).exists():
            self.store.jobs.finish(job.id, JobState.CANCELLED)
            return
        last = next(reversed(self.log(job)), "nothing")
        error = f"its process is gone; the last line of its log: {last}"
        self.store.jobs.finish(job.id, JobState.FAILED, error=error)


def written_folder(job: JobRecord) -> str | None:
    """Where the job writes a model, if it does."""
    if job.kind not in ("export", "register"):
        return None
    return job.arguments[job.arguments.index("--out") + 1] if "--out" in job.arguments else None


def held(folder: Path) -> FileLock:
    """The lock that a job's process holds as long as it lives; the system frees it, however the process ends."""
    return FileLock(folder / LOCK)


def is_held(folder: Path) -> bool:
    """Whether the process that holds a job's lock lives."""
    lock = held(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # with the folder went what tells; its process is nobody's any more
        return False
    lock.release()
    return False


def command_line(arguments: Sequence[str]) -> str:
    """What a person types for the same."""
    return shlex.join(["dynafront", *arguments])


def described(job: JobRecord, queue: JobQueue) -> dict[str, Any]:
    """A job as the pages show it, with the last line of its log."""
    return {
        "id": job.id,
        "kind": job.kind,
        "study": job.study,
        "state": str(job.state),
        "command": command_line(job.arguments),
        "error": job.error,
        "result": job.result,
        "host": job.host,
        "created": job.created_at.isoformat(),
        "started": job.started_at.isoformat() if job.started_at else None,
        "finished": job.finished_at.isoformat() if job.finished_at else None,
        "last": next(reversed(queue.log(job)), "") if job.state is JobState.RUNNING else "",
    }
