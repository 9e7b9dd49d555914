"""Units as files, with a script that times them on a machine that has nothing of ours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from search.latency import time_units
from search.latency.profile import WORDS
from spaces.contract.units import Unit
from spaces.deploy.unit_program import branch_program, empty_program, unit_program

SCRIPT, LIST = "time_units.py", "units.json"


def write_bundle(units: Iterable[Unit], folder: Path, batch: int) -> int:
    """Write an ONNX file a unit, their list and the script into the folder; returns how many units.

    Raises ValueError where the folder holds something else.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / LIST).exists():
        raise ValueError(f"{folder}: is not empty and holds no units; give --bundle another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.onnx"):  # of an earlier bundle
        file.unlink()
    words, wholes = dict(WORDS), {}
    for name, program in zip(WORDS, (empty_program(), branch_program()), strict=True):
        (folder / f"{name}.onnx").write_bytes(program.SerializeToString())
    for unit in units:
        (folder / f"{unit.key}.onnx").write_bytes(unit_program(unit).SerializeToString())
        words[unit.key] = unit.words
        if unit.parts:
            wholes[unit.key] = unit.parts
    listed = {"batch": batch, "units": words, "wholes": wholes}
    (folder / LIST).write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
    shutil.copyfile(time_units.__file__, folder / SCRIPT)
    return len(words) - len(WORDS)
