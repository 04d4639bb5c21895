"""Every change to jobs and their results. Callers bring the session, and with it the transaction."""

import functools
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from sqlalchemy import Update, bindparam, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, SQLModel, col, select

from schemas.messages import AuditMessage
from schemas.records import ErrorRecord
from schemas.states import AuditQueue, JobState
from schemas.tables import AuditJob, AuditResult, Picture, now


@dataclass(frozen=True)
class NewJob:
    """One picture to audit, or one that was refused before it could be stored (`error`).

    Attributes:
        client_ref: the submitter's own name for this request; the same name is never audited twice.
    """

    source: str
    sha256: str | None
    bytes: int
    client_ref: str
    submission: str
    queue: AuditQueue = AuditQueue.DEFAULT
    profiles: tuple[str, ...] = ()
    error: ErrorRecord | None = None


def add_jobs(session: Session, new_jobs: Sequence[NewJob]) -> list[AuditJob]:
    """Make the rows of new jobs, and return the rows that need a message: new ones and those that never ended.

    A job whose `client_ref` is known is not made again. If it failed, it is queued for another try: whoever submits
    the same picture again wants it audited.
    """
    if not new_jobs:
        return []
    _insert_new(session, new_jobs)
    known = _jobs_by_ref(session, [new.client_ref for new in new_jobs])
    # By id: the same reference twice in one call is one job, sent once.
    to_send: dict[uuid.UUID, AuditJob] = {}
    for new in new_jobs:
        job = known[new.client_ref]
        job.submission = new.submission
        if job.state is JobState.FAILED and new.error is None:
            _requeue(job)
        if not job.state.ended:
            to_send[job.id] = job
    session.flush()
    for job in to_send.values():
        session.expunge(job)
    return list(to_send.values())


def claim_job(session: Session, message: AuditMessage) -> int | None:
    """Mark a job RUNNING and return the number of this attempt, from 1; None if it has already ended.

    A message that came without a row (a foreign producer's) gets one.
    """
    claimed = _count_attempt(session, message.job_id)
    if claimed is not None:
        return claimed
    row = {
        "id": message.job_id,
        "source": message.source,
        "sha256": message.sha256,
        "queue": message.queue,
        "profiles": list(message.profiles),
        "state": JobState.QUEUED,
        "attempts": 0,
        "created_at": now(),
        "updated_at": now(),
    }
    session.execute(_insert(session.get_bind().dialect.name, AuditJob).on_conflict_do_nothing(), [row])
    return _count_attempt(session, message.job_id)


def finish_job(session: Session, job_id: uuid.UUID, results: Sequence[AuditResult]) -> bool:
    """End a job as DONE and store its results, in the caller's one transaction.

    Returns:
        Whether this call ended it. The first outcome of a job stands: where two workers hold the same job after a
        redelivery, the later one's results are not stored.
    """
    if not _move(session, job_id, JobState.DONE, None):
        return False
    rows = [result.model_dump(exclude={"id"}) for result in results]
    session.connection().execute(_upsert_results(session.get_bind().dialect.name), rows)
    return True


def fail_job(session: Session, job_id: uuid.UUID, error: ErrorRecord) -> None:
    """End a job under a named error. A job that is done stays done."""
    _move(session, job_id, JobState.FAILED, error)


def release_job(session: Session, job_id: uuid.UUID, error: ErrorRecord) -> None:
    """Put a running job back to QUEUED before its next attempt, keeping the reason visible."""
    _move(session, job_id, JobState.QUEUED, error)


def touch_jobs(session: Session, job_ids: Iterable[uuid.UUID]) -> None:
    """Note that a message for these jobs was sent just now, so that they are not stale for a while."""
    session.execute(update(AuditJob).where(col(AuditJob.id).in_(list(job_ids))).values(updated_at=now()))


