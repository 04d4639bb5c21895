"""One retraining run from the frozen manifest to the decision, by whoever holds the lease. Imports no torch by itself.

What a step has found is written into the run's row together with the step that comes next, and every step may be begun again:
a process that is killed anywhere leaves a run that the next one goes on with. The live model changes in the last transaction of
the last step only, so nothing that fails before touches it.
"""

import logging
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scheduler import run_steps
from scheduler.bench import After, Bench
from scheduler.trainers import Trainer
from schemas.errors import InternalError, ServiceError, StoreUnavailable, TamperwatchError, WorkerLost
from schemas.learning_tables import RetrainRun
from schemas.settings import Settings
from schemas.states import RetrainState
from storage import leases, runs
from storage.blobs import BlobStore
from storage.database import Database
from storage.leases import Kept, LeaseLost
from storage.runs import RunEnded

log = logging.getLogger(__name__)

WAITS_S: Final = (5.0, 30.0, 120.0)
"""A service that is away is tried again after these; then the run has failed, and the next night begins anew."""

TRIES: Final = "tries"


class Stopping(Exception):
    """This process is to end; another one goes on with the run."""


class Cancelled(Exception):
    """A person wants the run to end."""


@dataclass(frozen=True)
class Told:
    """How far a run is, for whoever watches."""

    state: RetrainState
    message: str
    step: int
    steps_total: int


@dataclass(frozen=True)
class Workplace:
    """What a run is carried out with.

    Attributes:
        trainer: makes the trainer when training begins.
        stop: whether this process is to end; asked all the time.
        watch: hears of every bit of progress.
        pause: waits so many seconds.
    """

    database: Database
    blobs: BlobStore
    settings: Settings
    trainer: Callable[[], Trainer]
    stop: Callable[[], bool] = lambda: False
    watch: Callable[[Told], None] = lambda _told: None
    pause: Callable[[float], object] = lambda _s: None


def carry_on(place: Workplace, holder: str) -> RetrainRun | None:
    """Go on with the run that has not ended, from where it stands to its end.

    Args:
        place: stores, settings, and whoever trains.
        holder: what this process calls itself in the lease.

    Returns:
        The run as it ended; None where none waits, or another process is at it.

    Raises:
        Stopping: it was told to stop; everything is kept.
        leases.LeaseLost: this process stood still for so long that another one has taken over.
        StoreUnavailable: without SQL nothing can be written down; whoever comes next goes on.
    """
    lease_s = place.settings.schedule.lease_s
    with place.database.write() as session:
        held = leases.acquire(session, runs.LEASE, holder, lease_s)
        run = runs.unended(session) if held else None
        run_id = run.id if run else None
        if held and run_id is None:
            leases.release(session, held)
    if held is None or run_id is None:
        return None
    with Kept(place.database, held, lease_s) as kept:
        return _Night(place, kept, run_id).to_its_end()


