"""The network a picture was taken from, where its submitter knows."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("audit_job", sa.Column("source_profile", sa.String(length=32)))


def downgrade() -> None:
    op.drop_column("audit_job", "source_profile")
