"""Every change to jobs and their results. Callers bring the session, and with it the transaction."""

import functools
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any

from sqlalchemy import ColumnElement, Select, Update, bindparam, or_, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, SQLModel, col, select

from schemas.messages import AuditMessage
from schemas.records import ErrorRecord
from schemas.states import AuditQueue, JobState
from schemas.tables import AuditJob, AuditResult, AuditResultBase, Picture, now


@dataclass(frozen=True)
class NewJob:
    """One picture to audit, or one that was refused before it could be stored (`error`).

    Attributes:
        client_ref: the submitter's own name for this request; the same name is never audited twice.
        source_profile: the network the picture was taken from, where the submitter knows.
        url: where a worker fetches the bytes, in place of `sha256`.
    """

    source: str
    sha256: str | None
    bytes: int
    client_ref: str
    submission: str
    queue: AuditQueue = AuditQueue.DEFAULT
    profiles: tuple[str, ...] = ()
    source_profile: str | None = None
    error: ErrorRecord | None = None
    url: str | None = None


@dataclass(frozen=True)
class Claim:
    """A job in our hand.

    Attributes:
        attempt: which try this is, from 1.
        fence: the number under which the job may be ended or let go. A later claim has a higher one, and makes this void.
        sha256: of the job's picture, as its row has it: empty until a picture named by its URL was fetched.
        explained: whether an earlier attempt told why it failed. Attempts that told nothing died.
    """

    attempt: int
    fence: int
    sha256: str | None = None
    explained: bool = False


@dataclass(frozen=True)
class Finished:
    """The results of a claimed job, which may end with them."""

    job_id: uuid.UUID
    fence: int
    results: Sequence[AuditResultBase]


@dataclass(frozen=True)
class Held:
    """A job in another hand, which keeps it for `free_in_s` at most unless it ends it."""

    free_in_s: float


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
            job.sha256, job.url, job.source, job.source_profile = new.sha256, new.url, new.source, new.source_profile
            _requeue(job)
        if not job.state.ended:
            to_send[job.id] = job
    session.flush()
    for job in to_send.values():
        session.expunge(job)
    return list(to_send.values())


def continue_jobs(session: Session, refs: Sequence[str], submission: str) -> dict[str, AuditJob]:
    """Let the jobs that are known under these client references join a submission, and return them by reference.

    Without those that failed: they want their picture again, through `add_jobs`.
    """
    known = {ref: job for ref, job in _jobs_by_ref(session, refs).items() if ref and job.state is not JobState.FAILED}
    for job in known.values():
        job.submission = submission
    session.flush()
    for job in known.values():
        session.expunge(job)
    return known


def claim_job(session: Session, message: AuditMessage, lease_s: float = 120.0) -> Claim | Held | None:
    """Mark a job RUNNING in the caller's hand; None if it has already ended.

    A job that another hand claimed less than `lease_s` ago is left to that hand, and no attempt is counted: the message
    is a duplicate, or a redelivery that came early. An older claim is a dead worker's and is taken over; should its
    holder be alive after all, the fence keeps its late outcome out. So is a claim from further ahead than `lease_s`,
    which a clock set back leaves behind. A message that came without a row (a foreign producer's) gets one.
    """
    return claim_jobs(session, [message], lease_s)[0]


def claim_jobs(session: Session, messages: Sequence[AuditMessage], lease_s: float = 120.0) -> list[Claim | Held | None]:
    """Claim many jobs as `claim_job` claims one, with as many statements; the answers are in the messages' order.

    Of two messages for the same job the first gets it.
    """
    wanted = {message.job_id: message for message in messages}
    claims = _take(session, list(wanted), lease_s)
    standing = _standing(session, [job_id for job_id in wanted if job_id not in claims], lease_s)
    foreign = [message for job_id, message in wanted.items() if job_id not in claims and job_id not in standing]
    for message in foreign:
        _add_foreign(session, message)
    claims |= _take(session, [message.job_id for message in foreign], lease_s)
    # Neither claimed nor standing: another hand took it this moment.
    return [claims.pop(job_id, None) or standing.get(job_id, Held(lease_s)) for job_id in (each.job_id for each in messages)]


def finish_job(session: Session, job_id: uuid.UUID, results: Sequence[AuditResultBase], fence: int | None = None) -> bool:
    """End a job as DONE and store its results, in the caller's one transaction.

    Args:
        results: none where they are in the store already.
        fence: of the claim under which the results were made; None where nobody claims the job.

    Returns:
        Whether this call ended it. If not, nothing was changed: it has ended, or another hand has claimed it since.
    """
    if not _move(session, job_id, JobState.DONE, None, fence):
        return False
    rows = [result.model_dump(exclude={"id"}) for result in results]
    if rows:
        session.connection().execute(upsert_results(session.get_bind().dialect.name), rows)
    return True


