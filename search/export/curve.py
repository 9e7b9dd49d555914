"""The operating points that one exported file carries: those of a training that differ in thresholds alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from search.export.measures import Counts
from search.front.pareto import front
from search.objectives import Costs
from search.report.front_points import thinned
from spaces.contract.knobs import Knobs, Rates
from spaces.contract.net import DynamicNet
from spaces.deploy.generic import Deployed, common_end, settled
from spaces.deploy.ship import DeployedNet
from spaces.deploy.thresholds import Named, thresholds_at
from storage.records import LATENCIES, PointRecord
from trainers.metrics import Metric

LARGEST = 9  # points in a file; each is measured on all test images
THRESHOLDS = ("tau", "exit_thresholds")  # knobs that are given with each call
One = TypeVar("One")


@dataclass(frozen=True)
class Setting:
    """An operating point to be exported, and what validation said of it."""

    knobs: Knobs
    rates: Rates
    validation: Mapping[str, Any]
    id: int | None = None

    @property
    def measured(self) -> tuple[Knobs, Rates]:
        """The knobs, and the open rates that they were measured with."""
        return self.knobs, self.rates


@dataclass(frozen=True)
class Carried:
    """A setting as numbers for one network, and what it does on the test images."""

    setting: Setting
    thresholds: list[float]
    counts: Counts = field(default_factory=Counts)


def see(net: DeployedNet, settings: Sequence[Carried], pixels: Tensor, labels_B: Tensor) -> None:
    """Count what the network answers to these pixels (B, channels, H, W) at each of the settings."""
    given = [one.thresholds for one in settings]
    if isinstance(net, Deployed):
        found = net.run_at_each(pixels, given)
    else:
        found = [net.run(pixels, thresholds) for thresholds in given]
    for one, (logits_BC, macs_B) in zip(settings, found, strict=True):
        one.counts.add(logits_BC, labels_B, macs_B)


def setting_of(point: PointRecord) -> Setting:
    """A stored operating point as a setting to export."""
    return Setting(Knobs(**point.knobs), point.rates, validation_of(point), point.id)


def validation_of(point: PointRecord) -> dict[str, Any]:
    """What validation said of a point."""
    names = ("accuracy", "accuracy_low", "accuracy_high", "top1", "macs_mean", "macs_p95")
    validation = {name: getattr(point, name) for name in names}
    validation |= {name: point.extra[name] for name in LATENCIES if name in point.extra}
    if "selection_bias" in point.extra:
        validation["selection_bias"] = point.extra["selection_bias"]
    return validation


def siblings(point: PointRecord, points: Iterable[PointRecord], costs: Costs) -> list[PointRecord]:
    """Other points of the training that differ from this one in thresholds alone, and that none of them beats.

    Not those with other weights: with refreshed batch-norm statistics, pruned gates, layers left out. At most as many
    as a file carries, spread evenly from the cheapest to the most accurate.
    """
    if point.knobs.get("prune") is not None:
        return []
    alike = [
        p for p in points if p.training == point.training and _shape(p.knobs) == _shape(point.knobs)
    ]
    found = [p for p in front(alike, costs) if p.knobs != point.knobs]
    return thinned(found, LARGEST - 1)


def free_beside(net: DynamicNet, point: Setting, others: Sequence[Setting]) -> list[Setting]:
    """The others at whose thresholds the network of this point can be run as it is.

    The rest need gates to decide that the point settles for good, which takes time at every point, or parts of the
    network behind an exit at which all images of the point leave.
    """
    own, end = settled(net, [point.measured]), common_end([point.knobs])
    return [
        one
        for one in others
        if settled(net, [point.measured, one.measured]) == own
        and common_end([one.knobs, point.knobs]) == end
    ]


def carried(net: DeployedNet, settings: Sequence[Setting]) -> list[Carried]:
    """The settings as thresholds of this network."""
    named = net.thresholds
    return [Carried(one, thresholds_at(named, one.knobs)) for one in settings]


def points_listed(
    named: Named,
    chosen: Setting,
    test: Mapping[str, Any],
    others: Sequence[Carried],
    metric: Metric,
) -> list[dict[str, Any]]:
    """As model.json lists them, numbered from 1, the cheapest first; `test` is what the chosen one does there."""
    found = [_row(chosen, list(named.values()), test, chosen=True)]
    for one in others:
        measured = one.counts.accuracy_and_cost(metric)
        found.append(_row(one.setting, one.thresholds, measured, chosen=False))
    found.sort(key=lambda row: float(row["validation"]["macs_mean"]))
    return [{"number": number, **row} for number, row in enumerate(found, 1)]


def only_point(
    thresholds: list[float], validation: Mapping[str, Any], test: Mapping[str, Any]
) -> dict[str, Any]:
    """As model.json lists the one point of a file."""
    own = {"number": 1, "id": None, "chosen": True, "thresholds": thresholds}
    return own | {"validation": dict(validation), "test": dict(test)}


def _row(
    setting: Setting, thresholds: list[float], test: Mapping[str, Any], *, chosen: bool
) -> dict[str, Any]:
    return {
        "id": setting.id,
        "chosen": chosen,
        "thresholds": thresholds,
        "validation": dict(setting.validation),
        "test": dict(test),
    }


def _shape(knobs: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the weights and the graph depend on."""
    rest = {name: value for name, value in knobs.items() if name not in THRESHOLDS}
    return rest, len(knobs.get("exit_thresholds", ()))
