"""The HTTP API: its keys, the audits asked for through it, and the webhooks that results are pushed to."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0009_api"
down_revision: str | None = "0008_picture_url"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    _keys()
    _requests()
    _webhooks()


def downgrade() -> None:
    for table in ("webhook_delivery", "webhook", "audit_request", "api_key"):
        op.drop_table(table)


def _time(name: str, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _keys() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False, unique=True),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("requests_per_minute", sa.Integer()),
        _time("created_at"),
        _time("expires_at", nullable=True),
        _time("last_used_at", nullable=True),
        _time("revoked_at", nullable=True),
    )


def _requests() -> None:
    op.create_table(
        "audit_request",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("who", sa.String(64), nullable=False),
        sa.Column("idempotency_key", sa.String(255)),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("job_ids", sa.JSON(), nullable=False),
        _time("created_at"),
        _time("begun_at"),
        _time("finished_at", nullable=True),
        sa.UniqueConstraint("key_id", "idempotency_key", name="uq_audit_request_key_idempotency"),
    )
    op.create_index("ix_audit_request_created_at", "audit_request", ["created_at"])


def _webhooks() -> None:
    op.create_table(
        "webhook",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("url", sa.String(2048), nullable=False),
        sa.Column("secret", sa.String(128), nullable=False),
        sa.Column("verdict", sa.String(16)),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.String(64), nullable=False),
        _time("created_at"),
        _time("stopped_at", nullable=True),
        sa.Column("stopped_why", sa.String(512), nullable=False),
    )
    op.create_table(
        "webhook_delivery",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("webhook_id", sa.String(16), sa.ForeignKey("webhook.id", ondelete="CASCADE"), nullable=False),
        sa.Column("result_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        _time("next_at"),
        sa.Column("http_status", sa.Integer()),
        sa.Column("words", sa.String(512), nullable=False),
        _time("created_at"),
        _time("ended_at", nullable=True),
        sa.UniqueConstraint("webhook_id", "result_id", name="uq_webhook_delivery_webhook_result"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_webhook_delivery_state_next_at", "webhook_delivery", ["state", "next_at"])
