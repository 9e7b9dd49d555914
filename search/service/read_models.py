"""What the reads of a training, of the Why page, of comparisons and of inspections answer, as pydantic models."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from search.service.models import Answer, Drawn, Training


class Attempt(Answer):
    """An attempt at a training that went wrong."""

    kind: str
    trial: int
    epoch: int | None
    error: str
    trace: str
    at: str


class Chart(Answer):
    """Lines over epochs."""

    name: str
    epochs: list[int]
    lines: dict[str, list[float | None]]


class PointOfTraining(Drawn):
    """A point of a training."""

    on_front: bool


class TrainingWithCurves(Training):
    """A training: its settings, its curves, its points, what went wrong."""

    params: dict[str, str]
    seed: int
    epochs_done: int
    started: str
    charts: list[Chart]
    gates: dict[str, list[float | None]] = Field(description="open rates by epoch")
    points: list[PointOfTraining]
    stopped_at: int | None
    failures: list[Attempt]
    commands: list[tuple[str, str]] = Field(description="what for, and the command line")
    experiment_id: str | None


class Growth(Answer):
    """The front after each training that ended, in that order."""

    trainings: list[str]
    hypervolume: list[float] = Field(description="as a share of what the reference point bounds")
    points: list[int] = Field(description="on the front")
    words: str = Field(description="what the last ones added; empty where there are few")


class Why(Answer):
    """What the trainings show of each dimension."""

    words: str = Field(description="why there is nothing to see yet; empty where there is")
    trainings: list[dict[str, Any]]
    objectives: list[dict[str, Any]]
    dimensions: list[dict[str, Any]]
    importance: dict[str, Any] | None = Field(description="null until it is computed")
    computing: bool
    error: str


class FrontOfStudy(Answer):
    """A study's front."""

    study: str
    front: list[Drawn]


class Comparison(Answer):
    """Studies beside each other, and what `dynafront compare` says of each pair."""

    cost: str
    column: str
    label: str
    metric: str
    studies: list[FrontOfStudy]
    pairs: list[dict[str, Any]]


class Shot(Answer):
    """One image: its class, what was answered, what it cost."""

    label: str
    answer: str
    macs: float


class Share(Answer):
    """Images of about the same cost."""

    low: float
    high: float
    share: float
    accuracy: float


class Inspection(Answer):
    """What a point's network does with images."""

    state: Literal["none", "measuring", "failed", "ready"]
    error: str | None = None
    page: bool | None = Field(default=None, description="whether there is a page of it")
    images: int | None = None
    costs: list[Share] | None = None
    rows: dict[str, list[Shot]] | None = None


READ_ANSWERS: dict[str, type[Answer]] = {
    "/trial": TrainingWithCurves,
    "/growth": Growth,
    "/why": Why,
    "/compare": Comparison,
    "/inspected": Inspection,
}
