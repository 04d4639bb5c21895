"""The results of one model version, newest first, without reading those of the others."""

from collections.abc import Sequence

from deploy.migrations.online import create_index, drop_index

revision: str = "0014_version_index"
down_revision: str | None = "0013_verdict_index"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_NAME = "ix_audit_result_model_version_id"


def upgrade() -> None:
    create_index(_NAME, "audit_result", ["model_version", "id"])


def downgrade() -> None:
    drop_index(_NAME, "audit_result")
