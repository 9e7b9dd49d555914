"""Studies, trials, epochs, operating points, failures and exports."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _required(name: str, kind: type | sa.types.TypeEngine) -> sa.Column:
    return sa.Column(name, kind, nullable=False)


def _optional(name: str, kind: type | sa.types.TypeEngine) -> sa.Column:
    return sa.Column(name, kind, nullable=True)


def _belongs(table: str, column: str, to: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [to], name=f"fk_{table}_{column}", ondelete="CASCADE")


def upgrade() -> None:
    _study()
    _trial()
    _epoch()
    _point()
    _failure()
    _export()


def _study() -> None:
    op.create_table(
        "dynafront_study",
        _required("name", sa.String(200)),
        _required("spec", sa.JSON()),
        _required("text", sa.Text()),
        _required("reference", sa.JSON()),
        _required("seconds_spent", sa.Double()),
        _required("created_at", sa.DateTime(timezone=True)),
        _optional("experiment_id", sa.Text()),
        _optional("run_id", sa.Text()),
        _optional("owner", sa.Text()),
        _optional("lease_until", sa.Double()),
        sa.PrimaryKeyConstraint("name", name="pk_dynafront_study"),
    )


def _trial() -> None:
    op.create_table(
        "dynafront_trial",
        _required("id", sa.Integer()),
        _required("study", sa.String(200)),
        _required("kind", sa.String(20)),
        _required("number", sa.Integer()),
        _required("state", sa.String(20)),
        _required("family", sa.Text()),
        _required("params", sa.JSON()),
        _required("seed", sa.BigInteger()),
        _required("epochs", sa.Integer()),
        _required("started_at", sa.DateTime(timezone=True)),
        _optional("finished_at", sa.DateTime(timezone=True)),
        _required("seconds", sa.Double()),
        _required("result", sa.JSON()),
        _optional("error", sa.Text()),
        _optional("of_trial", sa.Integer()),
        _optional("run_id", sa.Text()),
        _required("published", sa.Boolean()),
        _belongs("dynafront_trial", "study", "dynafront_study.name"),
        sa.PrimaryKeyConstraint("id", name="pk_dynafront_trial"),
        sa.UniqueConstraint("study", "kind", "number", name="uq_dynafront_trial_study"),
    )


def _epoch() -> None:
    op.create_table(
        "dynafront_epoch",
        _required("trial_id", sa.Integer()),
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        _required("metrics", sa.JSON()),
        _required("gate_rates", sa.JSON()),
        _belongs("dynafront_epoch", "trial_id", "dynafront_trial.id"),
        sa.PrimaryKeyConstraint("trial_id", "epoch", name="pk_dynafront_epoch"),
    )


def _point() -> None:
    measures = ("accuracy", "accuracy_low", "accuracy_high", "macs_mean", "macs_p95", "macs_max")
    op.create_table(
        "dynafront_point",
        _required("id", sa.Integer()),
        _required("trial_id", sa.Integer()),
        _required("knobs", sa.JSON()),
        *(_required(measure, sa.Double()) for measure in measures),
        _required("parameters", sa.BigInteger()),
        _required("chosen", sa.Boolean()),
        _required("extra", sa.JSON()),
        _belongs("dynafront_point", "trial_id", "dynafront_trial.id"),
        sa.PrimaryKeyConstraint("id", name="pk_dynafront_point"),
    )
    op.create_index("ix_dynafront_point_trial_id", "dynafront_point", ["trial_id"])


def _failure() -> None:
    op.create_table(
        "dynafront_failure",
        _required("id", sa.Integer()),
        _required("trial_id", sa.Integer()),
        _optional("epoch", sa.Integer()),
        _required("error", sa.Text()),
        _required("trace", sa.Text()),
        _required("at", sa.DateTime(timezone=True)),
        _belongs("dynafront_failure", "trial_id", "dynafront_trial.id"),
        sa.PrimaryKeyConstraint("id", name="pk_dynafront_failure"),
    )
    op.create_index("ix_dynafront_failure_trial_id", "dynafront_failure", ["trial_id"])


def _export() -> None:
    op.create_table(
        "dynafront_export",
        _required("id", sa.Integer()),
        _required("study", sa.String(200)),
        _optional("point", sa.Integer()),
        _required("pick", sa.Text()),
        _required("folder", sa.Text()),
        _optional("model_uri", sa.Text()),
        _required("report", sa.JSON()),
        _required("created_at", sa.DateTime(timezone=True)),
        _belongs("dynafront_export", "study", "dynafront_study.name"),
        sa.PrimaryKeyConstraint("id", name="pk_dynafront_export"),
    )
    op.create_index("ix_dynafront_export_study", "dynafront_export", ["study"])
