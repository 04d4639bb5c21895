"""The SQL tables of the learning loop: what people said of pictures, and what was made of it.

Annotations, reviews and decisions about models are only ever added: a change of mind is a row that replaces another.
"""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, Integer, UniqueConstraint
from sqlmodel import Field, SQLModel

from schemas.geometry import PixelBox
from schemas.states import (
    AnnotationKind,
    AnnotationOrigin,
    ModelAction,
    RetrainState,
    RetrainTrigger,
    ReviewDecision,
    Verdict,
)
from schemas.tables import UtcDateTime, now, words_of

# Readers go on from the last number they saw, so SQLite must never give one again.
_NUMBERED = {"sqlite_autoincrement": True}


def _number() -> Column[int]:
    """A primary key drawn upwards. SQLite counts rows by itself only in a column that is exactly INTEGER."""
    return Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)


class BoxAnnotation(SQLModel, table=True):
    """What one person said of one picture: where it was manipulated, or that it was not.

    No foreign key leads out of it: results, jobs and the picture's bytes may be purged, the word stays.
    """

    __tablename__ = "box_annotation"
    __table_args__ = (
        # What is replaced is replaced once: of two people who change the same row, the second is told.
        UniqueConstraint("replaces", name="uq_box_annotation_replaces"),
        Index("ix_box_annotation_sha256_annotator_id", "sha256", "annotator", "id"),
        _NUMBERED,
    )

    id: int | None = Field(default=None, sa_column=_number())
    sha256: str = Field(max_length=64, description="of the picture's bytes")
    result_id: int | None = Field(default=None, sa_type=BigInteger, description="the result that was looked at")
    kind: AnnotationKind = Field(sa_column=Column(words_of(AnnotationKind), nullable=False))
    boxes: list[dict[str, int]] = Field(
        default_factory=list, sa_column=Column(JSON, nullable=False), description="PixelBox as x0, y0, x1, y1; original pixels"
    )
    width_px: int | None = Field(default=None, description="of the upright picture; always there with boxes")
    height_px: int | None = None
    annotator: str = Field(max_length=128)
    source_id: str | None = Field(default=None, max_length=256, description="scene, campaign or account the picture comes from")
    note: str = Field(default="", max_length=4096)
    origin: AnnotationOrigin = Field(sa_column=Column(words_of(AnnotationOrigin), nullable=False))
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    replaces: int | None = Field(default=None, sa_type=BigInteger, description="the annotation that this one takes the place of")

    @property
    def pixel_boxes(self) -> tuple[PixelBox, ...]:
        """The boxes in original pixels, ends exclusive."""
        return tuple(PixelBox(**box) for box in self.boxes)


class Review(SQLModel, table=True):
    """What a moderator decided about one result."""

    __tablename__ = "review"
    __table_args__ = (
        UniqueConstraint("replaces", name="uq_review_replaces"),
        Index("ix_review_result_id_reviewer_id", "result_id", "reviewer", "id"),
        _NUMBERED,
    )

    id: int | None = Field(default=None, sa_column=_number())
    result_id: int = Field(sa_type=BigInteger)
    job_id: uuid.UUID
    sha256: str | None = Field(default=None, max_length=64, index=True)
    decision: ReviewDecision = Field(sa_column=Column(words_of(ReviewDecision), nullable=False))
    reviewer: str = Field(max_length=128)
    note: str = Field(default="", max_length=4096)
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    replaces: int | None = Field(default=None, sa_type=BigInteger)


class ReviewClaim(SQLModel, table=True):
    """The right to decide about one picture, lent to one person until it expires by the database's own clock."""

    __tablename__ = "review_claim"
    __table_args__ = (Index("ix_review_claim_result_id", "result_id"),)

    picture: str = Field(primary_key=True, max_length=64, description="its sha256; of a picture that is not stored, its job's id")
    result_id: int = Field(
        sa_column=Column(BigInteger, ForeignKey("audit_result.id", ondelete="CASCADE"), nullable=False),
        description="the result that is looked at",
    )
    holder: str = Field(max_length=128)
    token: str = Field(max_length=32, description="of the page that the picture was lent to")
    claimed_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)


