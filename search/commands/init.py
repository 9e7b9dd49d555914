"""A study file for somebody's images: what they are, what fits them, and the file, which is checked."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from rich.console import Console

from search.commands.first_look import look, source_of
from search.commands.plan import Networks, Plan, plan, reasons, sides_text
from search.commands.study_check import checked_study
from search.run.data import data_spec, load_data, task_of
from search.run.heartbeat import Steps
from search.run.speed import measured_speed
from search.schedule.sizes import shape_of
from search.spec import StudySpec, parse_study
from spaces.backbones.timm_weights import pretrained_arguments
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from storage.settings import Settings
from trainers.execution import Execution, best_device

PLAIN = re.compile(r"[\w./~$-]+(:[\w./~$-]+)?")  # what YAML reads as a text without quotes


def study_for(
    path: str, name: str | None, hours: float, settings: Settings, console: Console, where: str
) -> tuple[str, list[str]]:
    """(a study file's text, what was found and why it says what it says). Raises ValueError where no study can be."""
    with Steps(console) as step:
        source = source_of(path)
        step("looking at the images")
        found = look(source)
        step("timing a few training steps")
        chosen = plan(found, hours, _Speed(source, found.broken > 0), _has_weights)
        text = as_yaml(chosen, name or name_of(path))
        step("checking the file")
        spec = parse_study(text, where)
        checked_study(spec, settings, step)
    return text, reasons(chosen)


class _Speed:
    """Times the first networks that it is asked for; others are judged from their MACs beside those."""

    def __init__(self, source: str, skip_broken: bool) -> None:
        self._source, self._skip_broken = source, skip_broken
        self._seconds_a_mac = 0.0

    def __call__(self, networks: Networks, side: int, batch: int) -> float:
        wanted = data_spec(
            StudySpec(
                study="timing",
                data=self._source,
                families=(networks.family,),
                image_size=side,
                skip_broken=self._skip_broken,
            )
        )
        task = task_of(load_data(wanted))
        candidate = _largest(networks, batch)
        macs = shape_of(candidate.baseline(), task).macs
        if not self._seconds_a_mac:
            speed = measured_speed(candidate, task, wanted, Execution(device=best_device()))
            self._seconds_a_mac = speed.epoch / macs
        return self._seconds_a_mac * macs


def _has_weights(model: str) -> bool:
    """Whether a timm model's published weights are on this machine, or can be downloaded."""
    try:
        pretrained_arguments(model)
    except ValueError:
        return False
    return True


def _largest(networks: Networks, batch: int) -> Candidate:
    return Candidate.of(family(networks.family), {**networks.largest, "batch": batch}, 1)


def name_of(path: str) -> str:
    """A study's name for images: that of their folder."""
    last = Path(path.partition(":")[2] or path).expanduser().resolve().name
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", last).strip("-_")[:64]
    return name or "my-images"


def as_yaml(found: Plan, name: str) -> str:
    """The commented study file."""
    images, spaces = found.look, found.networks
    lines = [
        f"# Written by `dynafront init`. All keys: docs/study-file.md; sizes: `dynafront spaces {spaces.family}`.",
        *_row("study", _text(name), "the name that all commands take"),
        *_row("data", _text(images.source), "train images; test images are measured by export alone"),
        *_row("families", f"[{spaces.family}]", ""),
        *_row("image_size", sides_text(found), _side_comment(found)),
        *_row("resize", found.resize, "crop: the centre; pad: all, with borders; squash: all, squashed"),
        "",
        "space:",
        f"  {spaces.family}:",
        *(f"    {key}: {json.dumps(value).replace(chr(34), '')}" for key, value in spaces.space.items()),
        f"    batch: {found.batch}",
        "    augment: true            # false if a mirrored image means something else, as of letters",
        "",
        "budget:",
        *_row("  trials", found.trials, "in total; raise it later to go on"),
        *_row("  epochs", found.epochs, "of a baseline, and of a trial from random weights"),
        *_row("  warm_epochs", found.short, "of a trial that starts from a baseline"),
        *_row("  hours", f"{found.hours:g}", "the search ends after so long, over all its runs"),
        "",
        "objectives: [accuracy, macs]",
        *_row("validation", found.validation, "share of the training images to measure accuracy on"),
    ]  # fmt: skip
    if not images.has_test:
        lines += _row("test", 0.2, "share of the images that is left for export")
    if images.uneven:
        lines += _row("class_weights", "balanced", "small classes count as much as large ones")
    if images.broken:
        lines += _row(
            "skip_broken", "true", "images that cannot be decoded are left out and listed"
        )
    return "\n".join([*lines, "seed: 0", ""])


def _side_comment(found: Plan) -> str:
    if len(found.sides) > 1:
        return "every image becomes a square; its side in pixels is searched"
    return "every image becomes a square of so many pixels"


def _row(key: str, value: Any, comment: str) -> list[str]:
    said = f"{key}: {value}"
    return [f"{said:<28} # {comment}" if comment else said]


def _text(value: str) -> str:
    """A text as YAML has it, in quotes where it could be read as something else."""
    plain = PLAIN.fullmatch(value) and re.search(r"[A-Za-z]", value) and not _is_word(value)
    return value if plain else json.dumps(value, ensure_ascii=False)


def _is_word(value: str) -> bool:
    return value.lower() in ("true", "false", "null") or re.match(r"[-+.0-9]", value) is not None
