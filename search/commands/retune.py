"""Choosing an exported model's thresholds again: the new folder, and what is said of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from search.export.export import Save, check_folder, saving, write_files
from search.export.extras import OPTIONAL
from search.export.folder import ONNX, PT2, THRESHOLDS, WEIGHTS
from search.export.model import load_exported
from search.export.remote_folder import folder_to_fill, put_folder
from search.export.retune import candidates, few_of, held_out, metric_of, read_labelled, within
from search.objectives import macs_text
from spaces.contract.cascades import CASCADE
from spaces.deploy.thresholds import is_exit
from trainers.metrics import METRICS


def retune(
    folder: Path,
    images: Path,
    place: Path | str,
    *,
    max_macs: float | None,
    force: bool,
    say: Callable[[str], None],
) -> list[str]:
    """Write the model with thresholds chosen on these images to a folder or URL; returns what came of it in lines.

    The exported point becomes the most accurate one of at most `max_macs` an image, else of at most what it took on
    validation. Raises ValueError.
    """
    with folder_to_fill(place, force) as out:
        check_folder(out, force)
        description = _chosen_again(folder, images, max_macs, say)
        _write(folder, out, description)
        put_folder(out, place)
    label = METRICS[description["report"]["metric"]].label
    return _lines(place, description["retuned"], len(description["points"]), label)


def _chosen_again(
    folder: Path, images: Path, max_macs: float | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """The description of the model at its new thresholds."""
    model = load_exported(folder)
    if model.description["family"] == CASCADE:
        raise ValueError(f"{folder}: is a cascade; only the thresholds of one network are retuned")
    if not model.net.dynamic:
        raise ValueError(f"{folder}: is static; no threshold decides anything")
    say(f"reading {images}")
    own, other = read_labelled(model, images).halves()
    say(f"choosing on {len(own)} images")
    description = model.description
    metric = metric_of(model)
    before = held_out(model, other, list(model.net.thresholds.values()), metric)
    front = candidates(model, own, description["points"], metric)
    budget = max_macs or description["report"]["validation"]["macs_mean"]
    best = within(front, budget)
    found = few_of(front, best)
    chosen = found.index(best)
    say(f"measuring on {len(other)} other images")
    rows = [held_out(model, other, one.thresholds, metric) for one in found]
    points = [
        {
            "number": number,
            "id": None,
            "chosen": number == chosen + 1,
            "thresholds": one.thresholds,
            "validation": {"accuracy": one.accuracy, "macs_mean": one.macs},
            "test": row,
        }
        for number, (one, row) in enumerate(zip(found, rows, strict=True), 1)
    ]
    description["points"] = points
    description["retuned"] = {
        "chosen_on": len(own),
        "measured_on": len(other),
        "max_macs": budget,
        "before": before,
        "after": rows[chosen],
    }
    _set_thresholds(description, found[chosen].thresholds)
    return description


def _set_thresholds(description: dict[str, Any], values: list[float]) -> None:
    """Put the values into what the network is rebuilt from."""
    named = dict(zip(description[THRESHOLDS], values, strict=True))
    description[THRESHOLDS] = named
    network = description["network"]
    if "taus" in network:
        network["taus"] |= named
        return
    knobs = network["knobs"]
    exits = {name: value for name, value in named.items() if is_exit(name)}
    if exits:
        knobs["exit_thresholds"] = list(exits.values())
    gates = {name: value for name, value in named.items() if not is_exit(name)}
    if gates:
        own = knobs["tau"] if isinstance(knobs["tau"], dict) else {}
        knobs["tau"] = own | gates


def _write(folder: Path, out: Path, description: dict[str, Any]) -> None:
    models: dict[str, Save] = {ONNX: saving(_with_thresholds(folder / ONNX, description))}
    for name in OPTIONAL:
        if name == PT2 and (folder / name).is_file():  # which is given thresholds with every call
            models[name] = partial(shutil.copy, folder / name)
        elif (folder / name).is_file():
            models[name] = saving(_with_thresholds(folder / name, description))
    write_files(out, description, models, partial(shutil.copy, folder / WEIGHTS))


def _with_thresholds(file: Path, description: dict[str, Any]) -> onnx.ModelProto:
    model = onnx.load(file)
    values = np.array(list(description[THRESHOLDS].values()), np.float64)
    for initializer in model.graph.initializer:
        if initializer.name == THRESHOLDS:
            initializer.CopyFrom(numpy_helper.from_array(values, THRESHOLDS))
    return model


def _lines(place: Path | str, retuned: dict[str, Any], points: int, label: str) -> list[str]:
    return [
        f"{place}: thresholds chosen on {retuned['chosen_on']} images, "
        f"for at most {macs_text(retuned['max_macs'])} MACs an image",
        f"  on {retuned['measured_on']} other images: {label}, with its 95 % interval",
        f"  before    {_measured(retuned['before'])}",
        f"  after     {_measured(retuned['after'])}",
        f"  points    {points} in the file: {place}/README.md lists them",
    ]


def _measured(found: dict[str, Any]) -> str:
    interval = f"{found['accuracy_low']:.1%} to {found['accuracy_high']:.1%}"
    return f"{found['accuracy']:.2%} ({interval}) at {macs_text(found['macs_mean'])} MACs"
