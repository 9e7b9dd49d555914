"""The tables of studies: a few columns to query by, JSON for the rest.

They may share a database with Optuna's tables: the names differ, and so does the table of the version.
They are plain tables, without classes for their rows: every command imports this, and those take a fifth of a second.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

VERSION_TABLE = "dynafront_alembic_version"
REVISION = "0009"  # of the newest migration
NAME = 200  # characters of the name of a study or a device
SIZE = 1000  # characters of a description of networks of one size

# names every constraint, so that a later migration can find it
METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)
TIME = DateTime(timezone=True)


def _value(name: str, kind: Any, **more: Any) -> Column[Any]:
    """A column that always holds something."""
    return Column(name, kind, nullable=False, **more)


def _number() -> Column[Any]:
    """The number of a row, which the database gives it."""
    return Column("id", Integer, primary_key=True)


def _of_study(**more: Any) -> Column[Any]:
    """The study that a row goes with."""
    key = ForeignKey("dynafront_study.name", ondelete="CASCADE")
    return Column("study", String(NAME), key, nullable=False, **more)


def _of_trial(**more: Any) -> Column[Any]:
    """The trial that a row goes with."""
    key = ForeignKey("dynafront_trial.id", ondelete="CASCADE")
    return Column("trial_id", Integer, key, nullable=False, **more)


def _of_point() -> Column[Any]:
    """The point that a row goes with; each has one row at most."""
    key = ForeignKey("dynafront_point.id", ondelete="CASCADE")
    return Column("point_id", Integer, key, primary_key=True, autoincrement=False)


STUDIES = Table(
    "dynafront_study",
    METADATA,
    Column("name", String(NAME), primary_key=True),
    _value("spec", JSON),
    _value("text", Text),
    _value("reference", JSON),
    _value("seconds_spent", Double),
    _value("created_at", TIME),
    Column("experiment_id", Text),
    Column("run_id", Text),
    Column("owner", Text),
    Column("lease_until", Double),  # seconds since 1970
)

# what tells a study's images from changed ones; studies from before it was kept have no row
STUDY_DATA = Table(
    "dynafront_data",
    METADATA,
    _of_study(primary_key=True),
    _value("data", JSON),
)

TRIALS = Table(
    "dynafront_trial",
    METADATA,
    _number(),
    _of_study(),
    _value("kind", String(20)),
    _value("number", Integer),
    _value("state", String(20)),
    _value("family", Text),
    _value("params", JSON),
    _value("seed", BigInteger),
    _value("epochs", Integer),
    _value("started_at", TIME),
    Column("finished_at", TIME),
    _value("seconds", Double),
    _value("result", JSON),
    Column("error", Text),
    Column("of_trial", Integer),
    Column("run_id", Text),
    _value("published", Boolean),
    UniqueConstraint("study", "kind", "number"),
)

EPOCHS = Table(
    "dynafront_epoch",
    METADATA,
    _of_trial(primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    _value("metrics", JSON),
    _value("gate_rates", JSON),
)

# what a trial showed at an epoch where it may have been stopped; ids ascend in the order of reporting
RUNGS = Table(
    "dynafront_rung",
    METADATA,
    _number(),
    _of_trial(),
    _value("epoch", Integer),
    _value("data", JSON),
    UniqueConstraint("trial_id", "epoch"),
)

# the index holds what fronts compare: rows are large, and a study may have hundreds of thousands
POINTS = Table(
    "dynafront_point",
    METADATA,
    _number(),
    _of_trial(),
    _value("knobs", JSON),
    _value("accuracy", Double),
    _value("accuracy_low", Double),
    _value("accuracy_high", Double),
    _value("macs_mean", Double),
    _value("macs_p95", Double),
    _value("macs_max", Double),
    _value("parameters", BigInteger),
    _value("chosen", Boolean),
    _value("extra", JSON),
    Index(
        "ix_dynafront_point_values",
        *("trial_id", "accuracy", "macs_mean", "macs_p95", "parameters"),
    ),
)

# which validation images a point answers rightly, eight a byte; points from before it was kept have no row
ANSWERS = Table(
    "dynafront_answers",
    METADATA,
    _of_point(),
    _value("right", LargeBinary),
)

# what a point took as a whole network on the machine of the study's latency table; others have no row
TIMINGS = Table(
    "dynafront_timing",
    METADATA,
    _of_point(),
    _value("measured_ms", Double),
    _value("static_ms", Double),
)

# attempts that went wrong; a trial that is tried again keeps them all
FAILURES = Table(
    "dynafront_failure",
    METADATA,
    _number(),
    _of_trial(index=True),
    Column("epoch", Integer),
    _value("error", Text),
    _value("trace", Text),
    _value("at", TIME),
)

EXPORTS = Table(
    "dynafront_export",
    METADATA,
    _number(),
    _of_study(index=True),
    Column("point", Integer),
    _value("pick", Text),
    _value("folder", Text),
    Column("model_uri", Text),
    _value("report", JSON),
    _value("created_at", TIME),
)

# starts of trainings that have not ended, and the last epoch that was stored then
ATTEMPTS = Table(
    "dynafront_attempt",
    METADATA,
    _number(),
    _of_trial(index=True),
    _value("epoch", Integer),
    # its driver saw its process end; all others ended together with their driver or machine, or go on
    _value("died", Boolean, server_default=false()),
)

# parameters of trials that are still to come, found together with those of an earlier one
SUGGESTIONS = Table(
    "dynafront_suggestion",
    METADATA,
    _of_study(primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _value("params", JSON),
)

# the number format in which networks of a size train, as it was measured once for the study on a device
FORMATS = Table(
    "dynafront_format",
    METADATA,
    _number(),
    _of_study(),
    _value("device", String(NAME)),
    _value("size", String(SIZE)),
    _value("execution", JSON),
    UniqueConstraint("study", "device", "size"),
)

# number formats that took a process down; none is tried again on its device at its size, in any study
FORMAT_CRASHES = Table(
    "dynafront_format_crash",
    METADATA,
    _number(),
    _value("device", String(NAME), index=True),
    _value("size", String(SIZE)),
    _value("execution", JSON),
    _value("at", TIME),
)

# what was asked for from a page: commands that run in processes of their own; they outlive their studies
JOBS = Table(
    "dynafront_job",
    METADATA,
    _number(),
    _value("kind", String(20)),
    _value("study", String(NAME), index=True),
    _value("arguments", JSON),
    _value("state", String(20), index=True),
    _value("host", String(NAME)),
    Column("pid", Integer),
    _value("folder", Text),
    _value("result", JSON),
    Column("error", Text),
    _value("created_at", TIME),
    Column("started_at", TIME),
    Column("seen_at", Double),  # seconds since 1970
    Column("finished_at", TIME),
)
