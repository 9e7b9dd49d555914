"""Kill searches at random moments, go on with the same command, and compare what is left with an uninterrupted search.

    python benchmarks/crashes.py --kills 200
    python benchmarks/crashes.py --kills 50 --database postgresql+psycopg://USER@HOST/EMPTY --checkpoints FOLDER_OR_URL

Each study is searched in a folder of its own. Its driver, or a worker, is killed (SIGKILL) at a random moment, again
and again, until the search has ended by itself; then all tables must say what those of an uninterrupted search say, and
no process may be left. One line a study; exit code 1 where anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from search.run.watch import kernel_kills

ROOT = Path(__file__).parents[1]
FILE, LOG = "study.yml", "log.txt"
STUDY = """\
study: killed
data: digits
families: [gated_resnet]
sampler: random
space:
  gated_resnet: {backbone: resnet8, width: 0.25, batch: 32}
budget: {trials: 3, epochs: 6, warm_epochs: 3}
train_limit: 256
cascades: false
run: {precision: float32, threads: 1}
"""
WORKERS = (0, 1, 2, 5)  # with five, another process logs to MLflow
# forks a search for each line that it reads, and waits for one where it is asked to
LAUNCHER = """
import json, os, sys, threading, time
import alembic.command, matplotlib.pyplot, mlflow.store.tracking.sqlalchemy_store
import search.commands.front, search.commands.search, search.report.front_page, search.run.finalists
import search.run.preloaded, storage.mlflow_log
from search.cli import main

STARTED_BY, LAUNCHER = os.getppid(), os.getpid()

def end_with_launcher():
    while os.getppid() == LAUNCHER:
        time.sleep(0.5)
    os._exit(1)

def search(folder, arguments, before):
    os.setsid()
    threading.Thread(target=end_with_launcher, daemon=True).start()
    os.chdir(folder)
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    exec(before, globals())
    try:
        main(arguments)
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code or 0)

for line in sys.stdin:
    asked = json.loads(line)
    if "folder" in asked:
        pid = os.fork() or search(**asked)
        print(pid, flush=True)
    else:
        found, until = 0, time.monotonic() + asked["seconds"]
        while not found and time.monotonic() < until and os.getppid() == STARTED_BY:
            time.sleep(0.02)
            found, status = os.waitpid(asked["pid"], os.WNOHANG)
        print(os.waitstatus_to_exitcode(status) if found else "null", flush=True)
"""


class Launcher:
    """Starts searches that need no time to import anything. Use as a context manager."""

    def __enter__(self) -> Launcher:
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"},
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def search(self, folder: Path, *flags: str, before: str = "") -> Search:
        """Start, or continue, the study in the folder; `before` is Python that its process runs first."""
        asked = {"folder": str(folder), "arguments": ["search", FILE, *flags], "before": before}
        return Search(self, self._ask(**asked), folder)

    def ended(self, pid: int, seconds: float) -> int | None:
        """The exit code of a search, negative after a signal; None while it goes on after so many seconds."""
        return self._ask(pid=pid, seconds=seconds)

    def _ask(self, **what: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(what), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


@dataclass(frozen=True)
class Search:
    """A search that was started: its driver's process."""

    launcher: Launcher
    pid: int
    folder: Path

    def ended(self, seconds: float) -> int | None:
        """Its exit code; None while it goes on after so many seconds."""
        return self.launcher.ended(self.pid, seconds)

    def kill(self) -> None:
        """Kill its driver, and wait until nothing of it is left."""
        os.kill(self.pid, signal.SIGKILL)
        self.ended(60)

    def kill_worker(self) -> bool:
        """Kill one of its workers, if there is one now, and if it can be told from one that had no memory."""
        if kernel_kills() is None:
            return False
        with suppress(psutil.Error):
            for server in psutil.Process(self.pid).children():
                for worker in server.children():
                    worker.kill()
                    return True
        return False


def new_folder(parent: Path, name: str, text: str = STUDY, **storage: str) -> Path:
    """A folder with the study file and a database of MLflow's, which takes seconds to make; the first call makes it.

    `storage` goes into a settings file there: `database`, `checkpoints`.
    """
    from storage.mlflow_client import client
    from storage.settings import Settings

    made, folder = parent / "made", parent / name
    if not made.exists():
        client(Settings.model_validate({"storage": {"folder": made}}))
    shutil.copytree(made, folder / "dynafront-data")
    (folder / FILE).write_text(text)
    if storage:
        (folder / "mlflow.yml").write_text(json.dumps({"storage": storage}))
    return folder


def database_of(folder: Path) -> str:
    """The database of its studies."""
    file = folder / "mlflow.yml"
    storage = json.loads(file.read_text())["storage"] if file.exists() else {}
    return str(storage.get("database", f"sqlite:///{folder / 'dynafront-data' / 'dynafront.db'}"))


def left_behind(folder: Path) -> list[int]:
    """Processes that work in the folder; those of a killed driver may take seconds to see that it is gone."""
    until = time.monotonic() + 20
    while (found := _in(folder)) and time.monotonic() < until:
        time.sleep(0.1)
    return found


