"""Pictures, audit jobs, audit results and model versions."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "picture",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "audit_job",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("client_ref", sa.String(512), unique=True),
        sa.Column("submission", sa.String(64)),
        sa.Column("source", sa.String(4096), nullable=False),
        sa.Column("sha256", sa.String(64)),
        sa.Column("queue", sa.String(16), nullable=False),
        sa.Column("profiles", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error_code", sa.String(64)),
        sa.Column("error_message", sa.String()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
    )
    op.create_index("ix_audit_job_sha256", "audit_job", ["sha256"])
    op.create_index("ix_audit_job_state_updated_at", "audit_job", ["state", "updated_at"])
    op.create_index("ix_audit_job_submission_state", "audit_job", ["submission", "state"])
    op.create_table(
        "model_version",
        sa.Column("version", sa.String(64), primary_key=True),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("location", sa.String(4096), nullable=False),
        sa.Column("card", sa.JSON(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("stage_changed_at", sa.DateTime(timezone=True), nullable=False),
    )
    only_live = sa.text("stage = 'live'")
    op.create_index(
        "uq_model_version_live", "model_version", ["stage"], unique=True, sqlite_where=only_live, postgresql_where=only_live
    )
    op.create_table(
        "audit_result",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("job_id", sa.Uuid(), sa.ForeignKey("audit_job.id", ondelete="CASCADE"), nullable=False),
        sa.Column("model_version", sa.String(64), nullable=False),
        sa.Column("profile", sa.String(32), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("area", sa.Float(), nullable=False),
        sa.Column("regions", sa.JSON(), nullable=False),
        sa.Column("mask_png", sa.LargeBinary(), nullable=False),
        sa.Column("mask_agreement", sa.Float(), nullable=False),
        sa.Column("width_px", sa.Integer(), nullable=False),
        sa.Column("height_px", sa.Integer(), nullable=False),
        sa.Column("latency_ms", sa.Float(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("job_id", "model_version", "profile", name="uq_audit_result_job_version_profile"),
    )
    op.create_index("ix_audit_result_verdict_id", "audit_result", ["verdict", "id"])


def downgrade() -> None:
    for table in ("audit_result", "model_version", "audit_job", "picture"):
        op.drop_table(table)
