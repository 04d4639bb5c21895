"""Every reading of jobs and results. Callers bring the session."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, or_
from sqlmodel import Session, col, select

from schemas.states import AuditQueue, JobState, Verdict
from schemas.tables import OWN_PICTURE, AuditJob, AuditResult
from storage.feed import PATIENCE_S, wait_for_writers


@dataclass(frozen=True)
class AuditedJob:
    """A job with its results by profile; `own` is the picture as submitted, None when the job has no result."""

    job: AuditJob
    results: dict[str, AuditResult]

    @property
    def own(self) -> AuditResult | None:
        return self.results.get(OWN_PICTURE)


@dataclass(frozen=True)
class QueueLoad:
    """The unfinished jobs of one queue, as the store knows them.

    Attributes:
        queued: jobs that nobody holds: their message waits, is on its way round again, or is lost.
        running: jobs in some worker's hand.
        oldest: when the oldest of those queued was submitted; None if there are none.
    """

    queued: int = 0
    running: int = 0
    oldest: datetime | None = None


def queue_loads(session: Session) -> dict[AuditQueue, QueueLoad]:
    """The unfinished jobs by queue, all queues named. Reads each of them: ask no more often than every few seconds."""
    state, queue = col(AuditJob.state), col(AuditJob.queue)
    query = select(queue, state, func.count(), func.min(col(AuditJob.created_at))).where(
        state.in_([JobState.QUEUED, JobState.RUNNING])
    )
    loads = dict.fromkeys(AuditQueue, QueueLoad())
    for name, stands, count, oldest in session.exec(query.group_by(queue, state)):
        changes = {"queued": count, "oldest": oldest} if stands is JobState.QUEUED else {"running": count}
        loads[name] = replace(loads[name], **changes)
    return loads


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


def read_results(
    session: Session,
    after: int,
    limit: int = 100,
    verdict: Verdict | None = None,
    patience_s: float = PATIENCE_S,
    source_profile: str | None = None,
) -> list[AuditedJob]:
    """Results as submitted with an id above the cursor `after`, in the order of their ids, each with its profiles.

    `verdict` and `source_profile`, where given, are those of all results that are wanted.

    Whoever goes on from the last id of each page meets every result exactly once, whatever is written meanwhile
    (`storage.feed` says how). An empty page means that there is nothing more yet.

    Raises:
        StoreUnavailable: a transaction that writes results stays open for longer than `patience_s`.
    """
    wanted = [col(AuditResult.id) > after, col(AuditResult.profile) == OWN_PICTURE]
    if verdict is not None:
        wanted.append(col(AuditResult.verdict) == verdict)
    if source_profile is not None:
        wanted.append(of_source_profile(source_profile))
    up_to = session.exec(select(col(AuditResult.id)).where(*wanted).order_by(col(AuditResult.id)).limit(limit)).all()
    if not up_to:
        return []
    wait_for_writers(session, patience_s)
    # Again, and not further: what was in the making below the last id is there now.
    query = select(AuditResult).where(*wanted, col(AuditResult.id) <= up_to[-1])
    own = session.exec(query.order_by(col(AuditResult.id)).limit(limit)).all()
    return _with_jobs(session, own)


def newest_audit(session: Session, sha256: str) -> AuditedJob | None:
    """The job with results that ended last of those that were for this picture."""
    done = select(AuditJob).where(col(AuditJob.sha256) == sha256, col(AuditJob.state) == JobState.DONE)
    job = session.exec(
        done.where(col(AuditJob.finished_at).is_not(None)).order_by(col(AuditJob.finished_at).desc()).limit(1)
    ).first()
    return None if job is None else _with_results(session, [job])[0]


def audited_of_result(session: Session, number: int) -> AuditedJob | None:
    """The job of one result, by its number, with all its results."""
    result = session.get(AuditResult, number)
    job = None if result is None else session.get(AuditJob, result.job_id)
    return None if job is None else _with_results(session, [job])[0]


def result_numbered(session: Session, number: int) -> AuditedJob | None:
    """One result as submitted, by its number, with its job and the simulated deliveries by the same model version."""
    own = session.get(AuditResult, number)
    found = _with_jobs(session, [own]) if own is not None and own.profile == OWN_PICTURE else []
    return found[0] if found else None


def of_source_profile(name: str) -> ColumnElement[bool]:
    """The results whose pictures were taken from this network."""
    # By the job of each result met, which is cheap; through a join the database might gather all of the network's jobs first.
    job = select(col(AuditJob.id)).where(col(AuditJob.id) == col(AuditResult.job_id), col(AuditJob.source_profile) == name)
    return job.exists()


def failed_jobs(session: Session, limit: int = 100, source_profile: str | None = None) -> list[AuditJob]:
    """The jobs that failed last, of pictures taken from one network if it is named."""
    query = select(AuditJob).where(AuditJob.state == JobState.FAILED)
    if source_profile is not None:
        query = query.where(AuditJob.source_profile == source_profile)
    return list(session.exec(query.order_by(col(AuditJob.updated_at).desc()).limit(limit)))


def _with_results(session: Session, jobs: Sequence[AuditJob]) -> list[AuditedJob]:
    query = select(AuditResult).where(col(AuditResult.job_id).in_([job.id for job in jobs])).order_by(col(AuditResult.id))
    results: dict[uuid.UUID, dict[str, AuditResult]] = {job.id: {} for job in jobs}
    for result in session.exec(query):
        results[result.job_id][result.profile] = result
    return [AuditedJob(job, results[job.id]) for job in jobs]


def _with_jobs(session: Session, own: Sequence[AuditResult]) -> list[AuditedJob]:
    """Results as submitted with their jobs and the simulated deliveries by the same model version."""
    job_ids = [result.job_id for result in own]
    jobs = {job.id: job for job in session.exec(select(AuditJob).where(col(AuditJob.id).in_(job_ids)))}
    results: dict[tuple[uuid.UUID, str], dict[str, AuditResult]] = {}
    query = select(AuditResult).where(col(AuditResult.job_id).in_(job_ids)).order_by(col(AuditResult.id))
    for result in session.exec(query):
        results.setdefault((result.job_id, result.model_version), {})[result.profile] = result
    # A job that retention deleted between the two queries took its results with it.
    known = [result for result in own if result.job_id in jobs]
    return [
        AuditedJob(jobs[result.job_id], results.get((result.job_id, result.model_version), {}) | {OWN_PICTURE: result})
        for result in known
    ]
