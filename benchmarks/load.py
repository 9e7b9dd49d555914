"""Large studies: what commands take at thousands of trials, and how many workers one driver keeps busy.

A study of made-up trials, 30 operating points each, is written into the tables. Then

- commands: `status` and `front` (medians of 5 runs) and `sync` (20 trials that MLflow has not seen yet, and the front)
  as processes: CPU seconds, seconds, and the peak of their memory;
- pages: the CPU seconds of each REST read in one process, the first and a later one, and its memory;
- the driver: CPU milliseconds of each of its parts a trial, with trainings that take no time, and its memory;
- workers, by simulation of that cost: the share of their time that W workers train, by the length of their trials;
- and that share measured, with so many trainings that sleep for a second: how it is on this machine, whose cores the
  driver shares with the processes beside it.

    python benchmarks/load.py                                        # 1,000 and 5,000 trials, an hour on two cores
    python benchmarks/load.py --trials 5000 --only commands
    python benchmarks/load.py --only driver --slots 64 --driven 1000 --mlflow
    python benchmarks/load.py --postgres postgresql+psycopg://ME@HOST/EMPTY    # an empty database

On a busy machine only CPU seconds mean something, and they too are up to twice what they are on a quiet one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from flask import Flask

from benchmarks.load_driver import driven, kept_busy, resident_mb, utilisation
from benchmarks.made_up import fill, made_up_study
from search.service.routes import API, blueprint
from storage.records import Kind
from storage.settings import Settings
from storage.store import Store

STUDY = "load"
READ = 5  # times that a command which only reads is run
UNSEEN = 20  # trials that sync brings to MLflow
COMMANDS = {
    "status": ["status", STUDY],
    "front": ["front", STUDY],
    "front --format json": ["front", STUDY, "--format", "json"],
    "sync": ["sync", STUDY],
}
READS = ("studies", "study", "points", "trials")
WORKERS = (8, 64, 250, 1000)
LENGTHS = (1, 10, 60, 600)  # seconds of a trial
SLEPT = 1.0  # seconds of a trial where that share is measured
PARTS = ("commands", "pages", "driver")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--slots", type=int, default=64, help="trainings that run at once")
    parser.add_argument("--driven", type=int, default=1000, help="trials that the driver drives")
    parser.add_argument("--mlflow", action="store_true", help="the driver's with MLflow")
    parser.add_argument("--postgres", metavar="URL", help="tables there instead of in SQLite")
    parser.add_argument("--folder", type=Path, help="where studies are kept, or are taken from")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found: dict[str, Any] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    found["load_before"] = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        root = args.folder or Path(scratch)
        for trials in args.trials if {"commands", "pages"} & {*args.only} else ():
            found[f"{trials} trials"] = of_study(root, trials, args)
        if "driver" in args.only:
            found["driver"] = one = driven(
                root / "driven", args.driven, args.slots, url=args.postgres, mlflow=args.mlflow
            )
            found["workers busy"] = simulated(one["cpu_ms_a_trial"] / 1000)
            busy = kept_busy(root / "busy", args.slots, SLEPT, url=args.postgres)
            found["workers busy, measured"] = {f"{args.slots} workers, {SLEPT:g} s": busy}
    print(json.dumps(found, indent=1) if args.json else as_text(found))


def of_study(root: Path, trials: int, args: argparse.Namespace) -> dict[str, Any]:
    """What commands and pages take of a study with so many trials."""
    folder = large_study(root / f"trials-{trials}", trials, args.postgres)
    found: dict[str, Any] = {}
    if "commands" in args.only:
        command(COMMANDS["status"], folder)  # which compiles what all of them import
        found |= {name: in_the_middle(words, folder) for name, words in COMMANDS.items()}
    if "pages" in args.only:
        found |= reads(folder)
    return found


def large_study(folder: Path, trials: int, url: str | None) -> Path:
    """A folder with settings, and the study; made where it is not there.

    MLflow knows the study, and the last trials alone are to be brought there: the others have no run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    database = url or f"sqlite:///{folder / 'data' / 'dynafront.db'}"
    settings = {"storage": {"folder": str(folder / "data"), "database": database}}
    (folder / "mlflow.yml").write_text(json.dumps(settings))  # JSON is YAML
    (folder / "data").mkdir(exist_ok=True)
    store = Store.open(database)
    known = store.find_study(STUDY)
    if known is not None and len(store.trials(STUDY, results=False)) == trials:
        return folder
    if known is not None:  # of another size, in a database for all sizes
        store.delete_study(STUDY)
    spec = made_up_study(store, STUDY, trials, epochs=5)
    command(["sync", STUDY], folder)  # a study that MLflow has never seen is brought there whole
    fill(store, spec, trials, stored_epochs=5)
    for number in range(trials - UNSEEN):
        store.set_run(STUDY, Kind.SEARCH, number, None, published=True)
    return folder


def in_the_middle(words: list[str], folder: Path) -> dict[str, float]:
    """The medians over several runs of a command that only reads; of one that changes what it reads, its one run."""
    runs = [command(words, folder) for _ in range(1 if words[0] == "sync" else READ)]
    return {name: median(run[name] for run in runs) for name in runs[0]}


def command(words: list[str], folder: Path) -> dict[str, float]:
    """CPU seconds, seconds and peak of the memory in MB of a command, and of all processes that it starts."""
    # a process between, whose children are this command alone
    program = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)\n"
    )
    own = [sys.executable, "-m", "dynafront", *words]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": str(folder / "pycache")}
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program, *own],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    wall = time.perf_counter() - begin
    cpu, memory = map(float, done.stdout.split())
    return {"cpu_seconds": cpu, "seconds": wall, "peak_mb": memory}


def reads(folder: Path) -> dict[str, Any]:
    """CPU seconds of the reads of pages, each the first time and once more, and the memory that they leave."""
    settings = Settings.model_validate(json.loads((folder / "mlflow.yml").read_text()))
    app = Flask("load")
    app.register_blueprint(blueprint(Store.open(settings.database_url), settings))
    client, before, found = app.test_client(), resident_mb(), dict[str, Any]()
    for path in READS:
        taken = []
        for _ in range(2):
            begin = time.process_time()
            answer = client.get(f"{API}/{path}?study={STUDY}")
            assert answer.status_code == 200, answer.text
            taken.append(time.process_time() - begin)
        found[f"page {path}"] = {"first_cpu_seconds": taken[0], "again_cpu_seconds": taken[1]}
    return found | {"pages": {"more_mb": resident_mb() - before}}


def simulated(driver_seconds: float) -> dict[str, Any]:
    """The share of their time that workers train, by their number and the length of trials; and the least length."""
    return {
        f"{workers} workers": {
            f"{length} s": utilisation(workers, length, driver_seconds) for length in LENGTHS
        }
        | {"seconds for 95 %": 0.95 * workers * driver_seconds}
        for workers in WORKERS
    }


def as_text(found: dict[str, Any], indent: str = "") -> str:
    """Nested numbers, a line each."""
    lines = []
    for name, value in found.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}", as_text(value, indent + "  ")]
        else:
            shown = f"{value:,.3g}" if isinstance(value, float) else value
            lines.append(f"{indent}{name:<32} {shown}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
