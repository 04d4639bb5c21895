"""The trainer: waits for a message, then has a process of its own carry the run on. Imports no torch."""

import logging
import os
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from celery import Celery, signals

from scheduler.app import RETRAIN_QUEUE, RETRAIN_TASK, ring
from schemas.errors import BrokerUnavailable
from schemas.settings import Settings
from storage import leases, runs, telemetry_runs
from storage.database import Database

log = logging.getLogger(__name__)

_STOP_S: Final = 60.0
"""A process that was told to stop saves its state and ends within this, or is killed; the last checkpoint stays."""

_LOOK_S: Final = 1.0
_ROOT = Path(__file__).resolve().parents[1]


class NightProcess:
    """Carries one run on, in a process of its own."""

    def __init__(self, settings: Settings, argv: list[str] | None = None) -> None:
        """Nothing is started yet.

        Args:
            settings: device of the training; the process reads all others from the environment, as this one did.
            argv: program and arguments; its own name in the lease is added.
        """
        self._argv = argv or [sys.executable, "-m", "scheduler.night_process"]
        paths = (str(_ROOT), os.environ.get("PYTHONPATH", ""))
        self._env = os.environ | {
            "TAMPERWATCH_RETRAIN__DEVICE": settings.retrain.device,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }
        self._stopping = threading.Event()

    def run(self) -> int:
        """Start it and wait for its end; its exit status."""
        holder = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        # Through the pipe it learns of our end, whatever we die of. A session of its own keeps the terminal's signals away.
        with subprocess.Popen([*self._argv, holder], stdin=subprocess.PIPE, env=self._env, start_new_session=True) as process:
            watch = threading.Thread(target=self._end_when_told, args=(process,), name="night-stop", daemon=True)
            watch.start()
            status = process.wait()
        watch.join()
        return status

    def stop(self) -> None:
        """Have it save what it has and end; one that does not is killed. Safe in a signal handler: only a flag is set there."""
        self._stopping.set()

    def _end_when_told(self, process: "subprocess.Popen[bytes]") -> None:
        while not self._stopping.wait(_LOOK_S):
            if process.poll() is not None:
                return
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()


def run_trainer(database: Database, app: Celery, process: NightProcess) -> None:
    """Take messages until SIGTERM, one run at a time; a run under way is saved and left to the next trainer."""
    register_task(app, database, process)
    signals.worker_shutting_down.connect(_stopper(process), weak=False, dispatch_uid="tamperwatch-trainer")
    try:
        call_for_waiting(database, app)
    except BrokerUnavailable as error:
        log.warning("%s", error.message)
    app.worker_main(
        [
            "--quiet",
            "worker",
            "--pool=threads",
            "--concurrency=1",
            f"--queues={RETRAIN_QUEUE}",
            f"--hostname=trainer-{os.getpid()}@{socket.gethostname()}",
            "--without-gossip",
            "--without-mingle",
            "--loglevel=INFO",
        ]
    )


def register_task(app: Celery, database: Database, process: NightProcess) -> None:
    """Make this process able to answer the bell."""

    @app.task(name=RETRAIN_TASK, shared=False)  # type: ignore[untyped-decorator]
    def carry_on_with_run(_payload: dict[str, Any]) -> None:
        """What waits stands in SQL; the message only says that something does."""
        run_once(database, process)


def run_once(database: Database, process: NightProcess) -> None:
    """Carry on the run that waits, if one does and no other trainer is at it."""
    with database.read() as session:
        run, holder = runs.unended(session), leases.holder(session, runs.LEASE)
        run_id = run.id if run else None
    if run_id is None or holder is not None:
        log.info("nothing to do: %s", f"{holder} is at it" if holder else "no run waits")
        return
    log.info("run %s goes on here", runs.short(run_id))
    status = process.run()
    with database.read() as session:
        run = runs.get(session, run_id)
        state, reason = run.state, run.reason
    if state.ended:
        telemetry_runs.ENDED.labels(state.value).inc()
        log.info("run %s ended %s: %s", runs.short(run_id), state.value, reason)
    else:
        log.warning("run %s is left at %s (exit status %d); it is gone on with", runs.short(run_id), state.value, status)


def call_for_waiting(database: Database, app: Celery) -> bool:
    """Ring where a run waits that nobody is at, as after a restart; whether it did.

    Raises:
        BrokerUnavailable
    """
    with database.read() as session:
        run, holder = runs.unended(session), leases.holder(session, runs.LEASE)
        run_id = run.id if run else None
    return run_id is not None and holder is None and ring(app, run_id)


def _stopper(process: NightProcess) -> Callable[..., None]:
    def stop(**_facts: Any) -> None:
        process.stop()

    return stop
