"""Jobs whose message is lost come back: SQL is the truth, and Redis may forget."""

import logging
import threading
from collections import defaultdict

from celery import Celery

from schemas.errors import ServiceError
from schemas.messages import AuditMessage
from schemas.states import AuditQueue
from schemas.tables import AuditJob
from storage import jobs, queries
from storage.database import Database
from workers.app import queue_depths, send_audits

log = logging.getLogger(__name__)


def message_of(job: AuditJob) -> AuditMessage:
    """The message that asks for this job."""
    if job.sha256 is None:
        raise ValueError(f"job {job.id} was refused before its picture was stored; there is nothing to send")
    return AuditMessage(job_id=job.id, sha256=job.sha256, source=job.source, queue=job.queue, profiles=tuple(job.profiles))


def sweep(database: Database, app: Celery, older_than_s: float) -> int:
    """Send again what has neither ended nor moved for `older_than_s`, and return how many.

    Only for queues that are empty: behind a long queue a job may wait for hours and be in good health, and sending
    it again would pile up duplicates. A duplicate that does happen is harmless, a job ends once.

    Raises:
        StoreUnavailable, BrokerUnavailable
    """
    with database.read() as session:
        stale: dict[AuditQueue, list[AuditJob]] = defaultdict(list)
        for job in queries.stale_jobs(session, older_than_s):
            stale[job.queue].append(job)
    if not stale:
        return 0
    depths = queue_depths(app)
    lost = [job for queue, waiting in stale.items() if depths[queue] == 0 for job in waiting]
    if lost:
        with database.write() as session:
            jobs.touch_jobs(session, [job.id for job in lost])
        send_audits(app, map(message_of, lost))
        log.warning("sent %d jobs again whose messages were lost", len(lost))
    return len(lost)


class Sweeper:
    """Sweeps now and then for as long as a worker runs. Several may run: what one sent is fresh for the others."""

    def __init__(self, database: Database, app: Celery, visibility_timeout_s: float) -> None:
        """Start the thread.

        Args:
            database, app: the worker's own.
            visibility_timeout_s: of the broker; twice this long untouched counts as lost, so that redelivery comes first.
        """
        self._database = database
        self._app = app
        self._every_s = visibility_timeout_s
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="sweeper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the sweep now running."""
        self._closing.set()
        self._thread.join()

    def _loop(self) -> None:
        while not self._closing.wait(self._every_s):
            try:
                sweep(self._database, self._app, 2 * self._every_s)
            except ServiceError as error:
                log.warning("no sweep this time: %s", error.message)
