"""Messages of a submission, sent no faster than the queues take them."""

import time
from collections.abc import Iterator, Sequence

from celery import Celery

from schemas.errors import BrokerUnavailable
from schemas.states import AuditQueue
from schemas.tables import AuditJob
from workers.app import queue_depths, send_audits
from workers.sweeper import message_of

_PAUSE_S = 0.5


class Sender:
    """Sends for one submission, until the first time that Redis fails: the rest waits in SQL then, and `error` is set."""

    def __init__(self, app: Celery, max_queued: int) -> None:
        """Nothing is connected yet.

        Args:
            app: where to send.
            max_queued: messages that may lie in a queue; 0 for any number, without looking.
        """
        self.error: BrokerUnavailable | None = None
        self._app = app
        self._max_queued = max_queued
        self._empty_at_first: set[AuditQueue] | None = None

    def send(self, new: Sequence[AuditJob], again: Sequence[AuditJob]) -> Iterator[int]:
        """Send the messages of new jobs, and of jobs that were in before; yields a queue's depth each time it must wait.

        With a limit, those that were in before are sent only to queues that were empty when the submission began: there
        their messages are lost. In front of others they wait already, and a second message would only double the queue.
        """
        if self.error is not None:
            return
        try:
            jobs = [*new, *again]
            if self._max_queued and jobs:
                empty = self._first_empty()
                jobs = [*new, *(job for job in again if job.queue in empty)]
                yield from self._wait_for_room(jobs)
            send_audits(self._app, map(message_of, jobs))
        except BrokerUnavailable as error:
            self.error = error

    def _first_empty(self) -> set[AuditQueue]:
        if self._empty_at_first is None:
            self._empty_at_first = {queue for queue, depth in queue_depths(self._app).items() if depth == 0}
        return self._empty_at_first

    def _wait_for_room(self, jobs: Sequence[AuditJob]) -> Iterator[int]:
        queues = {job.queue for job in jobs}
        while queues:
            depths = queue_depths(self._app)
            deepest = max(depths[queue] for queue in queues)
            if deepest == 0 or deepest + len(jobs) <= self._max_queued:
                return
            yield deepest
            time.sleep(_PAUSE_S)
