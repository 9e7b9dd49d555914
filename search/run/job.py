"""What a worker does and what it reports, as simple values that can be sent anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from storage.records import Kind, OperatingPoint
from trainers.data.spec import DataSpec
from trainers.epoch_result import EpochResult


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker needs to train one candidate: simple values only, so that it can be sent anywhere.

    `execution` is what was measured for its size: the number format where `precision` is "auto", the threads where
    `most_threads` is more than 1. That is 0 where the study file says `threads`.
    `epochs` are the planned ones, `rungs` those after which the network is measured to decide whether it goes on (the
    last is never one), `trained` those that the weights of an ended training have, where it was stopped, `reached`
    those that the tables have already of one that goes on.
    `apart`: in a process of its own, also where trainings share the driver's. `alone`: as one with no other.
    `features` is the folder for features of frozen trunks, `feature_bytes` what they may take there; none are kept
    without it. `answers`: keep what it answers to the validation images, for cascades.
    """

    kind: Kind
    number: int
    family: str
    params: Mapping[str, Any]
    epochs: int
    seed: int
    data: DataSpec
    checkpoints: str  # folder
    store: str | None = (
        None  # folder or URL where other machines find them too, see storage.kept_files
    )
    key: str  # of this trial's checkpoint
    device: str = "auto"
    precision: str = "auto"
    execution: Mapping[str, Any] | None = None
    compile: bool = False
    gpus: int = 1  # each with a process of its own; processes on the CPU where `device` is that
    threads: int | None = None  # None: torch's number
    most_threads: int = 0  # up to which they are measured
    micro_batch: int = 0  # images in memory at once; 0: as the recipe says
    gpu_memory: int | None = None  # bytes of a GPU that it may take
    gpu_bytes: int = 0  # that its process needs of one, where several trainings share it
    init_from: str | None = None
    teacher: str | None = None  # file of the baseline that a recipe with `distill` learns from
    metric: str = "accuracy"  # that operating points are measured by
    latency: str | None = None  # file of a table, see search.latency.table
    effort: Mapping[str, Any] = field(
        default_factory=dict
    )  # of measuring, see search.measure.effort
    rungs: tuple[int, ...] = ()
    trained: int | None = None
    reached: int = 0
    features: str | None = None
    feature_bytes: int = 0
    answers: bool = False
    apart: bool = False
    alone: bool = False

    @property
    def name(self) -> tuple[Kind, int]:
        return self.kind, self.number


@dataclass(frozen=True)
class Rung:
    """A training after an epoch that may be its last: a few operating points, what an Outcome says, seconds so far.

    `outlook` is compute at the end of the training over compute now, at least, as its objective foresees it; None
    when it cannot say yet.
    """

    epoch: int
    points: list[OperatingPoint]
    outlook: float | None
    parameters: int
    plain_macs: int
    execution: dict[str, Any]
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """A finished training: operating points (the first represents it), network size, execution, seconds.

    `inspection` is what the network does with images, see search.inspection.
    """

    points: list[OperatingPoint]
    parameters: int
    plain_macs: int
    execution: dict[str, Any]
    seconds: float
    inspection: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """A training that ended without a result; `crashed` when its process died rather than raised.

    `memory`: there was none left. `lost`: what ended its process ended more than that: its machine is gone.
    `unwritten`: there was no place for its checkpoint.
    """

    error: str
    epoch: int | None
    trace: str
    crashed: bool = False
    memory: bool = False
    lost: bool = False
    unwritten: bool = False


@dataclass(frozen=True)
class Notice:
    """Something that a person should know of a training that goes on, in one line."""

    text: str


@dataclass(frozen=True)
class Doing:
    """What a training does now that is no epoch, in a few words."""

    what: str


@dataclass(frozen=True)
class Waits:
    """Its next epoch is to be trained as one with those of others in its process, to whom alone this is said."""


Event = EpochResult | Rung | Outcome | Failure | Notice | Doing | Waits