def _in(folder: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def known(folder: Path) -> dict[str, Any]:
    """What all tables say of the study, without what differs from one search to the next: times, ids."""
    from storage.store import Store

    store = Store.open(database_of(folder))
    trials = store.trials("killed")
    found: dict[str, Any] = {
        "trials": [
            (t.kind, t.number, t.state, t.params, t.seed, t.result.get("stopped_at"), t.error)
            for t in trials
        ],
        "epochs": {
            (t.kind, t.number): [e.epoch for e in store.epochs("killed", t.kind, t.number)]
            for t in trials
        },
        "points": sorted(
            (p.kind, p.trial, p.accuracy, p.macs_mean, p.macs_p95, repr(sorted(p.knobs.items())))
            for p in store.points("killed")
        ),
        "failures": [(f.kind, f.trial, f.error) for f in store.failures("killed")],
        "driver": store.study("killed").owner,
    }
    experiment = store.study("killed").experiment_id
    store.close()
    return found | {"optuna": _optuna(folder)} | _mlflow(folder, str(experiment))


def _optuna(folder: Path) -> list[Any]:
    import optuna

    storage = optuna.storages.RDBStorage(database_of(folder))
    study = optuna.load_study(study_name="killed", storage=storage)
    trials = [(t.number, t.state.name, t.values, t.params) for t in study.get_trials()]
    storage.remove_session()
    storage.engine.dispose()
    return trials


def _mlflow(folder: Path, experiment: str) -> dict[str, Any]:
    from mlflow import MlflowClient

    from storage.mlflow_points import LEFT, VIEW

    client = MlflowClient(f"sqlite:///{folder / 'dynafront-data' / 'mlflow.db'}")
    # a point that left the front keeps its run, and how many were ever on it depends on when the front was drawn
    runs = [r for r in client.search_runs([experiment]) if r.data.tags.get(VIEW) != LEFT]
    named = sorted((run.info.run_name, run.info.status) for run in runs)
    curves = {
        run.info.run_name: [
            one.step for one in client.get_metric_history(run.info.run_id, "val/accuracy")
        ]
        for run in runs
        if run.data.tags.get("automl.kind") in ("trial", "static")
    }
    return {"runs": named, "curves": curves}


def differences(folder: Path, expected: dict[str, Any]) -> list[str]:
    """What is not as in the uninterrupted search, a line each."""
    found = [f"process {pid} is left" for pid in left_behind(folder)]
    for name, value in known(folder).items():
        if value != expected[name]:
            found.append(f"{name}: {value} in place of {expected[name]}")
    return found


def killed_until_done(
    launcher: Launcher, folder: Path, draw: random.Random, seconds: float, most: int
) -> int:
    """Search with kills at random moments of the first `seconds`, `most` at most, to the end; returns how many.

    Raises RuntimeError where a search ends with an error.
    """
    kills = 0
    while True:
        search = launcher.search(folder, "--workers", str(draw.choice(WORKERS)))
        code = search.ended(draw.uniform(0.0, seconds) if kills < most else 600)
        if code is None and draw.random() < 0.3:
            kills += search.kill_worker()
            code = search.ended(draw.uniform(0.0, seconds))
        if code is None:
            kills += 1
            search.kill()
        elif code == 0:
            return kills
        else:
            raise RuntimeError((folder / LOG).read_text())


def forgotten(url: str | None) -> None:
    """Delete the study from a database that the next one shares."""
    from search.run.optuna_mirror import delete_mirror
    from storage.store import Store

    if url is None:
        return
    store = Store.open(url)
    if store.find_study("killed"):
        delete_mirror(url, "killed")
        store.delete_study("killed")
    store.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="How many, over all studies.")
    parser.add_argument("--seed", type=int, default=0, help="Of the moments and the victims.")
    parser.add_argument("--database", help="An empty PostgreSQL database. Default: SQLite files.")
    parser.add_argument("--checkpoints", help="A folder or URL where checkpoints are put, too.")
    arguments = parser.parse_args()
    database = {"database": arguments.database} if arguments.database else {}

    def folder_of(name: str) -> Path:
        store = arguments.checkpoints
        return new_folder(
            parent, name, **database, **({"checkpoints": f"{store}/{name}"} if store else {})
        )

    draw, kills, studies, bad = random.Random(arguments.seed), 0, 0, 0
    parent = Path(tempfile.mkdtemp(prefix="crashes-"))
    with Launcher() as launcher:
        whole = folder_of("whole")
        began = time.monotonic()
        if code := launcher.search(whole, "--workers", "0").ended(600):
            raise RuntimeError(f"exit code {code}: {(whole / LOG).read_text()}")
        seconds, expected = time.monotonic() - began, known(whole)
        print(f"uninterrupted: {seconds:.1f} s, {len(expected['points'])} points")
        while kills < arguments.kills:
            forgotten(arguments.database)
            folder = folder_of(f"killed-{studies}")
            began = time.monotonic()
            count = killed_until_done(launcher, folder, draw, seconds, arguments.kills - kills)
            if (
                not count
            ):  # it was over before its moment: other programs had slowed the first one down
                seconds = min(seconds, time.monotonic() - began)
            found = differences(folder, expected)
            kills, studies, bad = kills + count, studies + 1, bad + bool(found)
            print(
                f"study {studies}: {count} kills, {'; '.join(found) or 'nothing differs'}",
                flush=True,
            )
            if not found:
                shutil.rmtree(folder)
    print(f"{kills} kills in {studies} studies: {bad} differ{f', see {parent}' if bad else ''}")
    if not bad:
        shutil.rmtree(parent)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
