"""What waits for moderators, most suspicious first."""

from collections.abc import Sequence

import sqlalchemy as sa

from deploy.migrations.online import create_index, drop_index

revision: str = "0012_review_queue_index"
down_revision: str | None = "0011_review_queue"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_NAME = "ix_audit_result_review_queue"
_WAITING = sa.text("undecided AND profile = 'none' AND verdict <> 'pass'")


def upgrade() -> None:
    create_index(_NAME, "audit_result", ["verdict", "score", "id"], sqlite_where=_WAITING, postgresql_where=_WAITING)


def downgrade() -> None:
    drop_index(_NAME, "audit_result")
