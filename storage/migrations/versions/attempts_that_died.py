"""Which starts of a training ended by the death of its own process; of older ones nobody knows."""

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
