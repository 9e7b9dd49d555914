"""What a command costs before it does anything: CPU time, wall time, and which large libraries it imports.

A small study is trained and exported first. Then each command is started afresh, `--repeats` times. Shown are medians:
user and system time of the process, and its wall time. On a busy machine only the first means something. Python's
compiled files are kept in the folder and used, as on a user's machine; `--compile` measures starts without them.

    python benchmarks/startup.py                     # about a minute to train, then some seconds a command
    python benchmarks/startup.py --folder FOLDER     # keep what was trained there, or take it from there
    python benchmarks/startup.py --json

Seconds of wall time on two CPU cores, n = 3: --help 0.1, status 0.9, front and finalists 0.8, spaces and predict 0.3, a
mistake in a study file 0.5. tests/search/test_startup.py holds what each may import.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

LARGE = (
    "torch",
    "torchvision",
    "timm",
    "mlflow",
    "optuna",
    "sklearn",
    "scipy",
    "pandas",
    "pyarrow",
    "matplotlib",
    "onnx",
    "onnxruntime",
)
STUDY = """\
study: small
data: digits
families: [gated_resnet]
space: {gated_resnet: {backbone: resnet8, width: 0.25, batch: 32, gate: dependent}}
budget: {trials: 3, epochs: 2}
train_limit: 256
run: {precision: float32, threads: 1}
"""
MISTAKES = {
    "not YAML": "study: [",
    "unknown key": STUDY + "trials: 3\n",
    "unknown family": STUDY.replace("families: [gated_resnet]", "families: [gated_resnt]"),
    "beyond a dimension's range": STUDY.replace("batch: 32", "target: 7"),
    "folder that is not there": STUDY.replace("data: digits", "data: folder:nowhere"),
}
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
LISTED = (
    "import sys, search.cli\ntry: search.cli.main()\nfinally: print(*sys.modules, file=sys.stderr)"
)


def prepared(folder: Path) -> None:
    """A finished study, its exported model, an image and study files with mistakes, where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "small.yml").write_text(STUDY)
    if not (folder / "model" / "model.json").is_file():
        for words in (["search", "small.yml", "--ladder"], ["export", "small", "--out", "model"]):
            subprocess.run([sys.executable, "-m", "search.cli", *words], cwd=folder, check=True)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "image.png")
    for number, text in enumerate(MISTAKES.values()):
        (folder / f"mistake{number}.yml").write_text(text)


def commands() -> dict[str, list[str]]:
    """What is measured, by its name in the table."""
    found = {
        "--help": ["--help"],
        "search --help": ["search", "--help"],
        "status, all studies": ["status"],
        "status": ["status", "small"],
        "front": ["front", "small"],
        "front --format json": ["front", "small", "--format", "json"],
        "front of a mistyped name": ["front", "smal"],
        "finalists": ["finalists", "small"],
        "spaces": ["spaces", "gated_resnet"],
        "predict": ["predict", "model", "image.png"],
    }
    files = {f"search, {what}": ["search", f"mistake{i}.yml"] for i, what in enumerate(MISTAKES)}
    return found | files


def measured(words: Sequence[str], folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Medians of CPU and wall seconds of one command, and what it had imported when it ended."""
    compiled = {"PYTHONPYCACHEPREFIX": str(folder / "pycache")}
    environment = (
        os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} if options.compile else ENVIRONMENT | compiled
    )
    modules = set(started([sys.executable, "-c", LISTED, *words], folder, environment).split())
    cpu, wall = [], []
    for _ in range(options.repeats):
        before, began = processor_seconds(), time.perf_counter()
        started([sys.executable, "-m", "search.cli", *words], folder, environment)
        cpu.append(processor_seconds() - before)
        wall.append(time.perf_counter() - began)
    return {
        "cpu_seconds": statistics.median(cpu),
        "wall_seconds": statistics.median(wall),
        "modules": len(modules),
        "large": [name for name in LARGE if name in modules],
    }


def processor_seconds() -> float:
    """User and system time of all processes that this one started and that have ended."""
    spent = os.times()
    return spent.children_user + spent.children_system


def started(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> str:
    """What a command writes to its standard error, run to its end."""
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if "Traceback" in done.stderr and "SystemExit" not in done.stderr:
        raise RuntimeError(done.stderr)
    return done.stderr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        prepared(folder)
        found = {name: measured(words, folder, options) for name, words in commands().items()}
    if options.json:
        print(json.dumps({"repeats": options.repeats, "commands": found}, indent=2))
        return
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, n = {options.repeats}"
    )
    print(f"{'command':38} {'CPU s':>6} {'wall s':>7} {'modules':>8}  large libraries")
    for name, one in found.items():
        times = f"{one['cpu_seconds']:6.2f} {one['wall_seconds']:7.2f} {one['modules']:8}"
        print(f"{name:38} {times}  {', '.join(one['large'])}")


if __name__ == "__main__":
    main()
