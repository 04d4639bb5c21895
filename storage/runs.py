"""Retraining runs: begun one at a time, moved on only by whoever holds their lease, and what each of them says of itself.

Callers bring the session. Every writing of a trainer is fenced: it happens in a transaction that has made sure of the lease, so a
trainer that stood still while another one took over changes nothing any more.
"""

import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import func
from sqlmodel import Session, col, select

from schemas.errors import InvalidInput
from schemas.learning_tables import RetrainRun
from schemas.states import RetrainState, RetrainTrigger
from schemas.tables import now
from storage import leases
from storage.database import Database
from storage.leases import Held
from storage.turns import take_turns

LEASE: Final = "retrain"
"""Whoever holds it may train."""

SEEDS: Final = 2**31
_CLOCKS_DIFFER: Final = timedelta(hours=1)
_TURN = "retraining runs"
_ENDED = tuple(state for state in RetrainState if state.ended)
_JUDGED = (RetrainState.PROMOTED, RetrainState.PROPOSED, RetrainState.REJECTED)
_ID_PART = re.compile(r"[0-9a-f-]{1,36}")


class RunEnded(Exception):
    """The run has ended meanwhile: a person cancelled it."""


@dataclass(frozen=True)
class Past:
    """What a timetable goes by.

    Attributes:
        scheduled_at: when the last run was begun by the clock.
        ended_at: when the last run ended, however it was begun.
        read_up_to: number of the newest annotation that any run has read.
    """

    scheduled_at: datetime | None
    ended_at: datetime | None
    read_up_to: int


@dataclass(frozen=True)
class Read:
    """How far runs that were judged have read the annotations, by their numbers; as `scheduler.labels.History`."""

    finished: int
    learned: int


def begin(session: Session, trigger: RetrainTrigger, code_version: str = "") -> tuple[RetrainRun, bool]:
    """Add a run that waits for a trainer, unless one has not ended yet.

    Returns:
        The run, and whether it is a new one.
    """
    take_turns(session, [_TURN])
    waiting = unended(session)
    if waiting is not None:
        return waiting, False
    row = RetrainRun(trigger=trigger, code_version=code_version, message="waits for a trainer")
    row.seed = row.id.int % SEEDS
    session.add(row)
    session.flush()
    return row, True


def unended(session: Session) -> RetrainRun | None:
    """The run that waits or is under way."""
    query = select(RetrainRun).where(col(RetrainRun.state).not_in(_ENDED)).order_by(col(RetrainRun.created_at))
    return session.exec(query.execution_options(populate_existing=True)).first()


def get(session: Session, run_id: uuid.UUID) -> RetrainRun:
    """One run.

    Raises:
        InvalidInput: there is none.
    """
    row = session.get(RetrainRun, run_id, populate_existing=True)
    if row is None:
        raise InvalidInput(f"no retraining run {run_id}; `tamperwatch retrain list` shows them")
    return row


def named(session: Session, text: str) -> RetrainRun:
    """The run whose id is, or begins with, this text; "last" is the newest one.

    Raises:
        InvalidInput: none is, or several are.
    """
    if text == "last":
        found = listed(session, 1)
    else:
        wanted = text.strip().lower()
        rows = session.exec(select(RetrainRun.id)).all() if _ID_PART.fullmatch(wanted) else []
        found = [get(session, each) for each in rows if str(each).startswith(wanted)]
    if len(found) != 1:
        what = f"{len(found)} runs begin with {text!r}" if found else f"no retraining run {text!r}"
        raise InvalidInput(f"{what}; `tamperwatch retrain list` shows them")
    return found[0]


def listed(session: Session, limit: int = 20) -> list[RetrainRun]:
    """Runs, newest first."""
    return list(session.exec(select(RetrainRun).order_by(col(RetrainRun.created_at).desc()).limit(limit)))


def past(session: Session, at: datetime) -> Past:
    """What has been, for a timetable that is looked at now.

    Args:
        at: the time. What bears a later one, by more than clocks differ, was written under a clock that ran ahead, and would
            otherwise put off every night until then.
    """
    created, finished = col(RetrainRun.created_at), col(RetrainRun.finished_at)
    scheduled = select(func.max(created)).where(RetrainRun.trigger == RetrainTrigger.SCHEDULE, created <= at + _CLOCKS_DIFFER)
    ended = select(func.max(finished)).where(col(RetrainRun.state).in_(_ENDED), finished <= at + _CLOCKS_DIFFER)
    read = select(func.max(col(RetrainRun.last_annotation_id)))
    return Past(session.exec(scheduled).one(), session.exec(ended).one(), session.exec(read).one() or 0)


