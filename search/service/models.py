"""What the REST interface answers, as pydantic models: the OpenAPI document is made from them, and tests hold both.

Answers are not validated while they are sent: they are made from our own tables, and a poll of a large study is fast.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """Nothing but the fields that are named here."""

    model_config = ConfigDict(extra="forbid")


class Error(Answer):
    """What is wrong, in one line."""

    error: str


class Trials(Answer):
    """How many trainings there are."""

    budget: int = Field(description="trials in the study file")
    by_state: dict[str, int]
    static: int = Field(description="baselines that are trained")


class FrontSize(Answer):
    """The front in two numbers."""

    points: int
    hypervolume: float


class UnderWay(Answer):
    """A training that is not over."""

    trial: int
    kind: str
    epoch: int = Field(description="finished epochs")
    epochs: int


class ExportedAs(Answer):
    """A model that was exported."""

    pick: str
    folder: str
    model: str | None = Field(description="its address in MLflow's registry")


class Failure(Answer):
    """A trial that failed, and why."""

    trial: int
    error: str | None


class Status(Answer):
    """How far a study is: what `dynafront status NAME --json` prints."""

    study: str
    state: str
    trials: Trials
    seconds: float = Field(description="spent")
    eta_seconds: float | None = Field(description="left, about")
    front: FrontSize
    running: list[UnderWay]
    interrupted: list[UnderWay]
    exports: list[ExportedAs]
    failures: list[Failure]


class Card(Status):
    """A study, and a small front."""

    best_accuracy: float | None
    small: list[tuple[float, float]] = Field(description="cost and accuracy")
    created_at: str


class Studies(Answer):
    """All studies, the newest first."""

    studies: list[Card]


class Study(Status):
    """One study: title, axes, file, and where it is in MLflow."""

    title: str
    cost: str = Field(description="the cost that pictures show first")
    axes: dict[str, str] = Field(description="costs and their labels")
    columns: dict[str, str] = Field(description="costs and the field of a point that has them")
    majority: float | None = Field(description="accuracy of always answering the largest class")
    budget: dict[str, float] = Field(
        description="the highest costs that the study's file has as `region`, by the field of points that has them"
    )
    experiment_id: str | None
    run_id: str | None
    file: str = Field(description="the study file, YAML")


class Drawn(Answer):
    """An operating point as it is drawn."""

    id: int
    name: str
    kind: str
    trial: int
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    macs_mean: float | None
    macs_p95: float | None
    macs_max: float | None
    parameters: int
    latency_ms: float | None = Field(
        description="of one image, where the point was timed or exported"
    )
    latency_mean: float | None = Field(description="ms, where the study has a latency table")
    latency_p95: float | None
    network: str
    knobs: str


class Others(Answer):
    """Many points with little said of each, a list for each value."""

    id: list[int]
    name: list[str]
    accuracy: list[float]
    macs_mean: list[float]
    macs_p95: list[float]
    parameters: list[int]
    latency_ms: list[float | None]
    latency_mean: list[float | None] = Field([], description="where the study has a latency table")
    latency_p95: list[float | None] = []


class OnFront(Drawn):
    """A point of the front, and how it stands beside the static networks."""

    standing: str


class Points(Answer):
    """The front, the baselines, and the other points, thinned."""

    front: list[OnFront]
    baselines: list[Drawn]
    others: Others
    left_out: int = Field(description="points that are not among the others")
    efficient: int | None = Field(description="the id of the efficient point")


class Point(Drawn):
    """One point, its training's whole curve, and the baseline of equal cost."""

    training: str
    words: list[str] = Field(description="what the point is, in plain words")
    params: dict[str, str]
    curve: list[Drawn]
    experiment_id: str | None
    run_id: str | None = Field(description="of its training, in MLflow")
    exits: list[float] = Field(description="shares of the images that leave at each exit")
    exit_names: list[str] = Field(description="what these exits are called")
    beside: Drawn | None
    standing: str
    export: str = Field(description="the command that exports it")


class Words(Answer):
    """The answer to a budget, in words."""

    point: int
    words: str


class Training(Answer):
    """A training."""

    name: str
    kind: str
    number: int
    state: str
    network: str
    point: int | None = Field(description="the id of its most accurate point")
    knobs: str
    accuracy: float | None = Field(description="of its most accurate point")
    macs_mean: float | None
    epochs: int
    seconds: float
    on_front: bool
    error: str | None
    run_id: str | None


class Trainings(Answer):
    """All trainings of a study."""

    trials: list[Training]


class User(Answer):
    """Who asks. Without users there is no name, and everyone may change something."""

    name: str | None
    admin: bool


class Table(Answer):
    """A table of points."""

    columns: list[str]
    rows: list[dict[str, Any]]


class Network(Answer):
    """What was trained."""

    kind: Literal["search", "static", "finalist", "cascade"]
    trial: int
    family: str
    params: dict[str, Any]
    run_id: str | None


class Packed(Answer):
    """Operating points as rows; the first column is a place among the trainings."""

    trainings: list[Network]
    columns: list[str]
    rows: list[list[Any]]


class Picture(Answer):
    """What a picture of a front is drawn from."""

    points: Packed
    front: Packed
    baselines: Packed
    hypervolume: float
    cost: str
    majority: float | None
    budget: dict[str, float | None] = Field(
        description="bounds that the study's file has as `region`"
    )


class Best(Answer):
    """The point that was picked."""

    point: Packed


ANSWERS: dict[str, type[Answer]] = {
    "/studies": Studies,
    "/study": Study,
    "/points": Points,
    "/point": Point,
    "/answer": Words,
    "/trials": Trainings,
    "/user": User,
    "/front": Table,
    "/picture": Picture,
    "/best": Best,
}
