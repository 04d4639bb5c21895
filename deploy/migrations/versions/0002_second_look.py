"""The second look at pictures near a threshold."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("audit_result", sa.Column("second_score", sa.Float()))
    op.add_column("audit_result", sa.Column("stable", sa.Boolean()))


def downgrade() -> None:
    op.drop_column("audit_result", "stable")
    op.drop_column("audit_result", "second_score")
