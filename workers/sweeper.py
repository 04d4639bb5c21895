"""Jobs whose message is lost come back: SQL is the truth, and Redis may forget."""

import logging
import threading
from collections.abc import Iterable, Iterator

from celery import Celery

from schemas.errors import ServiceError
from schemas.messages import AuditMessage
from schemas.tables import AuditJob, now
from storage import recovery, telemetry
from storage.database import Database
from storage.recovery import FailedJobs
from workers.app import queue_depths, send_audits

log = logging.getLogger(__name__)

_LOST_AFTER = 1.5
_SWEEPS_PER_TIMEOUT = 6


def message_of(job: AuditJob) -> AuditMessage:
    """The message that asks for this job."""
    if job.sha256 is None and job.url is None:
        raise ValueError(f"job {job.id} was refused before its picture was stored; there is nothing to send")
    return AuditMessage(
        job_id=job.id,
        sha256=job.sha256,
        url=None if job.sha256 else job.url,
        source=job.source,
        queue=job.queue,
        profiles=tuple(job.profiles),
        source_profile=job.source_profile,
    )


def sweep(database: Database, app: Celery, older_than_s: float) -> int:
    """Send again what has neither ended nor moved for `older_than_s`, and return how many.

    What nobody has claimed is sent only to queues that are empty: behind a long queue a job may wait for hours and be in good
    health, and sending it again would pile up duplicates. A duplicate that does happen is harmless: only one hand at a time
    holds a job.

    Raises:
        StoreUnavailable, BrokerUnavailable
    """
    with database.read() as session:
        if not recovery.any_lost(session, older_than_s):
            return 0
    began = now()
    empty = [queue for queue, depth in queue_depths(app).items() if depth == 0]
    sent = 0
    while True:
        with database.write() as session:
            lost = recovery.take_lost(session, empty, older_than_s, as_of=began)
        if not lost:
            break
        sent += send_audits(app, map(message_of, lost))
    if sent:
        log.warning("sent %d jobs again whose messages were lost", sent)
    return sent


def retry_failed(database: Database, app: Celery, wanted: FailedJobs) -> Iterator[int]:
    """Put failed jobs back on their queues at constant memory, yielding how many after each batch.

    Raises:
        StoreUnavailable: what was yielded is on its way; call again for the rest.
        BrokerUnavailable: likewise, and the batch that could not be sent is queued in the store: a sweep sends it.
    """
    yield from send_again(app, recovery.requeue_failed(database, wanted))


def send_again(app: Celery, batches: Iterable[list[AuditJob]]) -> Iterator[int]:
    """Send jobs that were put back on their queues, yielding how many after each batch.

    Raises:
        StoreUnavailable, BrokerUnavailable: as `retry_failed`.
    """
    for jobs in batches:
        yield send_audits(app, map(message_of, jobs))


class Sweeper:
    """Sweeps now and then for as long as a worker runs. Several may run: each takes other jobs."""

    def __init__(self, database: Database, app: Celery, visibility_timeout_s: float) -> None:
        """Start the thread.

        Args:
            database, app: the worker's own.
            visibility_timeout_s: of the broker. Half as long again untouched counts as lost, so that redelivery comes first.
        """
        self._database = database
        self._app = app
        self._older_than_s = _LOST_AFTER * visibility_timeout_s
        self._every_s = visibility_timeout_s / _SWEEPS_PER_TIMEOUT
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
                telemetry.SWEPT.inc(sweep(self._database, self._app, self._older_than_s))
                telemetry.SWEEPS.labels("done").inc()
            except ServiceError as error:
                telemetry.SWEEPS.labels("no_answer").inc()
                log.warning("no sweep this time: %s", error.message)
            except Exception:
                # A thread that ended here would be missed only when jobs are.
                telemetry.SWEEPS.labels("defect").inc()
                log.exception("no sweep this time: defect")
