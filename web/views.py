"""What the API shows: answers as pydantic models, made from SQL rows."""

import uuid
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from schemas.api_tables import AuditRequest
from schemas.geometry import PixelBox
from schemas.learning_tables import BoxAnnotation, ModelDecision, Review
from schemas.records import AuditRecord, ErrorRecord
from schemas.states import AnnotationKind, AnnotationOrigin, JobState, ModelAction, ModelStage, ReviewDecision, Verdict
from schemas.tables import AuditJob, AuditResult, ModelVersion
from storage.audit_records import record_of
from storage.audit_requests import AskedJob
from storage.queries import AuditedJob
from web import examples


class ResultView(AuditRecord):
    """One result of a picture as submitted, with where its files are."""

    model_config = ConfigDict(json_schema_extra={"example": examples.RESULT})

    id: int = Field(description="number of the result, and the cursor behind it")
    job_id: uuid.UUID
    created_at: datetime
    mask: str | None = Field(default=None, description="address of the 8-bit probability mask; null once it was purged")
    overlay: str | None = Field(default=None, description="address of the picture with the mask painted over it")
    picture: str | None = Field(default=None, description="address of the picture's own bytes")


class ResultPage(BaseModel):
    """Results in the order of their numbers."""

    model_config = ConfigDict(json_schema_extra={"example": examples.RESULT_PAGE})

    results: list[ResultView]
    next_cursor: int = Field(description="go on with it; where there was nothing new, the cursor you came with")
    more: bool = Field(description="whether the page is full, and so whether to ask again at once")


class ShortResult(BaseModel):
    """A result as an audit lists it; `/v1/results/{id}` has all of it."""

    id: int
    score: float
    verdict: Verdict
    model_version: str


class PictureView(BaseModel):
    """One picture of an audit."""

    job_id: uuid.UUID
    name: str | None = None
    client_ref: str | None = None
    sha256: str | None = None
    state: JobState | None = Field(default=None, description="null where the picture was purged")
    error: ErrorRecord | None = None
    result: ShortResult | None = None


class AuditView(BaseModel):
    """An audit that was asked for, as it stands."""

    model_config = ConfigDict(json_schema_extra={"example": examples.AUDIT})

    id: str
    created_at: datetime
    by: str = Field(description="name of the API key")
    ended: bool = Field(description="whether every picture has ended, in a result or an error")
    counts: dict[JobState, int]
    pictures: list[PictureView] = Field(description="in the order they were sent")


class ReviewView(BaseModel):
    """A moderator's decision about a result."""

    model_config = ConfigDict(json_schema_extra={"example": examples.REVIEW})

    id: int
    result_id: int
    decision: ReviewDecision
    by: str
    note: str
    created_at: datetime
    replaces: int | None


class AnnotationView(BaseModel):
    """What somebody said of a picture."""

    model_config = ConfigDict(json_schema_extra={"example": examples.ANNOTATION})

    id: int
    sha256: str
    kind: AnnotationKind
    boxes: list[PixelBox]
    width: int | None
    height: int | None
    by: str
    result_id: int | None
    source_id: str | None
    note: str
    origin: AnnotationOrigin
    created_at: datetime
    replaces: int | None = Field(description="the annotation that this one takes the place of, or takes back")


class AnnotationPage(BaseModel):
    """Annotations in the order of their numbers, with those that were replaced or taken back."""

    model_config = ConfigDict(json_schema_extra={"example": examples.ANNOTATION_PAGE})

    annotations: list[AnnotationView]
    next_cursor: int


class DecisionView(BaseModel):
    """Something that was decided about a model version."""

    action: ModelAction
    version: str
    from_version: str | None
    by: str
    reason: str
    figures: dict[str, Any]
    created_at: datetime


class ModelView(BaseModel):
    """A model version."""

    model_config = ConfigDict(json_schema_extra={"example": examples.MODEL})

    version: str
    stage: ModelStage
    reason: str
    created_at: datetime
    stage_changed_at: datetime


