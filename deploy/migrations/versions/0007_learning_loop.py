"""The learning loop: annotations, reviews, retraining runs and their lease, decisions, pseudo-masks, shadow scores."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007_learning_loop"
down_revision: str | None = "0006_same_picture"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_TABLES = ("box_annotation", "review", "retrain_run", "lease", "model_decision", "pseudo_mask", "shadow_score")


def upgrade() -> None:
    _annotations()
    _reviews()
    _runs()
    _decisions()
    _pseudo_masks()
    _shadow_scores()


def downgrade() -> None:
    for table in reversed(_TABLES):
        op.drop_table(table)


def _number() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True)


def _time(name: str, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _annotations() -> None:
    op.create_table(
        "box_annotation",
        _number(),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("result_id", sa.BigInteger()),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("boxes", sa.JSON(), nullable=False),
        sa.Column("width_px", sa.Integer()),
        sa.Column("height_px", sa.Integer()),
        sa.Column("annotator", sa.String(128), nullable=False),
        sa.Column("source_id", sa.String(256)),
        sa.Column("note", sa.String(4096), nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        _time("created_at"),
        sa.Column("replaces", sa.BigInteger()),
        sa.UniqueConstraint("replaces", name="uq_box_annotation_replaces"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_box_annotation_sha256_annotator_id", "box_annotation", ["sha256", "annotator", "id"])


def _reviews() -> None:
    op.create_table(
        "review",
        _number(),
        sa.Column("result_id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.String(64)),
        sa.Column("decision", sa.String(16), nullable=False),
        sa.Column("reviewer", sa.String(128), nullable=False),
        sa.Column("note", sa.String(4096), nullable=False),
        _time("created_at"),
        sa.Column("replaces", sa.BigInteger()),
        sa.UniqueConstraint("replaces", name="uq_review_replaces"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_review_result_id_reviewer_id", "review", ["result_id", "reviewer", "id"])
    op.create_index("ix_review_sha256", "review", ["sha256"])


def _runs() -> None:
    op.create_table(
        "retrain_run",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("trigger", sa.String(16), nullable=False),
        sa.Column("manifest_sha256", sa.String(64)),
        sa.Column("manifest_key", sa.String(1024)),
        sa.Column("parent_version", sa.String(64)),
        sa.Column("candidate_version", sa.String(64)),
        sa.Column("teacher_id", sa.String(128)),
        sa.Column("steps_total", sa.Integer()),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("code_version", sa.String(128), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.Column("decision", sa.JSON(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("last_annotation_id", sa.BigInteger(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        _time("created_at"),
        _time("started_at", nullable=True),
        _time("updated_at"),
        _time("finished_at", nullable=True),
        sa.Column("error_code", sa.String(64)),
        sa.Column("error_message", sa.String()),
    )
    op.create_index("ix_retrain_run_state_created_at", "retrain_run", ["state", "created_at"])
    op.create_table(
        "lease",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("holder", sa.String(256)),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        _time("expires_at", nullable=True),
        _time("acquired_at", nullable=True),
    )


def _decisions() -> None:
    op.create_table(
        "model_decision",
        _number(),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("from_version", sa.String(64)),
        sa.Column("who", sa.String(128), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("run_id", sa.Uuid()),
        sa.Column("figures", sa.JSON(), nullable=False),
        _time("created_at"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_model_decision_version_id", "model_decision", ["version", "id"])


def _pseudo_masks() -> None:
    op.create_table(
        "pseudo_mask",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("boxes_sha256", sa.String(64), primary_key=True),
        sa.Column("teacher_id", sa.String(128), primary_key=True),
        sa.Column("key", sa.String(1024), nullable=False),
        sa.Column("quality", sa.JSON(), nullable=False),
        _time("created_at"),
        _time("last_used_at"),
    )
    op.create_index("ix_pseudo_mask_last_used_at", "pseudo_mask", ["last_used_at"])


def _shadow_scores() -> None:
    op.create_table(
        "shadow_score",
        _number(),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("candidate_version", sa.String(64), nullable=False),
        sa.Column("live_version", sa.String(64), nullable=False),
        sa.Column("live_score", sa.Float(), nullable=False),
        sa.Column("candidate_score", sa.Float(), nullable=False),
        sa.Column("live_verdict", sa.String(16), nullable=False),
        sa.Column("candidate_verdict", sa.String(16), nullable=False),
        sa.Column("mask_agreement", sa.Float(), nullable=False),
        _time("created_at"),
        sa.UniqueConstraint("job_id", "candidate_version", name="uq_shadow_score_job_candidate"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_shadow_score_candidate_version_id", "shadow_score", ["candidate_version", "id"])
