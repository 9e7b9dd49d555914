"""Points by training with what a front compares: its values are read without the rows, which are large."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

COLUMNS = ("trial_id", "accuracy", "macs_mean", "macs_p95", "parameters")


def upgrade() -> None:
    op.create_index("ix_dynafront_point_values", "dynafront_point", list(COLUMNS))
    op.drop_index("ix_dynafront_point_trial_id", table_name="dynafront_point")
