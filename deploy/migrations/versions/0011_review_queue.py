"""The moderators' queue: which results are undecided, and who looks at which picture.

Pictures that were decided before count as undecided until the queue meets them: nothing has to be rewritten here.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0011_review_queue"
down_revision: str | None = "0010_people"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("audit_result", sa.Column("undecided", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.create_table(
        "review_claim",
        sa.Column("picture", sa.String(64), primary_key=True),
        sa.Column("result_id", sa.BigInteger(), sa.ForeignKey("audit_result.id", ondelete="CASCADE"), nullable=False),
        sa.Column("holder", sa.String(128), nullable=False),
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_review_claim_result_id", "review_claim", ["result_id"])


def downgrade() -> None:
    op.drop_table("review_claim")
    op.drop_column("audit_result", "undecided")