def finish_jobs(session: Session, finished: Sequence[Finished]) -> list[bool]:
    """End many claimed jobs as `finish_job` ends one, with two statements, and return which of them this call ended."""
    at = now()
    held = [(each.job_id, each.fence) for each in finished]
    values = {"job_ids": [job_id for job_id, _ in held], "held": held, "updated_at": at, "finished_at": at}
    ended = {tuple(row) for row in session.connection().execute(_finish(), values)} if finished else set()
    rows = [
        result.model_dump(exclude={"id"}) for each in finished if (each.job_id, each.fence) in ended for result in each.results
    ]
    if rows:
        session.connection().execute(upsert_results(session.get_bind().dialect.name), rows)
    return [pair in ended for pair in held]


def fail_job(session: Session, job_id: uuid.UUID, error: ErrorRecord, fence: int | None = None) -> bool:
    """End a job under a named error, and return whether it did. What `finish_job` would not end is left as it is."""
    return _move(session, job_id, JobState.FAILED, error, fence)


def release_job(session: Session, job_id: uuid.UUID, error: ErrorRecord, fence: int | None = None) -> bool:
    """Put a running job back to QUEUED before its next attempt, keeping the reason visible; False if it is no longer ours."""
    return _move(session, job_id, JobState.QUEUED, error, fence)


def give_back_job(session: Session, job_id: uuid.UUID, fence: int) -> None:
    """Undo a claim whose work was not done: the worker is stopping. The attempt does not count."""
    ours = (_JOBS.c.id == job_id, _JOBS.c.state == JobState.RUNNING, _JOBS.c.fence == fence)
    back = {"state": JobState.QUEUED, "claimed_at": None, "attempts": _JOBS.c.attempts - 1, "updated_at": now()}
    session.connection().execute(update(_JOBS).where(*ours).values(back))


def record_picture(session: Session, job_id: uuid.UUID, sha256: str, size_bytes: int, fence: int) -> bool:
    """Note which bytes lay under a job's URL, once they are in the blob store; False if the job is no longer ours."""
    picture = Picture(sha256=sha256, bytes=size_bytes)
    insert = _insert(session.get_bind().dialect.name, Picture).on_conflict_do_nothing()
    session.execute(insert, [picture.model_dump()])
    ours = (_JOBS.c.id == job_id, _JOBS.c.state == JobState.RUNNING, _JOBS.c.fence == fence)
    return session.connection().execute(update(_JOBS).where(*ours).values(sha256=sha256)).rowcount > 0


@functools.cache
def upsert_results(dialect: str, rows: Select[Any] | None = None) -> Any:
    """INSERT results, in place of those of the same job, version and profile.

    Args:
        rows: gives every column but the id, in the table's order; None where the values come with the execution.
    """
    statement = _insert(dialect, AuditResult)
    if rows is not None:
        statement = statement.from_select([column.name for column in _RESULTS.c if column.name != "id"], rows, False)
    keys = ["job_id", "model_version", "profile"]
    replaced = {column.name: statement.excluded[column.name] for column in _RESULTS.c if column.name not in ("id", *keys)}
    return statement.on_conflict_do_update(index_elements=keys, set_=replaced)


def touch_jobs(session: Session, job_ids: Iterable[uuid.UUID]) -> None:
    """Note that a message for these jobs was sent just now, so that they are not stale for a while."""
    session.execute(update(_JOBS).where(_JOBS.c.id.in_(list(job_ids))).values(updated_at=now()))


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
        url=new.url,
        queue=new.queue,
        profiles=list(new.profiles),
        source_profile=new.source_profile,
    )
    if new.error is not None:
        job.state, job.finished_at = JobState.FAILED, job.updated_at
        job.error_code, job.error_message = new.error.code, new.error.message
    return job


def _requeue(job: AuditJob) -> None:
    job.state, job.attempts, job.updated_at, job.finished_at = JobState.QUEUED, 0, now(), None
    job.retries += 1
    job.error_code = job.error_message = None


def _take(session: Session, job_ids: Sequence[uuid.UUID], lease_s: float) -> dict[uuid.UUID, Claim]:
    """Claim what is free of these jobs."""
    if not job_ids:
        return {}
    at, lease = now(), timedelta(seconds=lease_s)
    # In order, or on PostgreSQL two workers with the same duplicates could wait for each other.
    values = {"job_ids": sorted(job_ids), "updated_at": at, "claimed_at": at, "lapsed": at - lease, "ahead": at + lease}
    rows = session.connection().execute(_claim(), values).all()
    return {row.id: Claim(row.attempts, row.fence, row.sha256, row.error_code is not None) for row in rows}


