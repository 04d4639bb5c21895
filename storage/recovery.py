"""Jobs that come back: those whose message was lost, whose worker died, or that failed and are sent round again."""

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, func, or_, update
from sqlmodel import Session, SQLModel, col, select
from sqlmodel.sql.expression import SelectOfScalar

from schemas.errors import InternalError, TamperwatchError
from schemas.states import AuditQueue, JobState
from schemas.tables import AuditJob, now
from storage.database import Database
from storage.jobs import touch_jobs

_JOBS = SQLModel.metadata.tables["audit_job"]
_BATCH = 500


@dataclass(frozen=True)
class FailedJobs:
    """Which of the failed jobs are meant.

    Attributes:
        codes: only these error codes; none for every code.
        submission: only jobs of this submission.
        since: only what failed at this time or later.
        permanent: also jobs whose error would only repeat itself, such as a file that is no picture.
    """

    codes: tuple[str, ...] = ()
    submission: str | None = None
    since: datetime | None = None
    permanent: bool = False

    def conditions(self) -> list[ColumnElement[bool]]:
        """The WHERE clause. A job that was refused before its bytes were stored has nothing to send."""
        wanted: list[ColumnElement[bool]] = [col(AuditJob.state) == JobState.FAILED, _has_picture()]
        if self.codes:
            wanted.append(col(AuditJob.error_code).in_(self.codes))
        if self.submission is not None:
            wanted.append(col(AuditJob.submission) == self.submission)
        if self.since is not None:
            wanted.append(col(AuditJob.finished_at) >= self.since)
        if not self.permanent:
            wanted.append(col(AuditJob.error_code).in_(dead_letter_codes()))
        return wanted


def dead_letter_codes() -> frozenset[str]:
    """The codes of failures that another try may mend: what was transient, and what was a defect of ours."""
    return frozenset(kind.code for kind in _kinds(TamperwatchError) if not kind.permanent or kind is InternalError)


def count_failed(session: Session, wanted: FailedJobs) -> dict[str, int]:
    """How many of these failed jobs there are under each code."""
    query = select(col(AuditJob.error_code), func.count()).where(*wanted.conditions()).group_by(col(AuditJob.error_code))
    return {code or "": count for code, count in session.exec(query.order_by(col(AuditJob.error_code)))}


def requeue_failed(database: Database, wanted: FailedJobs, batch: int = _BATCH) -> Iterator[list[AuditJob]]:
    """Put failed jobs back to QUEUED, one committed batch after another, and yield each batch for sending.

    What fails again in the meantime is left for the next call, so this ends.

    Raises:
        StoreUnavailable: what was yielded is queued; call again for the rest.
    """
    started = now()
    after: tuple[datetime, uuid.UUID] | None = None
    while True:
        with database.write() as session:
            conditions = [*wanted.conditions(), col(AuditJob.updated_at) <= started]
            if after is not None:
                at, last_id = after
                conditions.append(
                    or_(col(AuditJob.updated_at) > at, and_(col(AuditJob.updated_at) == at, col(AuditJob.id) > last_id))
                )
            keys = select(AuditJob.updated_at, AuditJob.id).where(*conditions)
            page = session.exec(keys.order_by(col(AuditJob.updated_at), col(AuditJob.id)).limit(batch)).all()
            jobs = requeue_jobs(session, [job_id for _, job_id in page], JobState.FAILED)
        if not page:
            return
        after = page[-1]
        yield jobs


def requeue_jobs(session: Session, job_ids: Iterable[uuid.UUID], state: JobState) -> list[AuditJob]:
    """Put ended jobs back to QUEUED, their attempts at 0 and the count of retries one higher, and return them for sending.

    Args:
        state: the end they must stand at; what has left it is not touched, so that two callers at once requeue once.
    """
    ended = update(_JOBS).where(_JOBS.c.id.in_(list(job_ids)), _JOBS.c.state == state)
    requeued = {"state": JobState.QUEUED, "attempts": 0, "retries": _JOBS.c.retries + 1, "updated_at": now()}
    cleared = dict.fromkeys(("finished_at", "claimed_at", "error_code", "error_message"))
    ids = session.connection().execute(ended.values(requeued | cleared).returning(_JOBS.c.id)).scalars().all()
    jobs = list(session.exec(select(AuditJob).where(col(AuditJob.id).in_(ids)).execution_options(populate_existing=True)))
    session.expunge_all()
    return jobs


def forget_claims(session: Session) -> None:
    """Put every running job back to QUEUED. Only where no worker can be alive, as in a private stack that is starting."""
    running = update(_JOBS).where(_JOBS.c.state == JobState.RUNNING)
    session.connection().execute(running.values(state=JobState.QUEUED, claimed_at=None, updated_at=now()))


def any_lost(session: Session, older_than_s: float) -> bool:
    """Whether a job of any queue has neither ended nor moved for this long."""
    # One after the other, each a short stretch of the index; joined by OR they have the database read every unfinished job.
    return any(session.exec(_unfinished().where(each).limit(1)).first() is not None for each in _long_ago(older_than_s))


def take_lost(
    session: Session, queues: Iterable[AuditQueue], older_than_s: float, limit: int = _BATCH, as_of: datetime | None = None
) -> list[AuditJob]:
    """Jobs that have neither ended nor moved for this long, oldest first, marked as sent just now.

    With `as_of`, those of which that was true then: whoever takes batch after batch, for however long, takes no job twice.

    Of those that nobody has claimed, only the ones of these queues: elsewhere they may be waiting their turn. A claimed one
    has had its turn; in a queue that never empties it would wait for ever. Two sweepers at once take different ones.
    """
    may_wait = or_(col(AuditJob.queue).in_(list(queues)), col(AuditJob.state) == JobState.RUNNING)
    query = _lost(older_than_s, as_of).where(may_wait).order_by(col(AuditJob.updated_at)).limit(limit)
    lost = list(session.exec(query.with_for_update(skip_locked=True)))
    session.expunge_all()
    touch_jobs(session, [job.id for job in lost])
    return lost


def _lost(older_than_s: float, as_of: datetime | None = None) -> SelectOfScalar[AuditJob]:
    return _unfinished().where(or_(*_long_ago(older_than_s, as_of)))


def _unfinished() -> SelectOfScalar[AuditJob]:
    return select(AuditJob).where(col(AuditJob.state).in_([state for state in JobState if not state.ended]), _has_picture())


def _long_ago(older_than_s: float, as_of: datetime | None = None) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    at, age = now(), timedelta(seconds=older_than_s)
    # What moved far in the future was moved by a clock that has been set back since; it must not wait until then.
    return col(AuditJob.updated_at) < (as_of or at) - age, col(AuditJob.updated_at) > at + age


def _has_picture() -> ColumnElement[bool]:
    """Whether there is anything to send: a job that was refused before its bytes were stored names none."""
    return or_(col(AuditJob.sha256).is_not(None), col(AuditJob.url).is_not(None))


def _kinds(root: type[TamperwatchError]) -> Iterator[type[TamperwatchError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _kinds(kind)