class _Night:
    """One process at one run."""

    def __init__(self, place: Workplace, kept: Kept, run_id: uuid.UUID) -> None:
        self._place, self._kept, self._run_id = place, kept, run_id
        self._progress = runs.Progress(place.database, kept.held, run_id)
        self._steps_total = 0

    def to_its_end(self) -> RetrainRun:
        """Step by step; what is told of a cancelled run is that it was."""
        try:
            self._count_try(1)
            while not (run := self._row()).state.ended:
                self._steps_total = run.steps_total or 0
                self._one_step(run)
        except Stopping:
            self._count_try(-1)
            raise
        except RunEnded:
            run = self._row()
        log.info("run %s ended %s: %s", runs.short(run.id), run.state.value, run.reason)
        tidy(Path(self._place.settings.retrain.folder), run.id, self._place.settings.retrain.keep_runs)
        return run

    def _one_step(self, run: RetrainRun) -> None:
        """Its state's step, several times where a service is away. It ends in another state of the run, or raises."""
        for wait_s in (*WAITS_S, None):
            try:
                self._move(run_steps.take(run, self._bench(run)))
                return
            except Cancelled:
                return self._end(RetrainState.CANCELLED, f"cancelled while it was {run.state.value}")
            except (Stopping, LeaseLost, RunEnded):
                raise
            except run_steps.LiveChanged as changed:
                log.warning("run %s measures again: %s", runs.short(run.id), changed)
                return
            except ServiceError as error:
                if wait_s is None:
                    return self._fail(run, error)
                log.warning("run %s goes on in %.0f s: %s", runs.short(run.id), wait_s, error.message)
                self._place.pause(wait_s)
            except TamperwatchError as error:
                return self._fail(run, error)
            except Exception as error:
                log.exception("run %s: defect", runs.short(run.id))
                return self._fail(run, InternalError(f"{type(error).__name__}: {error}"))

    def _bench(self, run: RetrainRun) -> Bench:
        place = self._place
        folder = Path(place.settings.retrain.folder).expanduser().resolve() / str(run.id)
        return Bench(place.database, place.blobs, place.settings, place.trainer, folder, self._tell, self._kept.held)

    def _tell(self, message: str, **changes: Any) -> None:
        """What every step says all the time; raises where the step is to end."""
        if self._kept.lost.is_set():
            raise LeaseLost(runs.LEASE)
        if self._place.stop():
            raise Stopping
        state = self._told_state
        self._place.watch(Told(state, message, changes.get("step", 0), changes.get("steps_total", self._steps_total)))
        try:
            wanted_to_end = self._progress.tell(message, **changes)
        except StoreUnavailable as error:
            # What was trained is on disk, and the lease outlives a short absence.
            log.warning("progress could not be written down this time: %s", error.message)
            return
        if wanted_to_end:
            raise Cancelled

    def _move(self, after: After) -> None:
        """Into the next state, with what belongs into the same transaction."""
        with self._place.database.write() as session:
            if after.also is not None:
                after.also(session)
            runs.move(session, self._kept.held, self._run_id, after.state, **after.changes)

    def _fail(self, run: RetrainRun, error: TamperwatchError) -> None:
        log.error("run %s failed while %s: %s: %s", runs.short(run.id), run.state.value, error.code, error.message)
        if isinstance(error, StoreUnavailable):
            raise error  # where should it be written?
        reason = f"failed while it was {run.state.value}: {error.message}"
        self._end(RetrainState.FAILED, reason, error_code=error.code, error_message=error.message)

    def _end(self, state: RetrainState, reason: str, **changes: Any) -> None:
        self._move(After(state, {"reason": reason, "message": "", **changes}))

    def _count_try(self, by: int) -> None:
        """How many processes have begun or gone on with it and did not give it back: more than a few, and it kills them."""
        with self._place.database.write() as session:
            run = runs.get(session, self._run_id)
            figures = dict(run.figures)
            figures[TRIES] = figures.get(TRIES, 0) + by
            runs.move(session, self._kept.held, self._run_id, run.state, figures=figures)
            tries, most = figures[TRIES], self._place.settings.retrain.tries
            state = run.state
        if tries > most:
            died = f"{most} processes have died while it was {state.value}, often for lack of memory"
            self._end(RetrainState.FAILED, died, error_code=WorkerLost.code, error_message=died)

    def _row(self) -> RetrainRun:
        with self._place.database.read() as session:
            run = runs.get(session, self._run_id)
            session.expunge(run)
        self._told_state = run.state
        return run


def tidy(folder: Path, run_id: uuid.UUID, keep_runs: int) -> None:
    """Remove the pictures of a run that has ended, and all but the newest runs' folders."""
    root = folder.expanduser().resolve()
    for name in run_steps.PICTURES:
        shutil.rmtree(root / str(run_id) / name, ignore_errors=True)
    found = [each for each in root.glob("*-*-*-*-*") if each.is_dir()] if root.is_dir() else []
    for each in sorted(found, key=lambda each: each.stat().st_mtime, reverse=True)[keep_runs:]:
        shutil.rmtree(each, ignore_errors=True)
