"""Pictures that two model versions see differently: audited by both, or scored by one as the other's shadow."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from sqlmodel import Session, SQLModel, col, select

from schemas.learning_tables import ShadowScore
from schemas.states import Verdict
from schemas.tables import OWN_PICTURE, AuditJob, AuditResult

_NEWEST = 5000
_RESULTS = SQLModel.metadata.tables["audit_result"]


@dataclass(frozen=True)
class Said:
    """What one version said of a picture; `result_id` is empty where its mask was not kept."""

    score: float
    verdict: Verdict
    result_id: int | None = None


@dataclass(frozen=True)
class Change:
    """One picture, before and after."""

    sha256: str
    old: Said
    new: Said

    @property
    def size(self) -> tuple[bool, float]:
        """Sort key: another verdict counts for more than any difference of scores."""
        return self.old.verdict is not self.new.verdict, abs(self.new.score - self.old.score)


def changes_between(session: Session, old: str, new: str, limit: int) -> list[Change]:
    """The pictures that changed most from one version to another, each once, the largest change first.

    Only the newest few thousand are looked at.
    """
    # What both audited has both masks, so it takes the place of a shadow's word on the same picture.
    return largest_changes([*_shadowed(session, old, new), *_audited(session, old, new)], limit)


def largest_changes(changes: Iterable[Change], limit: int) -> list[Change]:
    """The largest ones first, each picture once: the last that is said of it counts."""
    by_picture = {change.sha256: change for change in changes}
    return sorted(by_picture.values(), key=lambda change: change.size, reverse=True)[:limit]


def masks_of(session: Session, result_ids: Iterable[int]) -> dict[int, bytes]:
    """Stored masks as PNG by the number of their result; purged ones are left out."""
    query = select(AuditResult.id, AuditResult.mask_png).where(col(AuditResult.id).in_(list(result_ids)))
    return {number: mask for number, mask in session.exec(query) if number is not None and mask}


def _audited(session: Session, old: str, new: str) -> list[Change]:
    before, after = _RESULTS.alias("before"), _RESULTS.alias("after")
    jobs = SQLModel.metadata.tables["audit_job"]
    columns = ("score", "verdict", "id")
    query = (
        select(jobs.c.sha256, *(side.c[name] for side in (before, after) for name in columns))
        .join(before, before.c.job_id == jobs.c.id)
        .join(after, after.c.job_id == jobs.c.id)
        .where(before.c.model_version == old, after.c.model_version == new)
        .where(before.c.profile == OWN_PICTURE, after.c.profile == OWN_PICTURE, jobs.c.sha256.is_not(None))
        .order_by(after.c.id.desc())
        .limit(_NEWEST)
    )
    rows = session.connection().execute(query).all()
    return [Change(row[0], Said(*row[1:4]), Said(*row[4:7])) for row in reversed(rows)]


def _shadowed(session: Session, old: str, new: str) -> list[Change]:
    query = select(ShadowScore).where(ShadowScore.candidate_version == new, ShadowScore.live_version == old)
    rows = list(session.exec(query.order_by(col(ShadowScore.id).desc()).limit(_NEWEST)))
    kept = _results_of(session, [row.job_id for row in rows], old)
    return [
        Change(
            row.sha256,
            Said(row.live_score, row.live_verdict, kept.get(row.job_id)),
            Said(row.candidate_score, row.candidate_verdict),
        )
        for row in reversed(rows)
    ]


def _results_of(session: Session, job_ids: list[uuid.UUID], version: str) -> dict[uuid.UUID, int]:
    """The number of each job's result by this version."""
    query = select(AuditResult.job_id, AuditResult.id).join(AuditJob)
    query = query.where(AuditResult.model_version == version, AuditResult.profile == OWN_PICTURE)
    return {
        job_id: number
        for start in range(0, len(job_ids), 500)
        for job_id, number in session.exec(query.where(col(AuditResult.job_id).in_(job_ids[start : start + 500])))
        if number is not None
    }
