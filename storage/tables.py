"""The tables of studies: a few columns to query by, JSON for the rest.

They may share a database with Optuna's tables: the names differ, and so does the table of the version.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Double,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

VERSION_TABLE = "dynafront_alembic_version"
REVISION = "0009"  # of the newest migration
NAME = 200  # characters of the name of a study or a device
SIZE = 1000  # characters of a description of networks of one size


class Table(DeclarativeBase):
    """Names every constraint, so that a later migration can find it."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ix": "ix_%(table_name)s_%(column_0_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        dict[str, Any]: JSON,
        datetime: DateTime(timezone=True),
        float: Double,
        str: Text,
    }


class Study(Table):
    __tablename__ = "dynafront_study"

    name: Mapped[str] = mapped_column(String(NAME), primary_key=True)
    spec: Mapped[dict[str, Any]]
    text: Mapped[str]
    reference: Mapped[dict[str, Any]]
    seconds_spent: Mapped[float]
    created_at: Mapped[datetime]
    experiment_id: Mapped[str | None]
    run_id: Mapped[str | None]
    owner: Mapped[str | None]
    lease_until: Mapped[float | None]  # seconds since 1970


class StudyData(Table):
    """What tells a study's images from changed ones; studies from before it was kept have no row."""

    __tablename__ = "dynafront_data"

    study: Mapped[str] = mapped_column(
        String(NAME), ForeignKey("dynafront_study.name", ondelete="CASCADE"), primary_key=True
    )
    data: Mapped[dict[str, Any]]


class Trial(Table):
    __tablename__ = "dynafront_trial"
    __table_args__ = (UniqueConstraint("study", "kind", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study: Mapped[str] = mapped_column(
        String(NAME), ForeignKey("dynafront_study.name", ondelete="CASCADE")
    )
    kind: Mapped[str] = mapped_column(String(20))
    number: Mapped[int]
    state: Mapped[str] = mapped_column(String(20))
    family: Mapped[str]
    params: Mapped[dict[str, Any]]
    seed: Mapped[int] = mapped_column(BigInteger)
    epochs: Mapped[int]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    seconds: Mapped[float]
    result: Mapped[dict[str, Any]]
    error: Mapped[str | None]
    of_trial: Mapped[int | None]
    run_id: Mapped[str | None]
    published: Mapped[bool]


class Epoch(Table):
    __tablename__ = "dynafront_epoch"

    trial_id: Mapped[int] = mapped_column(
        ForeignKey("dynafront_trial.id", ondelete="CASCADE"), primary_key=True
    )
    epoch: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    metrics: Mapped[dict[str, Any]]
    gate_rates: Mapped[dict[str, Any]]


class Rung(Table):
    """What a trial showed at an epoch where it may have been stopped; ids ascend in the order of reporting."""

    __tablename__ = "dynafront_rung"
    __table_args__ = (UniqueConstraint("trial_id", "epoch"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    trial_id: Mapped[int] = mapped_column(ForeignKey("dynafront_trial.id", ondelete="CASCADE"))
    epoch: Mapped[int]
    data: Mapped[dict[str, Any]]


class Point(Table):
    __tablename__ = "dynafront_point"
    # with what fronts compare: rows are large, and a study may have hundreds of thousands
    __table_args__ = (
        Index(
            "ix_dynafront_point_values",
            *("trial_id", "accuracy", "macs_mean", "macs_p95", "parameters"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    trial_id: Mapped[int] = mapped_column(ForeignKey("dynafront_trial.id", ondelete="CASCADE"))
    knobs: Mapped[dict[str, Any]]
    accuracy: Mapped[float]
    accuracy_low: Mapped[float]
    accuracy_high: Mapped[float]
    macs_mean: Mapped[float]
    macs_p95: Mapped[float]
    macs_max: Mapped[float]
    parameters: Mapped[int] = mapped_column(BigInteger)
    chosen: Mapped[bool]
    extra: Mapped[dict[str, Any]]


class Answers(Table):
    """Which validation images a point answers rightly, eight a byte; points from before it was kept have no row."""

    __tablename__ = "dynafront_answers"

    point_id: Mapped[int] = mapped_column(
        ForeignKey("dynafront_point.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    right: Mapped[bytes]


class Timing(Table):
    """What a point took as a whole network on the machine of the study's latency table; others have no row."""

    __tablename__ = "dynafront_timing"

    point_id: Mapped[int] = mapped_column(
        ForeignKey("dynafront_point.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    measured_ms: Mapped[float]
    static_ms: Mapped[float]


class Failure(Table):
    """One attempt that went wrong; a trial that is tried again keeps them all."""

    __tablename__ = "dynafront_failure"

    id: Mapped[int] = mapped_column(primary_key=True)
    trial_id: Mapped[int] = mapped_column(
        ForeignKey("dynafront_trial.id", ondelete="CASCADE"), index=True
    )
    epoch: Mapped[int | None]
    error: Mapped[str]
    trace: Mapped[str]
    at: Mapped[datetime]


class Export(Table):
    __tablename__ = "dynafront_export"
    __table_args__ = (Index(None, "study"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study: Mapped[str] = mapped_column(
        String(NAME), ForeignKey("dynafront_study.name", ondelete="CASCADE")
    )
    point: Mapped[int | None]
    pick: Mapped[str]
    folder: Mapped[str]
    model_uri: Mapped[str | None]
    report: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class Attempt(Table):
    """A start of a training that has not ended, and the last epoch that was stored then.

    `died`: its driver saw its process end. All others ended together with their driver or machine, or go on.
    """

    __tablename__ = "dynafront_attempt"

    id: Mapped[int] = mapped_column(primary_key=True)
    trial_id: Mapped[int] = mapped_column(
        ForeignKey("dynafront_trial.id", ondelete="CASCADE"), index=True
    )
    epoch: Mapped[int]
    died: Mapped[bool] = mapped_column(server_default=false())


class Format(Table):
    """The number format in which networks of a size train, as it was measured once for the study on a device."""

    __tablename__ = "dynafront_format"
    __table_args__ = (UniqueConstraint("study", "device", "size"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study: Mapped[str] = mapped_column(
        String(NAME), ForeignKey("dynafront_study.name", ondelete="CASCADE")
    )
    device: Mapped[str] = mapped_column(String(NAME))
    size: Mapped[str] = mapped_column(String(SIZE))
    execution: Mapped[dict[str, Any]]


class FormatCrash(Table):
    """A number format that took a process down; it is not tried again on this device at this size, in any study."""

    __tablename__ = "dynafront_format_crash"

    id: Mapped[int] = mapped_column(primary_key=True)
    device: Mapped[str] = mapped_column(String(NAME), index=True)
    size: Mapped[str] = mapped_column(String(SIZE))
    execution: Mapped[dict[str, Any]]
    at: Mapped[datetime]


class Job(Table):
    """What was asked for from a page: a command that runs in a process of its own. It outlives its study."""

    __tablename__ = "dynafront_job"
    __table_args__ = (Index(None, "state"), Index(None, "study"))

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    study: Mapped[str] = mapped_column(String(NAME))
    arguments: Mapped[list[str]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(20))
    host: Mapped[str] = mapped_column(String(NAME))
    pid: Mapped[int | None]
    folder: Mapped[str]
    result: Mapped[dict[str, Any]]
    error: Mapped[str | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    seen_at: Mapped[float | None]  # seconds since 1970
    finished_at: Mapped[datetime | None]
