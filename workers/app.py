"""The Celery app. Imports no torch, so that web and scheduler may use it to send messages.

Where a setting is not Celery's default, the reason stands beside it; what was measured is in docs/adr/0002-delivery.md.
"""

import functools
from collections.abc import Iterable
from typing import Any

from celery import Celery
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from schemas.errors import BrokerUnavailable
from schemas.messages import AUDIT_TASK, AuditMessage
from schemas.settings import Settings
from schemas.states import AuditQueue
from workers.shares import WeightedOrder, shares_of
from workers.transport import guard_redis

_EXCHANGE = Exchange("audit", type="direct")


def make_app(settings: Settings) -> Celery:
    """A Celery app bound to the broker of these settings. Nothing is connected yet."""
    guard_redis()
    app = Celery("tamperwatch", broker=settings.broker_url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        # A routing key each: queues that shared one would all get every message.
        task_queues=[Queue(queue.celery_name, _EXCHANGE, routing_key=queue.celery_name) for queue in AuditQueue],
        task_default_exchange=_EXCHANGE.name,
        task_default_routing_key=AuditQueue.DEFAULT.celery_name,
        task_default_queue=AuditQueue.DEFAULT.celery_name,
        # A message is gone only when its outcome is stored; a worker killed with it in hand loses nothing.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        # One message a thread: what waits, waits in Redis, where every worker can take it.
        worker_prefetch_multiplier=1,
        # Threads: the network and the decoders leave the interpreter lock. By its name, since only workers load it.
        worker_pool="workers.thread_pool:TaskPool",
        worker_soft_shutdown_timeout=settings.worker.shutdown_grace_s,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": settings.worker.visibility_timeout_s,
            # A class or a function, as kombu takes it; each channel makes its own.
            "queue_order_strategy": functools.partial(WeightedOrder, shares_of(settings.worker)),
            # How soon after the visibility timeout a dead worker's messages are looked for: seconds, not kombu's minutes.
            "unacked_restore_interval": 2,
            # Without time-outs a connection that died silently would wedge the consumer.
            "socket_timeout": 30,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
    )
    return app


def send_audits(app: Celery, messages: Iterable[AuditMessage]) -> int:
    """Put audit messages on their queues over one connection, and return how many.

    Raises:
        BrokerUnavailable: Redis does not take them. Their job rows stay QUEUED; the sweeper sends them again.
    """
    sent = 0
    try:
        with app.producer_pool.acquire(block=True) as producer:
            for message in messages:
                app.send_task(AUDIT_TASK, args=[message.payload()], queue=message.queue.celery_name, producer=producer)
                sent += 1
    except (OperationalError, RedisError, OSError) as error:
        raise _unavailable(app, error) from error
    return sent


def queue_depths(app: Celery) -> dict[AuditQueue, int]:
    """Messages waiting in Redis, not counting those that workers hold.

    Raises:
        BrokerUnavailable: Redis does not answer.
    """
    try:
        with app.connection_for_read() as connection:
            client: Any = connection.default_channel.client
            return {queue: int(client.llen(queue.celery_name)) for queue in AuditQueue}
    except (OperationalError, RedisError, OSError) as error:
        raise _unavailable(app, error) from error


def _unavailable(app: Celery, error: Exception) -> BrokerUnavailable:
    # `as_uri` leaves the password out; what is raised here ends up in logs and on screens.
    why = f"Redis at {app.connection_for_write().as_uri()} does not answer: {str(error).rstrip('.')}"
    return BrokerUnavailable(f"{why}. Start it, or set TAMPERWATCH_BROKER_URL; jobs already in the store are kept and sent later")
