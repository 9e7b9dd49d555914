"""What tells a study's images from changed ones."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dynafront_data",
        sa.Column("study", sa.String(200), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study"],
            ["dynafront_study.name"],
            name="fk_dynafront_data_study",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("study", name="pk_dynafront_data"),
    )
