"""The SQL tables. SQL is the truth; Redis only carries messages.

Migrations in `deploy/migrations` make these tables; `tests/storage/test_migrations.py` proves that both agree.
"""

import builtins
import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Enum,
    Index,
    Integer,
    LargeBinary,
    TypeDecorator,
    UniqueConstraint,
    text,
    true,
)
from sqlmodel import Field, SQLModel

from schemas.states import AuditQueue, JobState, ModelStage, Verdict

OWN_PICTURE = "none"
"""The profile of the picture as it was submitted, beside the simulated ones."""

REVIEW_QUEUE = "undecided AND profile = 'none' AND verdict <> 'pass'"
"""What results wait for a moderator. SQLite uses the index on them only for queries that say it in the same words."""


class UtcDateTime(TypeDecorator[datetime]):
    """Times with a zone on every database: SQLite forgets zones, so UTC is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("naive datetime: give every time a zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def words_of(enum: type[StrEnum]) -> Enum:
    """An enum column type holding the member's value as text, without a CHECK: new members need no migration."""
    return Enum(enum, native_enum=False, length=16, values_callable=lambda members: [member.value for member in members])


def now() -> datetime:
    """The current time in UTC, as every timestamp column stores it."""
    return datetime.now(UTC)


# Said to the database too: rows are also made by statements that name only some columns.
_FROM_ZERO = {"server_default": text("0")}


class Picture(SQLModel, table=True):
    """The bytes of one picture, known by their sha256, kept in the blob store. Without this row they are not kept."""

    __tablename__ = "picture"

    sha256: str = Field(primary_key=True, max_length=64)
    bytes: int = Field(ge=0, description="0 where another producer stored them")
    first_seen_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    # Both empty where no worker was asked for it.
    pdq: builtins.bytes | None = Field(default=None, description="perceptual hash, 32 bytes, bit 0 first")
    pdq_quality: int | None = Field(default=None, description="0 to 100; below 50 the picture is too plain to compare")


class AuditJob(SQLModel, table=True):
    """One request to audit one picture."""

    __tablename__ = "audit_job"
    __table_args__ = (
        Index("ix_audit_job_state_updated_at", "state", "updated_at"),
        Index("ix_audit_job_submission_state", "submission", "state"),
        Index("ix_audit_job_finished_at_id", "finished_at", "id"),
        # The newest jobs of one picture, however many there are: `storage.reuse`.
        Index("ix_audit_job_sha256_finished_at", "sha256", "finished_at"),
    )

    id: uuid.UUID = Field(default_factory=uuid.uuid4, primary_key=True)
    client_ref: str | None = Field(default=None, unique=True, max_length=512)
    submission: str | None = Field(default=None, max_length=64)
    source: str = Field(max_length=4096)
    # No foreign key: a foreign producer's job, or a file that could not be read, has no picture row.
    sha256: str | None = Field(default=None, max_length=64)
    url: str | None = Field(default=None, description="where a worker fetches the bytes; sha256 is empty until then")
    queue: AuditQueue = Field(default=AuditQueue.DEFAULT, sa_column=Column(words_of(AuditQueue), nullable=False))
    profiles: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    source_profile: str | None = Field(default=None, description="the network the picture was taken from", max_length=32)
    state: JobState = Field(default=JobState.QUEUED, sa_column=Column(words_of(JobState), nullable=False))
    attempts: int = Field(default=0, description="claims that count: since the job was last put on its queue by a person")
    retries: int = Field(default=0, description="how often it was sent round again after an end", sa_column_kwargs=_FROM_ZERO)
    # Who holds the job: a worker's outcome is taken only under the number that its claim was given, which never repeats.
    fence: int = Field(default=0, description="claims ever made", sa_column_kwargs=_FROM_ZERO)
    claimed_at: datetime | None = Field(default=None, sa_type=UtcDateTime, description="empty while nobody holds it")
    error_code: str | None = Field(default=None, max_length=64)
    error_message: str | None = None
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    updated_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class ModelVersion(SQLModel, table=True):
    """One student version and its card. A partial unique index keeps at most one live."""

    __tablename__ = "model_version"
    __table_args__ = (
        Index(
            "uq_model_version_live",
            "stage",
            unique=True,
            sqlite_where=text("stage = 'live'"),
            postgresql_where=text("stage = 'live'"),
        ),
    )

    version: str = Field(primary_key=True, max_length=64)
    stage: ModelStage = Field(default=ModelStage.CANDIDATE, sa_column=Column(words_of(ModelStage), nullable=False))
    location: str = Field(description="folder of the student's files; 'package' for the one that ships", max_length=4096)
    card: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    reason: str = Field(description="why it is in its stage, in words")
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    stage_changed_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class AuditResultBase(SQLModel):
    """One mask, one score and one verdict: of one job, by one model version, for one delivery profile.

    What workers make and hand to the store: a row of the table, which follows its own changes, takes many times as long to make.
    """

    job_id: uuid.UUID = Field(foreign_key="audit_job.id", ondelete="CASCADE")
    model_version: str = Field(max_length=64)
    profile: str = Field(default=OWN_PICTURE, max_length=32)
    score: float
    verdict: Verdict = Field(sa_column=Column(words_of(Verdict), nullable=False))
    # Both empty where no second look was taken: far from the thresholds, and for simulated profiles.
    second_score: float | None = Field(default=None, description="score after a mild recompression")
    stable: bool | None = Field(default=None, description="whether the recompression left the verdict; if not, it is review")
    area: float
    regions: list[dict[str, Any]] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    # The network's own map as an 8-bit PNG; stretched to width_px x height_px it is the full-size mask. Empty: purged.
    mask_png: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    mask_agreement: float = Field(default=1.0, description="IoU with the mask of the picture as submitted")
    width_px: int
    height_px: int
    latency_ms: float
    # No foreign key: the earlier result may be deleted before this one.
    reused_from: int | None = Field(
        default=None, description="id of the result of the same bytes that this one repeats", sa_type=BigInteger
    )
    # May be behind: a result that comes after the decision about its picture is found to be decided when it is to be claimed.
    undecided: bool = Field(
        default=True,
        sa_column=Column(Boolean, nullable=False, server_default=true()),
        description="whether no person has decided about the picture",
    )
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class AuditResult(AuditResultBase, table=True):
    """A stored result, and its number in the order of results."""

    __tablename__ = "audit_result"
    __table_args__ = (
        UniqueConstraint("job_id", "model_version", "profile", name="uq_audit_result_job_version_profile"),
        # With the profile, so that pages and counts of a verdict are answered by the index.
        Index("ix_audit_result_verdict_id_profile", "verdict", "id", postgresql_include=["profile"]),
        # The results of a version that is no longer the newest: `storage.result_list`.
        Index("ix_audit_result_model_version_id", "model_version", "id"),
        # What moderators have before them, most suspicious first: `storage.review_queue`.
        Index(
            "ix_audit_result_review_queue",
            *("verdict", "score", "id"),
            sqlite_where=text(REVIEW_QUEUE),
            postgresql_where=text(REVIEW_QUEUE),
        ),
        # Without it SQLite gives the number of a deleted last row again, and readers' cursors would skip the new one.
        {"sqlite_autoincrement": True},
    )

    # SQLite counts rows by itself only in a column that is exactly INTEGER.
    id: int | None = Field(default=None, sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True))
