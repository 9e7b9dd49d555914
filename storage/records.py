"""What the store hands out: plain, frozen values that outlive every database session. All times are UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Kind = Literal["search", "static", "finalist"]
State = Literal["running", "complete", "stopped", "failed"]


@dataclass(frozen=True)
class StudyRecord:
    """A study: its checked file as `spec`, the file itself as `text`; `lease_until` in seconds since 1970."""

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
class PointRecord:
    """One operating point of a trained net; `macs_*` over validation images, `run_id` that of its trial."""

    id: int
    trial: int
    kind: Kind
    family: str
    params: dict[str, Any]
    knobs: dict[str, Any]
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macs_mean: float
    macs_p95: float
    macs_max: float
    parameters: int
    chosen: bool
    run_id: str | None
    extra: dict[str, Any]


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