class RetrainRun(SQLModel, table=True):
    """One attempt to make a better student out of new boxes, from the frozen manifest to the decision."""

    __tablename__ = "retrain_run"
    __table_args__ = (Index("ix_retrain_run_state_created_at", "state", "created_at"),)

    id: uuid.UUID = Field(default_factory=uuid.uuid4, primary_key=True)
    state: RetrainState = Field(default=RetrainState.QUEUED, sa_column=Column(words_of(RetrainState), nullable=False))
    trigger: RetrainTrigger = Field(sa_column=Column(words_of(RetrainTrigger), nullable=False))
    manifest_sha256: str | None = Field(default=None, max_length=64)
    manifest_key: str | None = Field(default=None, max_length=1024, description="where the blob store keeps the manifest")
    parent_version: str | None = Field(default=None, max_length=64, description="the student that was live when it began")
    candidate_version: str | None = Field(default=None, max_length=64)
    teacher_id: str | None = Field(default=None, max_length=128)
    steps_total: int | None = Field(default=None, description="training steps, fixed before the first one")
    step: int = 0
    message: str = Field(default="", description="progress in words")
    seed: int = Field(default=0, sa_type=BigInteger)
    config: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    code_version: str = Field(default="", max_length=128)
    figures: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    decision: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    reason: str = Field(default="", description="why it ended as it did, in words and numbers")
    last_annotation_id: int = Field(default=0, sa_type=BigInteger, description="boxes up to this one are in its manifest")
    cancel_requested: bool = False
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    updated_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    error_code: str | None = Field(default=None, max_length=64)
    error_message: str | None = None


class Lease(SQLModel, table=True):
    """The right to do one named thing, held by one process until it expires by the database's own clock."""

    __tablename__ = "lease"

    name: str = Field(primary_key=True, max_length=64)
    holder: str | None = Field(default=None, max_length=256, description="empty while nobody holds it")
    # Rises with every change of hands, so that what a former holder still writes is recognised.
    fence: int = Field(default=0, sa_type=BigInteger)
    expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    acquired_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class ModelDecision(SQLModel, table=True):
    """One thing that was done to a model version: by whom, why, on which figures. Never changed."""

    __tablename__ = "model_decision"
    __table_args__ = (Index("ix_model_decision_version_id", "version", "id"), _NUMBERED)

    id: int | None = Field(default=None, sa_column=_number())
    version: str = Field(max_length=64)
    action: ModelAction = Field(sa_column=Column(words_of(ModelAction), nullable=False))
    from_version: str | None = Field(default=None, max_length=64, description="the version that was live before")
    who: str = Field(max_length=128)
    reason: str
    run_id: uuid.UUID | None = None
    figures: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class PseudoMask(SQLModel, table=True):
    """Where the blob store keeps the soft mask that one teacher made of one picture's boxes."""

    __tablename__ = "pseudo_mask"
    __table_args__ = (Index("ix_pseudo_mask_last_used_at", "last_used_at"),)

    sha256: str = Field(primary_key=True, max_length=64)
    boxes_sha256: str = Field(primary_key=True, max_length=64)
    teacher_id: str = Field(primary_key=True, max_length=128)
    key: str = Field(max_length=1024)
    quality: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    last_used_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class ShadowScore(SQLModel, table=True):
    """What a candidate said of a picture that the live model has just audited."""

    __tablename__ = "shadow_score"
    __table_args__ = (
        # A message that is delivered again is scored once.
        UniqueConstraint("job_id", "candidate_version", name="uq_shadow_score_job_candidate"),
        Index("ix_shadow_score_candidate_version_id", "candidate_version", "id"),
        _NUMBERED,
    )

    id: int | None = Field(default=None, sa_column=_number())
    job_id: uuid.UUID
    sha256: str = Field(max_length=64)
    candidate_version: str = Field(max_length=64)
    live_version: str = Field(max_length=64)
    live_score: float
    candidate_score: float
    live_verdict: Verdict = Field(sa_column=Column(words_of(Verdict), nullable=False))
    candidate_verdict: Verdict = Field(sa_column=Column(words_of(Verdict), nullable=False))
    mask_agreement: float = Field(description="IoU of the two masks")
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
