"""What the store hands out: plain, frozen values that outlive every database session. All times are UTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What a training is for; the values are stored."""

    SEARCH = "search"  # a trial of the search
    BASELINE = "static"  # the static network of a size, without gates and exits
    FINALIST = "finalist"  # a trial of the front, trained again from another seed
    CASCADE = "cascade"  # no training of its own: trained networks one after another


class State(StrEnum):
    """How far a training is; the values are stored."""

    RUNNING = "running"
    COMPLETE = "complete"
    STOPPED = "stopped"  # early, with the operating points that it had
    FAILED = "failed"


class JobState(StrEnum):
    """How far a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


LATENCIES = ("latency_mean", "latency_p95", "latency_max")
TIMED, TIMED_STATIC = "latency_measured", "latency_static"  # of a point that was timed as a whole
TRAININGS = {
    Kind.SEARCH: "trial",
    Kind.BASELINE: "baseline",
    Kind.FINALIST: "finalist",
    Kind.CASCADE: "cascade",
}


def rates_of(stored: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, ...]]:
    """Open rates of gates as networks take them."""
    return {gate: tuple(units) for gate, units in stored.items()}


def training_text(kind: Kind, number: int) -> str:
    """A training in words: "trial 3", "baseline 0"; a study's cascades have one record, and no number."""
    if kind == Kind.CASCADE:
        return TRAININGS[kind]
    return f"{TRAININGS[kind]} {number}"


@dataclass(frozen=True)
class StudyRecord:
    """A study: its checked file as `spec`, the file itself as `text`; `lease_until` in seconds since 1970.

    `lease_left`: seconds that were left of the lease when this was read, by the clock that gave it.
    """

    name: str
    spec: dict[str, Any]
    text: str
    reference: dict[str, Any]
    seconds_spent: float
    created_at: datetime
    experiment_id: str | None
    run_id: str | None
    owner: str | None
    lease_until: float | None
    lease_left: float | None = None


@dataclass(frozen=True)
class TrialRecord:
    """A training: `epochs` are the planned ones, `of_trial` the trial that this one repeats.

    The `result` of a stopped one says after which epoch, as `stopped_at`; its points were measured then.
    """

    study: str
    kind: Kind
    number: int
    state: State
    family: str
    params: dict[str, Any]
    seed: int
    epochs: int
    started_at: datetime
    finished_at: datetime | None
    seconds: float
    result: dict[str, Any]
    error: str | None
    of_trial: int | None
    run_id: str | None
    published: bool


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of a training: its number from 1, measures by name, open rate of every gate by name."""

    epoch: int
    metrics: dict[str, float]
    gate_rates: dict[str, float]


@dataclass(frozen=True)
class RungRecord:
    """What a trial showed after an epoch at which trials are compared."""

    trial: int
    epoch: int
    data: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """What a trained network does at one setting of its run-time knobs, measured over validation images.

    `accuracy` is the value in [0, 1] of the study's metric with its 95 % interval, `macs_*` are multiply-accumulates
    per image, gates included.
    `chosen`: the setting that the network was trained for. `extra`: open rates of gates, shares of exits, and the like.
    `right`: what is answered to each validation image, in the order of the split, as the metric packs it: for top-1
    which are answered rightly, eight a byte. None where that was not kept, or is not asked for.
    """

    knobs: dict[str, Any]
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macs_mean: float
    macs_p95: float
    macs_max: float
    parameters: int
    chosen: bool = False
    extra: dict[str, Any] = field(default_factory=dict)
    right: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def rates(self) -> dict[str, tuple[float, ...]]:
        """The gates' open rates that it was measured with, by gate."""
        return rates_of(self.extra["rates"])

    @property
    def latencies(self) -> dict[str, float]:
        """Milliseconds an image, where the study has a table of times: mean, 95th percentile and maximum by the table.

        Where the whole network was timed, also what that took on average, and the static network beside it.
        """
        names = (*LATENCIES, TIMED, TIMED_STATIC)
        return {name: self.extra[name] for name in names if name in self.extra}

    @property
    def metric(self) -> str:
        """By which metric its accuracy was measured, as study files call it."""
        return str(self.extra.get("metric", "accuracy"))

    @property
    def top1(self) -> float:
        """The share of images that are answered rightly, whatever the metric."""
        return float(self.extra.get("top1", self.accuracy))

    @property
    def top5(self) -> float | None:
        """The share of images whose label is among the five likeliest; None with fewer than six classes."""
        return self.extra.get("top5")


@dataclass(frozen=True, kw_only=True)
class PointRecord(OperatingPoint):
    """A stored operating point, with its training; `run_id` is the MLflow run of that training."""

    trial: int  # the training's number
    kind: Kind
    family: str
    params: dict[str, Any]
    run_id: str | None = None
    id: int | None = None

    @property
    def training(self) -> tuple[Kind, int]:
        """Which training it is a setting of."""
        return self.kind, self.trial

    @property
    def name(self) -> str:
        """That training in words, where there is little room."""
        return str(self.trial) if self.kind == Kind.SEARCH else training_text(self.kind, self.trial)


def trainings_of(point: PointRecord) -> list[tuple[Kind, int]]:
    """The trainings whose networks a point runs: its own, or those of a cascade's members."""
    members = point.knobs.get("members") if point.kind == Kind.CASCADE else None
    if members is None:
        return [point.training]
    return [(Kind(one["kind"]), one["trial"]) for one in members]


@dataclass(frozen=True)
class FailureRecord:
    """An attempt that went wrong: where (`epoch` None: before the first), the reason, the traceback."""

    kind: Kind
    trial: int
    epoch: int | None
    error: str
    trace: str
    at: datetime


@dataclass(frozen=True)
class ExportRecord:
    """An exported model: the point it came from, how that was picked, where it lies, what was measured."""

    id: int
    study: str
    point: int | None
    pick: str
    folder: str
    model_uri: str | None
    report: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True)
class JobRecord:
    """A command that was asked for from a page: the arguments of `dynafront`, where it runs, and how it ended.

    `folder` holds its log and files, as `stored_place` says it. `seen_at` is when its process last showed that it
    lives, in seconds since 1970; `error` is one line.
    """

    id: int
    kind: str
    study: str
    arguments: list[str]
    state: JobState
    host: str
    pid: int | None
    folder: str
    result: dict[str, Any]
    error: str | None
    created_at: datetime
    started_at: datetime | None
    seen_at: float | None
    finished_at: datetime | None