class ModelDetails(ModelView):
    """A model version with its card and all that was decided about it."""

    model_config = ConfigDict(json_schema_extra={"example": examples.MODEL_DETAILS})

    card: dict[str, Any]
    decisions: list[DecisionView]


class FieldProblem(BaseModel):
    """One thing that is wrong with a request."""

    field: str = Field(description="where, as `body.boxes.0.x1`")
    message: str


class Problem(BaseModel):
    """Why a request was not answered as asked (RFC 9457)."""

    model_config = ConfigDict(json_schema_extra={"example": examples.problem(403, "Forbidden")})

    type: str = Field(description="urn:tamperwatch:error: and the code")
    title: str
    status: int
    code: str = Field(description="stable; docs/operations.md says what to do about each")
    detail: str = Field(description="what is wrong and how to mend it")
    errors: list[FieldProblem] | None = None


def result_view(audited: AuditedJob, own: AuditResult) -> ResultView:
    """One result as the API shows it."""
    path = f"/v1/results/{own.id}"
    record = record_of(audited, f"{path}/mask.png" if own.mask_png else None)
    has_picture = audited.job.sha256 is not None
    # Its values are checked: they come out of a record.
    return ResultView.model_construct(
        **dict(record),
        id=own.id or 0,
        job_id=audited.job.id,
        created_at=own.created_at,
        overlay=f"{path}/overlay.png" if own.mask_png and has_picture else None,
        picture=f"{path}/picture" if has_picture else None,
    )


def audit_view(request: AuditRequest, asked: list[AskedJob]) -> AuditView:
    """An audit as it stands."""
    counts = dict.fromkeys(JobState, 0)
    for each in asked:
        if each.job is not None:
            counts[each.job.state] += 1
    unfinished = request.finished_at is None or counts[JobState.QUEUED] + counts[JobState.RUNNING] > 0
    return AuditView(
        id=request.id,
        created_at=request.created_at,
        by=request.who,
        ended=not unfinished,
        counts=counts,
        pictures=[_picture_view(each) for each in asked],
    )


def _picture_view(asked: AskedJob) -> PictureView:
    job, result = asked.job, asked.result
    if job is None:
        return PictureView(job_id=uuid.UUID(asked.job_id))
    return PictureView(
        job_id=job.id,
        name=job.source,
        client_ref=job.client_ref,
        sha256=job.sha256,
        state=job.state,
        error=_error_of(job),
        result=_short(result) if result is not None and job.state is JobState.DONE else None,
    )


def _error_of(job: AuditJob) -> ErrorRecord | None:
    return ErrorRecord(code=job.error_code, message=job.error_message or "") if job.error_code is not None else None


def _short(result: AuditResult) -> ShortResult:
    return ShortResult(id=result.id or 0, score=result.score, verdict=result.verdict, model_version=result.model_version)


def review_view(row: Review) -> ReviewView:
    return ReviewView(
        id=row.id or 0,
        result_id=row.result_id,
        decision=row.decision,
        by=row.reviewer,
        note=row.note,
        created_at=row.created_at,
        replaces=row.replaces,
    )


def annotation_view(row: BoxAnnotation) -> AnnotationView:
    return AnnotationView(
        id=row.id or 0,
        sha256=row.sha256,
        kind=row.kind,
        boxes=list(row.pixel_boxes),
        width=row.width_px,
        height=row.height_px,
        by=row.annotator,
        result_id=row.result_id,
        source_id=row.source_id,
        note=row.note,
        origin=row.origin,
        created_at=row.created_at,
        replaces=row.replaces,
    )


def model_view(row: ModelVersion) -> ModelView:
    return ModelView.model_validate(row.model_dump(include=set(ModelView.model_fields)))


def model_details(row: ModelVersion, decided: list[ModelDecision]) -> ModelDetails:
    views = [
        DecisionView.model_validate(each.model_dump(include=set(DecisionView.model_fields)) | {"by": each.who})
        for each in decided
    ]
    return ModelDetails(**model_view(row).model_dump(), card=row.card, decisions=views)
