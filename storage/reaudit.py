"""Finished pictures that are worth another look by the version that is live now."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Update, and_, exists, func, or_, update
from sqlalchemy.orm import aliased
from sqlmodel import Session, SQLModel, col, select
from sqlmodel.sql.expression import SelectOfScalar

from schemas.states import AuditQueue, JobState, Verdict
from schemas.tables import OWN_PICTURE, AuditJob, AuditResult, Picture, now
from storage.database import Database
from storage.recovery import requeue_jobs

_JOBS = SQLModel.metadata.tables["audit_job"]
_BATCH = 500

Band = tuple[float, float]
"""Scores from one to the other, both included."""


@dataclass(frozen=True)
class Reaudit:
    """Which finished jobs are meant: those that the live version has not audited, and whose last result is as told here.

    Attributes:
        live_version: the one that is to audit them.
        verdicts: of the last result, if any of these will do.
        bands: by model version, scores of the last result that will do as well.
        since: only jobs that ended at this time or later.
        limit: the newest so many.
    """

    live_version: str
    verdicts: tuple[Verdict, ...] = ()
    bands: Mapping[str, Sequence[Band]] | None = None
    since: datetime | None = None
    limit: int = 1000


def count_to_reaudit(session: Session, wanted: Reaudit) -> int:
    """How many jobs `requeue_finished` would take."""
    return session.exec(select(func.count()).select_from(_jobs(wanted).limit(wanted.limit).subquery())).one()


def requeue_finished(database: Database, wanted: Reaudit, batch: int = _BATCH) -> Iterator[list[AuditJob]]:
    """Put these jobs back on the queue for bulk, newest first, one committed batch after another, and yield each for sending.

    A job keeps its results, and gets one by the live version beside them. What has been put back is not finished, and what the
    live version has audited is not wanted, so a second call at the same time or later takes none of it.

    Raises:
        StoreUnavailable: what was yielded is queued; call again for the rest.
    """
    left = wanted.limit
    while left > 0:
        with database.write() as session:
            ids = session.exec(_jobs(wanted).limit(min(left, batch))).all()
            session.connection().execute(_to_bulk(ids))
            jobs = requeue_jobs(session, ids, JobState.DONE)
        if not jobs:
            return
        left -= len(jobs)
        yield jobs


def versions_of_results(session: Session, since: datetime | None) -> list[str]:
    """The versions that made results, since a time if it is given."""
    query = select(AuditResult.model_version).distinct()
    if since is not None:
        query = query.where(col(AuditResult.created_at) >= since)
    return list(session.exec(query))


def _to_bulk(ids: Sequence[uuid.UUID]) -> Update:
    done = (_JOBS.c.id.in_(list(ids)), _JOBS.c.state == JobState.DONE)
    return update(_JOBS).where(*done).values(queue=AuditQueue.BULK, updated_at=now())


def _jobs(wanted: Reaudit) -> SelectOfScalar[uuid.UUID]:
    """The ids of the jobs, newest first."""
    last, later, live = aliased(AuditResult), aliased(AuditResult), aliased(AuditResult)
    of_job = col(AuditJob.id)
    newer = exists().where(later.job_id == of_job, later.profile == OWN_PICTURE, later.id > last.id)  # type: ignore[arg-type, operator]
    by_live = exists().where(live.job_id == of_job, live.model_version == wanted.live_version)  # type: ignore[arg-type]
    kept = exists().where(col(Picture.sha256) == col(AuditJob.sha256))
    query = (
        select(AuditJob.id)
        .join(last, and_(last.job_id == of_job, last.profile == OWN_PICTURE))  # type: ignore[arg-type]
        .where(AuditJob.state == JobState.DONE, kept, ~newer, ~by_live, _borderline(last, wanted))
    )
    if wanted.since is not None:
        query = query.where(col(AuditJob.finished_at) >= wanted.since)
    return query.order_by(col(AuditJob.finished_at).desc(), of_job)


def _borderline(result: type[AuditResult], wanted: Reaudit) -> ColumnElement[bool]:
    """Of its verdicts, or within a band of its version."""
    choices: list[ColumnElement[bool]] = [col(result.verdict).in_(wanted.verdicts)]
    for version, bands in (wanted.bands or {}).items():
        within = [col(result.score).between(low, high) for low, high in bands]
        choices.append(and_(col(result.model_version) == version, or_(*within)))
    return or_(*choices)
