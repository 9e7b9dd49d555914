"""What is to be done next in a study, as plain values: a scheduler decides, a driver does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from search.schedule.history import Params
from spaces.contract.family import Candidate
from spaces.contract.space import Value
from storage.records import Kind, OperatingPoint, PointRecord


@dataclass(frozen=True)
class Trial:
    """One training: of what, from which seed. `source` is the trial of the front that a finalist trains again."""

    kind: Kind
    number: int
    candidate: Candidate
    seed: int
    source: int | None = None

    @property
    def name(self) -> tuple[Kind, int]:
        return self.kind, self.number


@dataclass(frozen=True)
class Keep:
    """These suggestions were found together: trial `first` and those after it try them. Write them down."""

    first: int
    params: Sequence[Params]


@dataclass(frozen=True)
class Record:
    """The trial was suggested: write it down before anything else happens to it.

    `starts`: it is started next.
    """

    trial: Trial
    starts: bool = False


@dataclass(frozen=True)
class Reject:
    """What was suggested is infeasible: write it down as failed."""

    number: int
    family: str
    values: dict[str, Value]
    epochs: int
    seed: int
    reason: str


@dataclass(frozen=True)
class Start:
    """Train it; after the epochs in `rungs` it asks whether to go on."""

    trial: Trial
    rungs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Resume:
    """A trial that was stopped after this epoch goes on."""

    trial: Trial
    epoch: int
    rungs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Repeat:
    """The trial is equal to one that has ended: it takes that one's result."""

    number: int
    of: int


Decision = Keep | Record | Reject | Start | Resume | Repeat


@dataclass(frozen=True)
class Ended:
    """What the end of a training changed: its points that are on the front, and what repeats it."""

    joined: Sequence[PointRecord] = ()
    repeats: Sequence[Repeat] = ()


class Plan(Protocol):
    """Decides what a driver does from what is reported to it, in the order in which it happened."""

    def next(self) -> Decision | None:
        """What to do while a slot is free; None when there is nothing to do now."""
        ...

    def start(self, trial: Trial) -> Start:
        """How a trial whose process died is trained from here."""
        ...

    def ask_ahead(self) -> None:
        """Trials train: the next suggestion may be computed already."""
        ...

    def report(
        self, trial: Trial, epoch: int, points: Sequence[OperatingPoint], outlook: float | None
    ) -> bool:
        """Whether the trial goes on after a rung."""
        ...

    def ended(
        self, trial: Trial, points: Sequence[PointRecord], stopped_at: int | None = None
    ) -> Ended:
        """The training is over, or was stopped after an epoch; its points are stored."""
        ...

    def failed(self, trial: Trial) -> Sequence[int]:
        """The training has no result; returns the trials that can not be trained without it."""
        ...

    def close(self) -> None: ...

    @property
    def ready(self) -> bool:
        """Whether `next` answers at once, and waits for no suggestion that is being computed."""
        ...

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do but wait for what trains."""
        ...

    @property
    def baselines_left(self) -> int:
        """Baselines that are still to be trained."""
        ...

    @property
    def current_front(self) -> tuple[Sequence[PointRecord], float]:
        """The front now, and its hypervolume."""
        ...
