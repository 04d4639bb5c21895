"""The index by verdict also tells the profile, so that results are counted by verdict without reading them."""

from collections.abc import Sequence

from deploy.migrations import online

revision: str = "0013_verdict_index"
down_revision: str | None = "0012_review_queue_index"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_COLUMNS = ("verdict", "id")


def upgrade() -> None:
    online.create_index("ix_audit_result_verdict_id_profile", "audit_result", _COLUMNS, postgresql_include=["profile"])
    online.drop_index("ix_audit_result_verdict_id", "audit_result")


def downgrade() -> None:
    online.create_index("ix_audit_result_verdict_id", "audit_result", _COLUMNS)
    online.drop_index("ix_audit_result_verdict_id_profile", "audit_result")
