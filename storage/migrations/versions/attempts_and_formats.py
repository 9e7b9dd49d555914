"""Starts of trainings that have not ended, the number format of each size, and formats that crashed."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _attempt()
    _format()
    _format_crash()


def _attempt() -> None:
    op.create_table(
        "dynafront_attempt",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("trial_id", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["trial_id"],
            ["dynafront_trial.id"],
            name="fk_dynafront_attempt_trial_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_dynafront_attempt"),
    )
    op.create_index("ix_dynafront_attempt_trial_id", "dynafront_attempt", ["trial_id"])


def _format() -> None:
    op.create_table(
        "dynafront_format",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study", sa.String(200), nullable=False),
        sa.Column("device", sa.String(200), nullable=False),
        sa.Column("size", sa.String(1000), nullable=False),
        sa.Column("execution", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study"],
            ["dynafront_study.name"],
            name="fk_dynafront_format_study",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_dynafront_format"),
        sa.UniqueConstraint("study", "device", "size", name="uq_dynafront_format_study"),
    )


def _format_crash() -> None:
    op.create_table(
        "dynafront_format_crash",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("device", sa.String(200), nullable=False),
        sa.Column("size", sa.String(1000), nullable=False),
        sa.Column("execution", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_dynafront_format_crash"),
    )
    op.create_index("ix_dynafront_format_crash_device", "dynafront_format_crash", ["device"])
