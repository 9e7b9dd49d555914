"""A study file for somebody's images: what they are, what fits them, and the file, which is checked."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
from rich.console import Console

from search.commands.first_look import look, source_of
from search.commands.plan import Plan, plan, reasons, sides_text
from search.commands.plan_networks import Networks, trained
from search.commands.side_check import sides_alike
from search.commands.study_check import checked_study
from search.run.data import data_spec, load_data, task_of
from search.run.heartbeat import Steps
from search.run.speed import measured_speed
from search.schedule.sizes import shape_of
from search.spec import StudySpec, parse_study
from spaces.backbones.timm_models import known
from spaces.backbones.timm_weights import pretrained_arguments
from spaces.contract.family import Candidate
from spaces.contract.registry import family
from spaces.contract.task import Task
from storage.settings import Settings
from trainers.execution import Execution, best_device

PLAIN = re.compile(r"[\w./~$-]+(:[\w./~$-]+)?")  # what YAML reads as a text without quotes


@dataclass(frozen=True)
class Wishes:
    """What somebody asks of a study: its name, hours, a timm model to start from, its weights, a budget of latency.

    Without a `name` it is that of the folder; without `weights` the model's published ones are loaded.
    """

    hours: float
    name: str | None = None
    backbone: str | None = None
    weights: str | None = None
    max_latency_ms: float | None = None

    def start(self) -> Networks | None:
        """The networks that were asked for, if any. Raises ValueError where timm has no such model."""
        if self.backbone is None:
            if self.weights is not None:
                raise ValueError(
                    "--weights needs --backbone: the timm model that the weights are of"
                )
            return None
        return trained(known(self.backbone), self.weights or "")


def study_for(
    path: str, wishes: Wishes, settings: Settings, console: Console, where: str
) -> tuple[str, list[str]]:
    """(a study file's text, what was found and why it says what it says). Raises ValueError where no study can be."""
    start = wishes.start()
    with Steps(console) as step:
        source = source_of(path)
        step("looking at the images")
        found = look(source)
        step("timing a few training steps")
        chosen = plan(found, wishes.hours, _Speed(source, found.broken > 0), _has_weights, start)
        chosen = replace(chosen, sides=useful_sides(chosen))
        name = wishes.name or name_of(path)
        text = as_yaml(chosen, name)
        step("checking the file")
        spec = parse_study(text, where)
        checked_study(spec, settings, step)
    if wishes.max_latency_ms is not None:  # only now: its table of times is not there yet
        text = as_yaml(chosen, name, wishes.max_latency_ms)
        parse_study(text, where)
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
            speed = measured_speed(
                candidate, task, wanted, Execution(device=best_device()), points=False
            )
            self._seconds_a_mac = speed.epoch / macs
        return self._seconds_a_mac * macs


def useful_sides(found: Plan) -> tuple[int, ...]:
    """The sides without those at which the networks cost about what they do at the next larger one."""
    channels, classes = 1 if found.look.gray else 3, len(found.look.counts)
    task = Task(channels=channels, height=found.side, width=found.side, classes=classes)
    own, values = family(found.networks.family), found.networks.largest
    wasted = {small for small, _ in sides_alike(own, values, found.sides, task)}
    return tuple(side for side in found.sides if side not in wasted)


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


def as_yaml(found: Plan, name: str, max_latency_ms: float | None = None) -> str:
    """The commented study file; with milliseconds of an image, latency is what is minimised."""
    images, spaces = found.look, found.networks
    lines = [
        f"# Written by `dynafront init`. All keys: docs/study-file.md; sizes: `dynafront spaces {spaces.family}`.",
        *_row("study", _text(name), "the name that all commands take"),
        *_row("data", _text(images.source), "train images; test images are measured by export alone"),
        *_row("families", f"[{spaces.family}]", ""),
        *_row("image_size", sides_text(found), _side_comment(found)),
        *_row("resize", found.resize, "crop: the centre; pad: all, with borders; squash: all, squashed"),
        *_as_published(spaces),
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
        *(_row("  warm_epochs", found.short, "of a trial that starts from a baseline") if found.short else ()),
        *_row("  hours", f"{found.hours:g}", "the search ends after so long, over all its runs"),
        "",
        *_objectives(name, max_latency_ms),
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


def _as_published(networks: Networks) -> list[str]:
    """Where weights come from a file, which; and how the published network was tested."""
    rows = []
    if networks.weights:
        rows += _row("init_from", _text(networks.weights), "trained weights, with timm's names")
    if networks.trained:
        published = timm.models.get_pretrained_cfg(networks.trained)
        if published is not None and published.interpolation == "bicubic":
            rows += _row("interpolation", "bicubic", "as its published weights were trained")
        if published is not None and published.crop_pct < 1:
            rows += _row(
                "crop_pct",
                f"{published.crop_pct:g}",
                "as they were tested: on the centre; training has all of an image",
            )
    return rows


def _objectives(name: str, max_latency_ms: float | None) -> list[str]:
    if max_latency_ms is None:
        return ["objectives: [accuracy, macs]"]
    return [
        *_row("objectives", "[accuracy, latency]", "of an image, on the machine of the table"),
        *_row("latency", f"{name}-latency.json", "written by `dynafront profile` of this file"),
        *_row("region", f"{{max_latency_ms: {max_latency_ms:g}}}", "slower points do not count"),
    ]


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
