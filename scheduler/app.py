"""The trainer's Celery app: a Redis database or key prefix of its own, one queue, one message. Imports no torch.

kombu looks for lost messages of all queues of a broker at once, by the visibility timeout of whoever looks: an audit worker that
shared names with a trainer would deliver a night's message again and again. Hence the prefix, also where the Redis is the same.

A message only wakes a trainer up. What there is to do stands in SQL, and the lease lets one trainer do it; so messages are
acknowledged as they arrive, and whoever finds that a run waits and no message does, sends one (`ring`).
"""

import uuid
from typing import Any, Final

from celery import Celery
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from schemas.errors import BrokerUnavailable
from schemas.settings import Settings

RETRAIN_TASK: Final = "retrain.run"
RETRAIN_QUEUE: Final = "retrain"
LOOK_EVERY_S: Final = 60.0
_VISIBILITY_TIMEOUT_S: Final = 24 * 3600
_EXCHANGE = Exchange("retrain", type="direct")


def make_trainer_app(settings: Settings) -> Celery:
    """A Celery app bound to the trainer's broker. Nothing is connected yet."""
    app = Celery("tamperwatch-trainer", broker=settings.schedule.broker_url or settings.broker_url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_queues=[Queue(RETRAIN_QUEUE, _EXCHANGE, routing_key=RETRAIN_QUEUE)],
        task_default_exchange=_EXCHANGE.name,
        task_default_routing_key=RETRAIN_QUEUE,
        task_default_queue=RETRAIN_QUEUE,
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "global_keyprefix": settings.schedule.key_prefix,
            "visibility_timeout": _VISIBILITY_TIMEOUT_S,
            "socket_timeout": 30,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
        # In memory, and only how often to look: when a run is due stands in the settings, when one was stands in SQL.
        beat_schedule={"look": {"task": "retrain.look", "schedule": LOOK_EVERY_S}},
    )
    return app


def ring(app: Celery, run_id: uuid.UUID) -> bool:
    """Wake a trainer up, unless a message waits for one already; whether a message was sent.

    Raises:
        BrokerUnavailable: Redis does not answer; the run waits in the store, and the next look rings again.
    """
    try:
        if messages_waiting(app):
            return False
        app.send_task(RETRAIN_TASK, args=[{"version": 1, "run_id": str(run_id)}], queue=RETRAIN_QUEUE, retry=False)
    except (OperationalError, RedisError, OSError) as error:
        where = app.connection_for_write().as_uri()  # without its password
        raise BrokerUnavailable(
            f"the trainer's Redis at {where} does not answer: {str(error).rstrip('.')}. Start it, or set "
            "TAMPERWATCH_SCHEDULE__BROKER_URL; the run waits in the store"
        ) from error
    return True


def messages_waiting(app: Celery) -> int:
    """Messages that no trainer has taken yet."""
    with app.connection_for_read() as connection:
        client: Any = connection.default_channel.client
        return int(client.llen(RETRAIN_QUEUE))
