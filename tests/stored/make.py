"""Makes study.tar.xz and expected.json beside this file: two small studies, one of them killed in mid-training.

    python tests/stored/make.py          # about five minutes, with the code that the import path finds

What lies here was made by the code of commit d4d2d87. Make it again only with code whose studies are to stay readable.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DATA = "dynafront-data"
ENDED, INTERRUPTED, TRIALS = (
    12,
    3,
    15,
)  # trials before it is killed, the epochs that the killed one has, and in all
NOWHERE = "file:///nowhere"  # stands for the folder in MLflow's tables, which keep absolute paths

STORED = """\
study: stored
data: digits
families: [gated_resnet, gated_features]
space:
  gated_resnet: {{backbone: resnet8, width: [0.5, 0.25], batch: 64}}
  gated_features: {{hidden: [16, 32], batch: 64, augment: false}}
budget: {{trials: {trials}, epochs: 15}}
limits: {{parameters: 15k}}
train_limit: 256
validation: 0.25
run: {{device: cpu, precision: float32, threads: 1}}
"""
TWINS = """\
study: twins
data: digits
families: [gated_features]
space:
  gated_features: {{hidden: 16, loss: target_free, gamma_channel: 0.1, weight_decay: 0.01, adamw_lr: 0.003,
    gate_decay: [false, true], batch: 64, augment: false}}
sampler: random
warm_start: false
early_stopping: false
budget: {{trials: {trials}, epochs: 4}}
train_limit: 256
validation: 0.25
run: {{device: cpu, precision: float32, threads: 1}}
"""
REPEATED = 4  # trials of `twins`, of which at least two are equal
UNDER_WAY = """
    select t.number from dynafront_trial t join dynafront_epoch e on e.trial_id = t.id
    where t.study = 'stored' and t.kind = 'search' and t.state = 'running' and t.number >= ?
    group by t.id having count(*) = ?
"""
CANDIDATES = """
    select number, state, family, params, seed, epochs, of_trial from dynafront_trial
    where study = ? and kind = 'search' order by number
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _make(folder)
        expected = {study: _seen(folder, study) for study in ("stored", "twins")}
        expected["continued"] = _continued(folder)
        _pack(folder)
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def _make(folder: Path) -> None:
    """Both studies, and a finalist of the first, which then goes on and is killed."""
    _write(folder, "twins", TWINS, REPEATED)
    _dynafront(folder, "search", "twins.yml")
    _write(folder, "stored", STORED, ENDED)
    _dynafront(folder, "search", "stored.yml", "--finalists", "1")
    _write(folder, "stored", STORED, TRIALS)
    _kill(folder)
    _anonymous(folder)


def _write(folder: Path, study: str, text: str, trials: int) -> None:
    (folder / f"{study}.yml").write_text(text.format(trials=trials))


def _dynafront(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "search.cli", *arguments]
    return subprocess.run(
        command, cwd=folder, env=_environment(), check=True, capture_output=True, text=True
    ).stdout


def _environment() -> Mapping[str, str]:
    path = os.environ.get("PYTHONPATH", str(HERE.parents[1]))
    return os.environ | {
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
        "USER": "somebody",
        "LOGNAME": "somebody",
    }


def _kill(folder: Path) -> None:
    """Search on, and kill the process while a trial is in mid-training."""
    command = [sys.executable, "-m", "search.cli", "search", "stored.yml"]
    process = subprocess.Popen(command, cwd=folder, env=_environment(), stdout=subprocess.DEVNULL)
    with sqlite3.connect(folder / DATA / "dynafront.db", timeout=20) as tables:
        while process.poll() is None:
            if tables.execute(UNDER_WAY, (ENDED, INTERRUPTED)).fetchone():
                process.send_signal(signal.SIGKILL)
                process.wait()
                break
            time.sleep(0.001)
        if not tables.execute(UNDER_WAY, (ENDED, INTERRUPTED)).fetchone():
            sys.exit("no trial was killed in time: try again")
    tables.close()


def _anonymous(folder: Path) -> None:
    """Leave out the machine's name and paths; what was in the databases' journals is written to them."""
    here = f"file://{folder.resolve()}"
    with sqlite3.connect(folder / DATA / "dynafront.db") as tables:
        tables.execute(
            "update dynafront_study set owner = 'elsewhere:1:0', lease_until = 0 where owner is not null"
        )
    tables.close()
    with sqlite3.connect(folder / DATA / "mlflow.db") as runs:
        runs.execute(
            "update experiments set artifact_location = replace(artifact_location, ?, ?)",
            (here, NOWHERE),
        )
        runs.execute(
            "update experiments set artifact_location = 'mlruns/0' where experiment_id = 0"
        )
        runs.execute("update runs set artifact_uri = replace(artifact_uri, ?, ?)", (here, NOWHERE))
        runs.execute("update runs set user_id = 'somebody'")
        runs.execute("update tags set value = 'somebody' where key = 'mlflow.user'")
    runs.close()
    for name in ("dynafront.db", "mlflow.db"):
        whole = sqlite3.connect(folder / DATA / name, isolation_level=None)
        whole.execute("pragma wal_checkpoint(truncate)")
        whole.execute("vacuum")
        whole.close()


def _seen(folder: Path, study: str) -> dict[str, Any]:
    """What the commands show of a study."""
    asked = {"front": ("--format", "json"), "status": ("--json",), "finalists": ("--json",)}
    return {
        name: json.loads(_dynafront(folder, name, study, *options))
        for name, options in asked.items()
    }


def _trials(folder: Path, study: str) -> list[dict[str, Any]]:
    tables = sqlite3.connect(folder / DATA / "dynafront.db")
    tables.row_factory = sqlite3.Row
    found = [
        {**row, "params": json.loads(row["params"])}
        for row in map(dict, tables.execute(CANDIDATES, (study,)))
    ]
    tables.close()
    return found


def _continued(folder: Path) -> dict[str, Any]:
    """What the same code makes of a copy that it searches on, by one trial more than the files say."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "copy"
        shutil.copytree(folder, copy)
        shutil.rmtree(copy / DATA / "mlartifacts")
        (copy / DATA / "mlflow.db").unlink()
        for study, text, trials in (("stored", STORED, TRIALS), ("twins", TWINS, REPEATED)):
            _write(copy, study, text, trials + 1)
            _dynafront(copy, "search", f"{study}.yml")
        names = ("stored", "twins")
        return {study: {"trials": _trials(copy, study), **_seen(copy, study)} for study in names}


def _pack(folder: Path) -> None:
    """The study files and their data, but for locks, MLflow's pictures and the checkpoints before the last."""

    def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if member.name.endswith((".lock", "/mlartifacts", ".before.safetensors")):
            return None
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(HERE / "study.tar.xz", "w:xz") as archive:
        for name in ("stored.yml", "twins.yml", DATA):
            archive.add(folder / name, name, filter=kept)


if __name__ == "__main__":
    main()
