"""Which validation images each operating point answers rightly."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dynafront_answers",
        sa.Column("point_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("right", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["point_id"],
            ["dynafront_point.id"],
            name="fk_dynafront_answers_point_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("point_id", name="pk_dynafront_answers"),
    )
