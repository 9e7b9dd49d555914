"""What points took as whole networks on the machine of their study's latency table."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dynafront_timing",
        sa.Column("point_id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("measured_ms", sa.Double(), nullable=False),
        sa.Column("static_ms", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["point_id"],
            ["dynafront_point.id"],
            name="fk_dynafront_timing_point_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("point_id", name="pk_dynafront_timing"),
    )
