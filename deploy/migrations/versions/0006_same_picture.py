"""The same picture, once: which result was taken over, what a picture looks like, and the newest jobs of one picture."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006_same_picture"
down_revision: str | None = "0005"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("audit_result", sa.Column("reused_from", sa.BigInteger()))
    op.add_column("picture", sa.Column("pdq", sa.LargeBinary()))
    op.add_column("picture", sa.Column("pdq_quality", sa.Integer()))
    # The wider index answers what the narrow one did.
    op.create_index("ix_audit_job_sha256_finished_at", "audit_job", ["sha256", "finished_at"])
    op.drop_index("ix_audit_job_sha256", "audit_job")


def downgrade() -> None:
    op.create_index("ix_audit_job_sha256", "audit_job", ["sha256"])
    op.drop_index("ix_audit_job_sha256_finished_at", "audit_job")
    op.drop_column("picture", "pdq_quality")
    op.drop_column("picture", "pdq")
    op.drop_column("audit_result", "reused_from")
