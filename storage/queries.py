"""Every reading of jobs and results. Callers bring the session."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import and_, func, or_
from sqlmodel import Session, col, select

from schemas.states import JobState, Verdict
from schemas.tables import OWN_PICTURE, AuditJob, AuditResult, now


@dataclass(frozen=True)
class AuditedJob:
    """A job with its results by profile; `own` is the picture as submitted, None when the job has no result."""

    job: AuditJob
    results: dict[str, AuditResult]

    @property
    def own(self) -> AuditResult | None:
        return self.results.get(OWN_PICTURE)


def stale_jobs(session: Session, older_than_s: float, limit: int = 1000) -> list[AuditJob]:
    """Jobs not ended and not touched for this long, oldest first: their message is lost or their worker is dead."""
    before = now() - timedelta(seconds=older_than_s)
    unfinished = col(AuditJob.state).in_([JobState.QUEUED, JobState.RUNNING])
    query = select(AuditJob).where(unfinished, col(AuditJob.updated_at) < before, col(AuditJob.sha256).is_not(None))
    return list(session.exec(query.order_by(col(AuditJob.updated_at)).limit(limit)))


def job_counts(session: Session, submission: str | None = None) -> dict[JobState, int]:
    """How many jobs stand in each state, all states named."""
    query = select(col(AuditJob.state), func.count()).group_by(col(AuditJob.state))
    if submission is not None:
        query = query.where(col(AuditJob.submission) == submission)
    counted = {state: count for state, count in session.exec(query)}
    return {state: counted.get(state, 0) for state in JobState}


def verdict_counts(session: Session) -> dict[Verdict, int]:
    """How many results as submitted carry each verdict."""
    query = select(col(AuditResult.verdict), func.count()).where(col(AuditResult.profile) == OWN_PICTURE)
    counted = {verdict: count for verdict, count in session.exec(query.group_by(col(AuditResult.verdict)))}
    return {verdict: counted.get(verdict, 0) for verdict in Verdict}


def failure_counts(session: Session) -> dict[str, int]:
    """How many jobs ended under each error code."""
    query = select(col(AuditJob.error_code), func.count()).where(col(AuditJob.state) == JobState.FAILED)
    return {code or "": count for code, count in session.exec(query.group_by(col(AuditJob.error_code)))}


def oldest_waiting(session: Session) -> datetime | None:
    """When the job that has waited longest was submitted."""
    waiting = col(AuditJob.state).in_([JobState.QUEUED, JobState.RUNNING])
    return session.exec(select(func.min(col(AuditJob.created_at))).where(waiting)).one()


def ended_jobs(session: Session, submission: str, since: tuple[datetime, uuid.UUID] | None, limit: int = 500) -> list[AuditedJob]:
    """Jobs of one submission that ended after the given (finished_at, id), oldest first, with their results."""
    query = select(AuditJob).where(AuditJob.submission == submission, col(AuditJob.finished_at).is_not(None))
    if since is not None:
        at, last_id = since
        later = and_(col(AuditJob.finished_at) == at, col(AuditJob.id) > last_id)
        query = query.where(or_(col(AuditJob.finished_at) > at, later))
    jobs = session.exec(query.order_by(col(AuditJob.finished_at), col(AuditJob.id)).limit(limit)).all()
    return _with_results(session, jobs)


def read_results(session: Session, after: int, limit: int = 100, verdict: Verdict | None = None) -> list[AuditedJob]:
    """Results as submitted with an id above the cursor `after`, in the order of their ids, each with its profiles."""
    query = select(AuditResult).where(col(AuditResult.id) > after, col(AuditResult.profile) == OWN_PICTURE)
    if verdict is not None:
        query = query.where(col(AuditResult.verdict) == verdict)
    own = session.exec(query.order_by(col(AuditResult.id)).limit(limit)).all()
    jobs = {job.id: job for job in session.exec(select(AuditJob).where(col(AuditJob.id).in_([result.job_id for result in own])))}
    audited = {each.job.id: each for each in _with_results(session, list(jobs.values()))}
    return [AuditedJob(jobs[result.job_id], audited[result.job_id].results | {OWN_PICTURE: result}) for result in own]


def failed_jobs(session: Session, limit: int = 100) -> list[AuditJob]:
    """The jobs that failed last."""
    query = select(AuditJob).where(AuditJob.state == JobState.FAILED)
    return list(session.exec(query.order_by(col(AuditJob.updated_at).desc()).limit(limit)))


def _with_results(session: Session, jobs: Sequence[AuditJob]) -> list[AuditedJob]:
    query = select(AuditResult).where(col(AuditResult.job_id).in_([job.id for job in jobs])).order_by(col(AuditResult.id))
    results: dict[uuid.UUID, dict[str, AuditResult]] = {job.id: {} for job in jobs}
    for result in session.exec(query):
        results[result.job_id][result.profile] = result
    return [AuditedJob(job, results[job.id]) for job in jobs]