def _standing(session: Session, job_ids: Sequence[uuid.UUID], lease_s: float) -> dict[uuid.UUID, Held | None]:
    """Why these jobs could not be claimed: another hand has them, or, None, they have ended. Jobs without a row are left out."""
    if not job_ids:
        return {}
    columns = select(_JOBS.c.id, _JOBS.c.state, _JOBS.c.claimed_at).where(_JOBS.c.id.in_(job_ids))
    rows = session.connection().execute(columns).all()
    return {row.id: None if row.state.ended else Held(_left_s(row.claimed_at, lease_s)) for row in rows}


def _left_s(claimed_at: datetime | None, lease_s: float) -> float:
    """How long another hand's claim still holds. None if it was let go while we looked."""
    return 0.0 if claimed_at is None else max(0.0, lease_s - (now() - claimed_at).total_seconds())


def _add_foreign(session: Session, message: AuditMessage) -> None:
    """Make the rows that a producer without our code left to us."""
    job = AuditJob(
        id=message.job_id,
        source=message.source,
        sha256=message.sha256,
        url=message.url,
        queue=message.queue,
        profiles=list(message.profiles),
        source_profile=message.source_profile,
    )
    pictures = [Picture(sha256=message.sha256, bytes=0)] if message.sha256 else []
    for row in (*pictures, job):
        insert = _insert(session.get_bind().dialect.name, type(row)).on_conflict_do_nothing()
        session.execute(insert, [row.model_dump()])


def _move(session: Session, job_id: uuid.UUID, target: JobState, error: ErrorRecord | None, fence: int | None) -> bool:
    """Take a job to another state, with the reason; False if its state or its fence does not allow that."""
    at = now()
    values = {
        "job_ids": [job_id],
        "updated_at": at,
        "finished_at": at if target.ended else None,
        "error_code": error.code if error else None,
        "error_message": error.message if error else None,
    }
    fenced = {} if fence is None else {"held_fence": fence}
    return session.connection().execute(_transition(target, fence is not None), values | fenced).rowcount > 0


# The statements of the hot path are built once: building them costs several times what running them does.
_JOBS = SQLModel.metadata.tables["audit_job"]
_RESULTS = SQLModel.metadata.tables["audit_result"]


def _from_sources(target: JobState, *only: ColumnElement[bool]) -> Update:
    """UPDATE the jobs `job_ids` to `target`, where their state allows that.

    Out of an end only a person leads (`storage.recovery`).
    """
    allowed = _JOBS.c.state.in_([state for state in JobState.sources_of(target) if not state.ended])
    named = _JOBS.c.id.in_(bindparam("job_ids", expanding=True))
    return update(_JOBS).where(named, allowed, *only).values({"updated_at": bindparam("updated_at"), "state": target})


@functools.cache
def _claim() -> Any:
    claimed_at = _JOBS.c.claimed_at
    free = or_(claimed_at.is_(None), claimed_at <= bindparam("lapsed"), claimed_at > bindparam("ahead"))
    counted = {"attempts": _JOBS.c.attempts + 1, "fence": _JOBS.c.fence + 1, "claimed_at": bindparam("claimed_at")}
    columns = (_JOBS.c.id, _JOBS.c.attempts, _JOBS.c.fence, _JOBS.c.sha256, _JOBS.c.error_code)
    return _from_sources(JobState.RUNNING, free).values(counted).returning(*columns)


@functools.cache
def _finish() -> Any:
    # Beside the ids, which the index finds: no database is sure to find pairs.
    held = tuple_(_JOBS.c.id, _JOBS.c.fence).in_(bindparam("held", expanding=True))
    cleared = dict.fromkeys(("claimed_at", "error_code", "error_message"))
    ended = _from_sources(JobState.DONE, _JOBS.c.state == JobState.RUNNING, held).values(
        cleared | {"finished_at": bindparam("finished_at")}
    )
    return ended.returning(_JOBS.c.id, _JOBS.c.fence)


@functools.cache
def _transition(target: JobState, fenced: bool) -> Update:
    held = (_JOBS.c.state == JobState.RUNNING, _JOBS.c.fence == bindparam("held_fence")) if fenced else ()
    given: dict[str, Any] = {name: bindparam(name) for name in ("error_code", "error_message", "finished_at")}
    return _from_sources(target, *held).values(given | {"claimed_at": None})


def _insert(dialect: str, table: type[SQLModel]) -> Any:
    """INSERT with ON CONFLICT, which both databases spell alike but SQLAlchemy keeps per dialect."""
    module: ModuleType = postgresql if dialect == "postgresql" else sqlite
    return module.insert(table)
