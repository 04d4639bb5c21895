"""Results as flat rows for exports, page by page: no page holds a transaction open for the next one."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy
from sqlalchemy import ColumnElement, literal
from sqlmodel import Session, col

from schemas.states import Verdict
from schemas.tables import AuditJob, AuditResult


@dataclass(frozen=True)
class ExportFilter:
    """Which results to export; what is None filters nothing.

    Attributes:
        since, until: stored at or after, and before, this time.
        profiles: deliveries by name; `schemas.tables.OWN_PICTURE` is the picture as submitted.
        source_profile: the network the pictures were taken from.
    """

    since: datetime | None = None
    until: datetime | None = None
    verdict: Verdict | None = None
    model_version: str | None = None
    profiles: tuple[str, ...] | None = None
    source_profile: str | None = None


@dataclass(frozen=True)
class ExportRow:
    """One result with what its job knows of the picture. `mask_png` is empty unless masks were asked for."""

    cursor: int
    image: str
    sha256: str | None
    source_profile: str | None
    profile: str
    score: float
    verdict: Verdict
    second_score: float | None
    stable: bool | None
    area: float
    mask_agreement: float
    regions: list[dict[str, Any]]
    model_version: str
    width: int
    height: int
    latency_ms: float
    created_at: datetime
    job_id: uuid.UUID
    submission: str | None
    client_ref: str | None
    reused_from: int | None
    mask_png: bytes = b""


def export_page(
    session: Session, wanted: ExportFilter, after: int, last: int, limit: int, masks: bool = False
) -> list[ExportRow]:
    """Up to `limit` results with an id in (after, last], in the order of their ids.

    Args:
        last: from `storage.feed.newest_result`, so that none below it appears while the pages are read.
        masks: whether to read the stored masks, by far the largest column.
    """
    result = AuditResult
    columns: list[Any] = [
        result.id, AuditJob.source, AuditJob.sha256, AuditJob.source_profile, result.profile, result.score, result.verdict,
        result.second_score, result.stable, result.area, result.mask_agreement, result.regions, result.model_version,
        result.width_px, result.height_px, result.latency_ms, result.created_at, result.job_id, AuditJob.submission,
        AuditJob.client_ref, result.reused_from, result.mask_png if masks else literal(b""),
    ]  # fmt: skip
    query = sqlalchemy.select(*columns).join(AuditJob, col(AuditJob.id) == col(result.job_id))
    query = query.where(col(result.id) > after, col(result.id) <= last, *_conditions(wanted))
    rows = session.connection().execute(query.order_by(col(result.id)).limit(limit))
    return [ExportRow(*row) for row in rows]


def _conditions(wanted: ExportFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.since is not None:
        conditions.append(col(AuditResult.created_at) >= wanted.since)
    if wanted.until is not None:
        conditions.append(col(AuditResult.created_at) < wanted.until)
    if wanted.verdict is not None:
        conditions.append(col(AuditResult.verdict) == wanted.verdict)
    if wanted.model_version is not None:
        conditions.append(col(AuditResult.model_version) == wanted.model_version)
    if wanted.profiles is not None:
        conditions.append(col(AuditResult.profile).in_(wanted.profiles))
    if wanted.source_profile is not None:
        conditions.append(col(AuditJob.source_profile) == wanted.source_profile)
    return conditions
