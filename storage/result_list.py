"""Results as people look through them: newest first, a page at a time, with what was decided about each picture."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, select

from schemas.learning_tables import Review
from schemas.tables import OWN_PICTURE, AuditJob, AuditResult
from storage import review_queue
from storage.review_queue import QueueFilter


@dataclass(frozen=True)
class Listed:
    """One result as submitted, its job, and the standing decisions about its picture, oldest first."""

    result: AuditResult
    job: AuditJob
    decisions: Sequence[Review]


def newest_results(session: Session, wanted: QueueFilter, before: int | None = None, limit: int = 50) -> list[Listed]:
    """Results with the highest numbers below `before`, whatever was decided about them.

    Args:
        wanted: which; whether people were unsure does not matter here.
    """
    query = select(AuditResult, AuditJob).join(AuditJob).where(AuditResult.profile == OWN_PICTURE)
    query = query.where(col(AuditResult.verdict).in_(wanted.verdicts), *review_queue.bounds(wanted))
    if before is not None:
        query = query.where(col(AuditResult.id) < before)
    rows = session.exec(query.order_by(col(AuditResult.id).desc()).limit(limit)).all()
    decided = _decisions(session, [job.sha256 for _, job in rows if job.sha256 is not None])
    return [Listed(result, job, decided.get(job.sha256 or "", [])) for result, job in rows]


def _decisions(session: Session, pictures: Sequence[str]) -> dict[str, list[Review]]:
    found: dict[str, list[Review]] = {}
    query = select(Review).where(col(Review.sha256).in_(pictures), review_queue.standing()).order_by(col(Review.id))
    for row in session.exec(query):
        found.setdefault(row.sha256 or "", []).append(row)
    return found
