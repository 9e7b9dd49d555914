"""What actions, jobs and exports answer, as pydantic models. What actions take is in `bodies`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from search.service.models import Answer


class Job(Answer):
    """A command that was asked for from a page."""

    id: int
    kind: str
    study: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    command: str = Field(description="what a person types for the same")
    error: str | None
    result: dict[str, Any]
    host: str
    created: str
    started: str | None
    finished: str | None
    last: str = Field(description="the last line of its log, while it runs")


class JobWithLog(Job):
    """A job, with the end of its log."""

    log: list[str]


class Jobs(Answer):
    """Jobs, the newest first."""

    jobs: list[Job]


class Started(Answer):
    """A job that was started, or waits."""

    job: Job
    command: str


class Stopped(Answer):
    """A search that is being stopped, and what a person does for the same."""

    stopped: Literal[True]
    command: str


class Mistake(Answer):
    """What is wrong with a study file, and where."""

    key: str | None
    line: int | None
    message: str


class Checked(Answer):
    """What is wrong with a study file, or what it says."""

    errors: list[Mistake]
    values: dict[str, Any] = Field(description="its keys, as far as it can be read")
    study: str | None
    known: bool | None = Field(default=None, description="whether there is such a study already")
    space: dict[str, dict[str, Any]] | None = Field(default=None, description="size by family")
    words: str | None = None


class Edited(Checked):
    """A study file with values changed, and checked."""

    text: str


class Export(Answer):
    """An exported model."""

    id: int
    study: str
    point: int | None
    pick: str
    folder: str = Field(description="on the server")
    model: str | None = Field(description="its address in MLflow's registry")
    created: str
    here: bool = Field(description="whether its files are still there")


class Exports(Answer):
    """Exported models, the newest first."""

    exports: list[Export]


class ExportWithCard(Export):
    """An exported model: what was measured, its card, how to use it."""

    rows: list[list[Any]]
    static: dict[str, Any] | None
    card: str = Field(description="Markdown")
    files: dict[str, int] = Field(description="bytes by name")
    uses: list[tuple[str, str]] = Field(description="where it is used, and what to type there")


class Family(Answer):
    """A family of networks that a study can search."""

    name: str
    doc: str


class Choices(Answer):
    """What a new study can be made of."""

    families: list[Family]
    data: list[str] = Field(description="known data sets")
    metrics: dict[str, str] = Field(description="what can be maximised: label by name")
    costs: dict[str, str] = Field(description="what can be minimised: label by name")
    folders: list[str] | None = Field(description="below which images may be named; null: anywhere")
    text: str = Field(description="a study file to begin with")


JOB_ANSWERS: dict[str, type[Answer]] = {
    "/choices": Choices,
    "/jobs": Jobs,
    "/job": JobWithLog,
    "/exports": Exports,
    "/export": ExportWithCard,
}
# what actions answer that start no job
ACTED: dict[str, type[Answer]] = {"/check": Checked, "/edit": Edited, "/stop": Stopped}