def read_so_far(session: Session, live_version: str) -> Read:
    """How far the last judged run has read, and how far the one that made this version had."""
    column = func.max(col(RetrainRun.last_annotation_id))
    judged = session.exec(select(column).where(col(RetrainRun.state).in_(_JUDGED))).one()
    learned = session.exec(select(column).where(RetrainRun.candidate_version == live_version)).one()
    return Read(judged or 0, learned or 0)


def last_manifest(session: Session) -> RetrainRun | None:
    """The run that froze the newest manifest, however it ended: the ledger it names is the one that holds."""
    # By how far they had read before by their times, which a clock that was set back puts into another order.
    order = (col(RetrainRun.last_annotation_id).desc(), col(RetrainRun.created_at).desc())
    return session.exec(select(RetrainRun).where(col(RetrainRun.manifest_key).is_not(None)).order_by(*order)).first()


def move(session: Session, held: Held, run_id: uuid.UUID, state: RetrainState, **changes: Any) -> RetrainRun:
    """Let a run become `state`, with other columns set anew; ends, and the start, are timed.

    Raises:
        leases.LeaseLost: another trainer has it.
        RunEnded: it was cancelled.
        ValueError: it may not become that.
    """
    leases.check(session, held)
    row = _locked(session, run_id)
    if row.state.ended:
        raise RunEnded(str(run_id))
    return _moved(session, row, state, changes)


def cancel(session: Session, run_id: uuid.UUID) -> RetrainRun:
    """Ask a run to end. One that no trainer holds ends at once; another one does at its trainer's next look.

    Raises:
        InvalidInput: there is no such run, or it has ended.
    """
    row = _locked(session, run_id)
    if row.state.ended:
        raise InvalidInput(f"run {short(row.id)} has ended already: {row.state.value}")
    row.cancel_requested = True
    if leases.holder(session, LEASE) is None:
        return _moved(session, row, RetrainState.CANCELLED, {"reason": "cancelled while no trainer was at it", "message": ""})
    session.add(row)
    return row


def short(run_id: uuid.UUID) -> str:
    """What people call a run: the first eight digits of its id."""
    return str(run_id)[:8]


class Progress:
    """Writes down how far a run is, now and then, and says whether a person wants it to end."""

    def __init__(self, database: Database, held: Held, run_id: uuid.UUID, every_s: float = 3.0) -> None:
        """Nothing is written yet.

        Args:
            every_s: least time between two writings.
        """
        self._database, self._held, self._run_id = database, held, run_id
        self._every_s, self._told_s = every_s, float("-inf")
        self._cancelled = False

    def tell(self, message: str, at_once: bool = False, **changes: Any) -> bool:
        """Note what the run is at; whether it is to be cancelled.

        Args:
            message: in words.
            at_once: write it even where something was written a moment ago.
            changes: other columns, such as `step`.

        Raises:
            leases.LeaseLost, RunEnded
        """
        if not at_once and time.monotonic() - self._told_s < self._every_s:
            return self._cancelled
        with self._database.write() as session:
            row = get(session, self._run_id)
            move(session, self._held, self._run_id, row.state, message=message, **changes)
            self._cancelled = row.cancel_requested
        self._told_s = time.monotonic()
        return self._cancelled


def _moved(session: Session, row: RetrainRun, state: RetrainState, changes: Mapping[str, Any]) -> RetrainRun:
    if not row.state.may_become(state):
        raise ValueError(f"a retraining run that is {row.state.value} cannot become {state.value}")
    for name, value in changes.items():
        setattr(row, name, value)
    row.state, row.updated_at = state, now()
    if row.started_at is None and state is not RetrainState.QUEUED:
        row.started_at = row.updated_at
    if state.ended:
        row.finished_at = row.updated_at
    session.add(row)
    session.flush()
    return row


def _locked(session: Session, run_id: uuid.UUID) -> RetrainRun:
    query = select(RetrainRun).where(RetrainRun.id == run_id).with_for_update()
    row = session.exec(query.execution_options(populate_existing=True)).one_or_none()
    return row if row is not None else get(session, run_id)
