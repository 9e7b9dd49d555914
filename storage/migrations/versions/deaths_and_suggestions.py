"""Which starts of a training ended by the death of its own process, unknown of older ones; suggestions to come."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "dynafront_attempt",
        sa.Column("died", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.create_table(
        "dynafront_suggestion",
        sa.Column("study", sa.String(200), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study"],
            ["dynafront_study.name"],
            name="fk_dynafront_suggestion_study",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("study", "number", name="pk_dynafront_suggestion"),
    )
