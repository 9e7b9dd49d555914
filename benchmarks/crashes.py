"""Kill searches at random moments, go on with the same command, and compare what is left with an uninterrupted search.

    python benchmarks/crashes.py --kills 200
    python benchmarks/crashes.py --kills 50 --database postgresql+psycopg://USER@HOST/EMPTY --checkpoints FOLDER_OR_URL

Each study is searched in a folder of its own, by one command. Its driver, a worker, both at once, or a process beside
them is killed (SIGKILL) at a random moment, again and again, until the search has ended by itself; then all tables must
say what those of an uninterrupted search say, and no process may be left. One line a study; exit code 1 where anything
differs.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.kills import killed_until_done, kinds_here
from benchmarks.launcher import FILE, LOG, Launcher, database_of

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
MOST_KILLS = 8  # of a study


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

    draw, done, studies, bad = random.Random(arguments.seed), Counter[str](), 0, 0
    parent = Path(tempfile.mkdtemp(prefix="crashes-"))
    with Launcher() as launcher:
        whole = folder_of("whole")
        began = time.monotonic()
        if code := launcher.search(whole, "--workers", "0").ended(600):
            raise RuntimeError(f"exit code {code}: {(whole / LOG).read_text()}")
        seconds, expected = time.monotonic() - began, known(whole)
        print(f"uninterrupted: {seconds:.1f} s, {len(expected['points'])} points")
        while done.total() < arguments.kills:
            forgotten(arguments.database)
            workers = draw.choice(WORKERS)
            most = min(MOST_KILLS, arguments.kills - done.total())
            kinds = draw.choices(kinds_here(workers), k=most)
            began = time.monotonic()
            search = launcher.search(
                folder_of(f"killed-{studies}"), "-v", "--workers", str(workers)
            )
            count = killed_until_done(search, kinds, draw, seconds / 4)
            if not count:
                # it was over before its moment: other programs had slowed the first one down
                seconds = min(seconds, time.monotonic() - began)
            found = differences(search.folder, expected)
            done, studies, bad = done + count, studies + 1, bad + bool(found)
            print(
                f"study {studies}, {workers} workers: {as_text(count)}; "
                f"{'; '.join(found) or 'nothing differs'}",
                flush=True,
            )
            if not found:
                shutil.rmtree(search.folder)
    print(f"{as_text(done)}; {studies} studies, {bad} differ{f', see {parent}' if bad else ''}")
    if not bad:
        shutil.rmtree(parent)
    return 1 if bad else 0


def as_text(done: Counter[str]) -> str:
    each = ", ".join(f"{count} {kind}" for kind, count in sorted(done.items()))
    return f"{done.total()} kills" + (f" ({each})" if each else "")


if __name__ == "__main__":
    sys.exit(main())