def _insert_new(session: Session, new_jobs: Sequence[NewJob]) -> None:
    """Make the rows that are not there. What two submitters add at once is made by one of them.

    In the order of their keys, or on PostgreSQL the two could wait for each other.
    """
    dialect = session.get_bind().dialect.name
    pictures = {new.sha256: new.bytes for new in new_jobs if new.sha256}
    if pictures:
        rows = [{"sha256": sha256, "bytes": size, "first_seen_at": now()} for sha256, size in sorted(pictures.items())]
        session.execute(_insert(dialect, Picture).on_conflict_do_nothing(), rows)
    jobs = [_job_row(new).model_dump() for new in sorted(new_jobs, key=lambda new: new.client_ref)]
    session.execute(_insert(dialect, AuditJob).on_conflict_do_nothing(), jobs)


def _jobs_by_ref(session: Session, refs: Sequence[str]) -> dict[str | None, AuditJob]:
    return {job.client_ref: job for job in session.exec(select(AuditJob).where(col(AuditJob.client_ref).in_(refs)))}


def _job_row(new: NewJob) -> AuditJob:
    job = AuditJob(
        client_ref=new.client_ref,
        submission=new.submission,
        source=new.source,
        sha256=new.sha256,
        queue=new.queue,
        profiles=list(new.profiles),
    )
    if new.error is not None:
        job.state, job.finished_at = JobState.FAILED, job.updated_at
        job.error_code, job.error_message = new.error.code, new.error.message
    return job


def _requeue(job: AuditJob) -> None:
    job.state, job.attempts, job.updated_at, job.finished_at = JobState.QUEUED, 0, now(), None
    job.error_code = job.error_message = None


def _count_attempt(session: Session, job_id: uuid.UUID) -> int | None:
    values = {"job_id": job_id, "updated_at": now()}
    attempt: int | None = session.connection().execute(_attempt(), values).scalar_one_or_none()
    return attempt


def _move(session: Session, job_id: uuid.UUID, target: JobState, error: ErrorRecord | None) -> bool:
    """Take a job to another state, with the reason; False if its state does not allow that."""
    code, message = (error.code, error.message) if error else (None, None)
    at = now()
    values = {"job_id": job_id, "updated_at": at, "finished_at": at if target.ended else None}
    return session.connection().execute(_transition(target), values | {"error_code": code, "error_message": message}).rowcount > 0


# The statements of the hot path are built once: building them costs several times what running them does.
_JOBS = SQLModel.metadata.tables["audit_job"]
_RESULTS = SQLModel.metadata.tables["audit_result"]


def _from_sources(target: JobState) -> Update:
    """UPDATE the job `job_id` to `target`, if its state allows that. Out of an end only a person leads (`_requeue`)."""
    allowed = _JOBS.c.state.in_([state for state in JobState.sources_of(target) if not state.ended])
    return (
        update(_JOBS).where(_JOBS.c.id == bindparam("job_id"), allowed).values(state=target, updated_at=bindparam("updated_at"))
    )


@functools.cache
def _attempt() -> Any:
    return _from_sources(JobState.RUNNING).values(attempts=_JOBS.c.attempts + 1).returning(_JOBS.c.attempts)


@functools.cache
def _transition(target: JobState) -> Update:
    columns = ("error_code", "error_message", "finished_at")
    return _from_sources(target).values({name: bindparam(name) for name in columns})


@functools.cache
def _upsert_results(dialect: str) -> Any:
    statement = _insert(dialect, AuditResult)
    keys = ["job_id", "model_version", "profile"]
    replaced = {column.name: statement.excluded[column.name] for column in _RESULTS.c if column.name not in ("id", *keys)}
    return statement.on_conflict_do_update(index_elements=keys, set_=replaced)


def _insert(dialect: str, table: type[SQLModel]) -> Any:
    """INSERT with ON CONFLICT, which both databases spell alike but SQLAlchemy keeps per dialect."""
    module: ModuleType = postgresql if dialect == "postgresql" else sqlite
    return module.insert(table)
