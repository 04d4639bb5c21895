"""Looks every minute whether a retraining run is due, and whether one waits for a trainer. Celery's beat keeps the minutes.

Nothing is remembered here: what is due follows from the settings, the time and the runs in SQL. So any number of these may run,
one that was away catches up, and a run that lost its message or its trainer is rung for again.
"""

import logging
import signal
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from celery import Celery
from celery.beat import ScheduleEntry, Scheduler, Service
from sqlmodel import Session

from scheduler.app import ring
from scheduler.code_version import code_version
from scheduler.timetable import Due, due, missed
from schemas.errors import TamperwatchError
from schemas.learning_tables import RetrainRun
from schemas.retrain_settings import ScheduleSettings
from schemas.settings import Settings
from schemas.states import RetrainTrigger
from schemas.tables import now
from storage import leases, runs, telemetry_runs
from storage.annotation_queries import count_new
from storage.database import Database

log = logging.getLogger(__name__)

_LOOKS_AGAIN_S: Final = 5.0
"""Celery's beat sleeps no longer than this, so that a signal is heard."""


@dataclass(frozen=True)
class Looked:
    """What a look found.

    Attributes:
        begun: the run that was begun just now.
        rung: whether a trainer was woken up.
        missed: nights that have passed without a run.
    """

    begun: uuid.UUID | None = None
    rung: bool = False
    missed: tuple[datetime, ...] = ()


class Timetable:
    """The decisions of one beat process."""

    def __init__(self, database: Database, app: Celery, settings: ScheduleSettings, clock: Callable[[], datetime] = now) -> None:
        """Nothing is asked yet.

        Args:
            database: of the runs.
            app: the trainer's.
            settings: when runs are due.
            clock: the time, with a zone.
        """
        self._database, self._app, self._settings, self._clock = database, app, settings, clock
        self._told: set[datetime] = set()

    def look(self) -> Looked:
        """Begin a run if one is due, and wake a trainer up if a run waits for one.

        Raises:
            StoreUnavailable, BrokerUnavailable: the next look does what this one did not.
        """
        at = self._clock()
        with self._database.write() as session:
            waiting, past = runs.unended(session), runs.past(session, at)
            nights = missed(at, past, self._settings)
            begun = None if waiting else self._begun(session, at, past)
            run = waiting or begun
            idle = run is not None and leases.holder(session, runs.LEASE) is None
            run_id = run.id if run else None
        self._tell(nights)
        rung = ring(self._app, run_id) if idle and run_id else False
        telemetry_runs.LOOKED.set_to_current_time()
        return Looked(run_id if begun else None, rung, tuple(nights))

    def look_safely(self) -> None:
        """The same; what goes wrong is logged, and the next look comes."""
        try:
            found = self.look()
        except TamperwatchError as error:
            log.warning("no look at the timetable this time: %s", error.message)
            return
        except Exception:
            log.exception("no look at the timetable this time: defect")
            return
        if found.rung:
            log.info("a trainer was called for a run that waits")

    def _begun(self, session: Session, at: datetime, past: runs.Past) -> RetrainRun | None:
        settings = self._settings
        boxes = count_new(session, past.read_up_to).boxes if settings.after_boxes else 0
        found = due(at, past, boxes, settings)
        if found is None:
            return None
        run, is_new = _begin(session, found)
        if is_new:
            log.info("run %s begins: %s", runs.short(run.id), found.why)
            telemetry_runs.BEGUN.labels(found.trigger.value).inc()
        return run if is_new else None

    def _tell(self, nights: list[datetime]) -> None:
        new = [night for night in nights if night not in self._told]
        self._told.update(new)
        telemetry_runs.MISSED.inc(len(new))
        if new:
            log.warning(
                "nights missed: %d, the last of %s; nobody began a run in time", len(new), f"{new[-1]:%Y-%m-%d %H:%M} UTC"
            )


def begin(database: Database) -> uuid.UUID:
    """The run that waits or is under way; a new one, where there is none."""
    with database.write() as session:
        run, _ = _begin(session, Due(RetrainTrigger.MANUAL, "a person asked for it"))
        return run.id


def begin_by_hand(database: Database, app: Celery) -> tuple[uuid.UUID, bool]:
    """Begin a run now, whatever the timetable says, and wake a trainer up.

    Returns:
        The run that waits or is under way, and whether it is a new one.

    Raises:
        StoreUnavailable
        BrokerUnavailable: the run is begun, and a beat that runs will call a trainer for it.
    """
    with database.write() as session:
        run, is_new = _begin(session, Due(RetrainTrigger.MANUAL, "a person asked for it"))
        run_id, idle = run.id, leases.holder(session, runs.LEASE) is None
    if idle:
        ring(app, run_id)
    return run_id, is_new


def run_beat(database: Database, settings: Settings, app: Celery, looked: Callable[[], None] = lambda: None) -> None:
    """Look until SIGTERM or SIGINT.

    Args:
        looked: called after every look.
    """
    timetable = Timetable(database, app, settings.schedule)

    def look() -> None:
        timetable.look_safely()
        looked()

    service = Service(app, max_interval=_LOOKS_AGAIN_S, scheduler_cls=_scheduler(look))
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stopping(service))
    look()  # celery's first is a minute away
    service.start()


def _begin(session: Session, found: Due) -> tuple[RetrainRun, bool]:
    run, is_new = runs.begin(session, found.trigger, code_version())
    if is_new:
        run.message = f"{found.why}; waits for a trainer"
    return run, is_new


def _scheduler(look: Callable[[], None]) -> type[Scheduler]:
    """Celery's scheduler in memory, whose only entry is a call in this process: there is nothing to send."""

    class LookingScheduler(Scheduler):  # type: ignore[misc]
        producer = None  # or it would wait for Redis before every look

        def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:  # noqa: ARG002
            look()

    return LookingScheduler


def _stopping(service: Service) -> Callable[[int, Any], None]:
    def stop(_number: int, _frame: Any) -> None:
        service.stop()
        raise SystemExit  # out of the service's sleep; it ends its loop by it

    return stop
