"""Claims with a fence, the count of retries, and the order of endings for retention."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    for name in ("retries", "fence"):
        op.add_column("audit_job", sa.Column(name, sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.add_column("audit_job", sa.Column("claimed_at", sa.DateTime(timezone=True)))
    op.create_index("ix_audit_job_finished_at_id", "audit_job", ["finished_at", "id"])
    # From here on a picture without a row is an orphan. Those that other producers stored had none.
    op.execute(
        "INSERT INTO picture (sha256, bytes, first_seen_at) SELECT sha256, 0, min(created_at) FROM audit_job"
        " WHERE sha256 IS NOT NULL AND sha256 NOT IN (SELECT sha256 FROM picture) GROUP BY sha256"
    )


def downgrade() -> None:
    op.drop_index("ix_audit_job_finished_at_id", "audit_job")
    for name in ("claimed_at", "fence", "retries"):
        op.drop_column("audit_job", name)
