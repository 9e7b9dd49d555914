"""What the process of a job runs: the command, exactly as the command line does, with the server's settings."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from search.service.jobs import LOG, STOPPED, JobQueue, command_line, held, written_folder
from storage.errors import StorageError
from storage.mlflow_server import SETTINGS_VARIABLE
from storage.places import stored_place
from storage.records import JobRecord, JobState
from storage.settings import Settings
from storage.store import Store

BEAT_SECONDS = 15.0
INTERRUPTED = 130  # exit code after Ctrl-C
ANSWER, SETTINGS, STUDY_FILE = "answer.json", "settings.json", "study.yml"
ERROR = "Error: "  # before what a command complains of


def main() -> None:
    """Run the job whose number is the first argument, write down how it ended, start the next."""
    # before anything that is slow to import: cancelling is as gentle as Ctrl-C at any time
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = Settings.model_validate_json(os.environ[SETTINGS_VARIABLE])
    store = Store.open(settings.database_url)
    queue = JobQueue(store, settings)
    job = queue.job(int(sys.argv[1]))
    folder = queue.folder(job)
    with held(folder).acquire(timeout=10):
        if not store.jobs.begin(job.id, os.getpid()):
            return
        with _beating(store, job.id):
            code = _exit_code(job, settings, folder)
        # what stops it now would stop nothing but this note
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _note(store, job, code, folder, settings)
        queue.start_waiting()


def _exit_code(job: JobRecord, settings: Settings, folder: Path) -> int:
    """Run the command in this process; what it prints goes to the job's log, an answer in JSON to its own file."""
    print(f"$ {command_line(job.arguments)}", flush=True)
    try:
        with _settings_file(settings, folder) as file:
            from search.cli import main as command

            arguments = ["--config", str(file), *job.arguments]
            if "--json" not in job.arguments:
                return _code(command, arguments)
            answer = (folder / ANSWER).open("w", encoding="utf-8")
            with answer, redirect_stdout(answer):
                return _code(command, arguments)
    except KeyboardInterrupt:
        return INTERRUPTED


def _code(command: Any, arguments: list[str]) -> int:
    try:
        command(arguments, prog_name="dynafront")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


@contextmanager
def _settings_file(settings: Settings, folder: Path) -> Iterator[Path]:
    """The server's settings as a file for this user's eyes alone, as long as the command runs."""
    file = folder / SETTINGS
    file.touch(mode=0o600)
    file.write_text(settings.model_dump_json(), encoding="utf-8")
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)


@contextmanager
def _beating(store: Store, job: int) -> Iterator[None]:
    """Show every few seconds that this process lives."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_SECONDS):
            try:
                store.jobs.beat(job)
            except StorageError as error:
                print(f"the job could not say that it lives: {error}", flush=True)

    thread = threading.Thread(target=beat, name="beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _note(store: Store, job: JobRecord, code: int, folder: Path, settings: Settings) -> None:
    if code == INTERRUPTED or (code and (folder / STOPPED).exists()):
        store.jobs.finish(job.id, JobState.CANCELLED)
    elif code:
        store.jobs.finish(job.id, JobState.FAILED, error=_complaint(folder, code))
    else:
        store.jobs.finish(job.id, JobState.DONE, result=_result(store, job, folder, settings))


def _complaint(folder: Path, code: int) -> str:
    """What the command said was wrong: its last line that begins as complaints do."""
    lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
    return said[-1] if said else f"it ended with code {code}: {next(reversed(lines), 'no word')}"


def _result(store: Store, job: JobRecord, folder: Path, settings: Settings) -> dict[str, Any]:
    """What came out, as far as a page asks for it."""
    if (out := written_folder(job)) is not None:
        where = stored_place(
            Path(out), settings.folder
        )  # another point may be exported at the same time
        return {"export": max(one.id for one in store.exports(job.study) if one.folder == where)}
    if job.kind == "check":
        return dict(json.loads((folder / ANSWER).read_text(encoding="utf-8")))
    if job.kind == "init":
        return {"text": (folder / STUDY_FILE).read_text(encoding="utf-8")}
    return {}


if __name__ == "__main__":
    main()
