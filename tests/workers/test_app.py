import base64
import json
import uuid
from collections.abc import Iterator

import pytest
from celery import Celery
from redis import Redis

from schemas.errors import BrokerUnavailable
from schemas.messages import AuditMessage
from schemas.settings import Settings, WorkerSettings
from schemas.states import AuditQueue
from tests.local_servers import free_ports
from workers.app import make_app, queue_depths, send_audits


def message(queue: AuditQueue = AuditQueue.DEFAULT) -> AuditMessage:
    return AuditMessage(job_id=uuid.uuid4(), sha256="ab" * 32, source="ü 🦆.jpg", queue=queue, profiles=("wechat",))


@pytest.fixture
def app(broker_url: str) -> Iterator[Celery]:
    made = make_app(Settings(broker_url=broker_url))
    yield made
    made.close()


def test_a_message_is_acknowledged_only_after_its_work() -> None:
    conf = make_app(Settings()).conf
    assert conf.task_acks_late is True
    assert conf.task_reject_on_worker_lost is True
    assert conf.worker_prefetch_multiplier == 1
    assert conf.task_ignore_result is True
    assert conf.worker_pool == "workers.thread_pool:TaskPool"
    assert conf.worker_soft_shutdown_timeout == Settings().worker.shutdown_grace_s > 0
    assert conf.broker_connection_retry_on_startup is True


def test_only_json_crosses_the_broker() -> None:
    conf = make_app(Settings()).conf
    assert (conf.task_serializer, conf.result_serializer, conf.accept_content) == ("json", "json", ["json"])


def test_a_dead_workers_messages_come_back_soon() -> None:
    worker = WorkerSettings(visibility_timeout_s=77)
    options = make_app(Settings(worker=worker)).conf.broker_transport_options
    assert {name: value for name, value in options.items() if name != "queue_order_strategy"} == {
        "visibility_timeout": 77,
        "unacked_restore_interval": 2,
        "socket_timeout": 30,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }


def test_every_channel_has_an_order_of_its_own() -> None:
    make_order = make_app(Settings(worker=WorkerSettings(share_bulk=20))).conf.broker_transport_options["queue_order_strategy"]
    one, other = make_order(), make_order()
    for order in (one, other):
        order.update(["audit.high", "audit.bulk"])
    assert one.consume(2) == ["audit.bulk", "audit.high"]
    one.rotate("audit.bulk")
    assert (one.consume(2)[0], other.consume(2)[0]) == ("audit.high", "audit.bulk")


def test_making_an_app_leaves_the_process_as_it_was() -> None:
    from celery import current_app

    app = make_app(Settings())
    assert current_app._get_current_object() is not app


@pytest.mark.slow
def test_each_queue_gets_its_own_messages_only(app: Celery, broker_url: str) -> None:
    assert queue_depths(app) == dict.fromkeys(AuditQueue, 0)
    counts = {AuditQueue.HIGH: 1, AuditQueue.DEFAULT: 2, AuditQueue.BULK: 3}
    messages = [message(queue) for queue, count in counts.items() for _ in range(count)]
    assert send_audits(app, messages) == 6
    assert queue_depths(app) == counts
    with Redis.from_url(broker_url) as client:
        for queue in AuditQueue:
            waiting = [json.loads(raw) for raw in client.lrange(queue.celery_name, 0, -1)]
            bodies = [json.loads(base64.b64decode(each["body"])) for each in waiting]
            sent = {str(each.job_id) for each in messages if each.queue is queue}
            assert {arguments[0]["job_id"] for arguments, _, _ in bodies} == sent


@pytest.mark.slow
def test_a_routing_key_leads_to_one_queue_only(app: Celery) -> None:
    """How producers that know the exchange send, once a worker has declared the queues."""
    with app.connection_for_write() as connection:
        for queue in app.amqp.queues.values():
            queue(connection.default_channel).declare()
        for name in ("audit.high", "audit.bulk", "audit.bulk"):
            payload = message().payload()
            app.send_task("audit.image", args=[payload], exchange="audit", routing_key=name, connection=connection)
    assert queue_depths(app) == {AuditQueue.HIGH: 1, AuditQueue.DEFAULT: 0, AuditQueue.BULK: 2}


@pytest.mark.slow
def test_what_lies_in_redis_is_plain_json_that_any_producer_could_write(app: Celery, broker_url: str) -> None:
    sent = message()
    send_audits(app, [sent])
    with Redis.from_url(broker_url) as client:
        (raw,) = client.lrange("audit.default", 0, -1)
    envelope = json.loads(raw)
    assert (envelope["content-type"], envelope["headers"]["task"]) == ("application/json", "audit.image")
    arguments, _, _ = json.loads(base64.b64decode(envelope["body"]))
    assert AuditMessage.parse(arguments[0]) == sent


def test_sending_nothing_needs_no_redis() -> None:
    assert send_audits(make_app(Settings(broker_url=f"redis://127.0.0.1:{free_ports(1)[0]}/0")), []) == 0


@pytest.mark.slow
def test_a_redis_that_is_not_there_is_named_without_its_password() -> None:
    app = make_app(Settings(broker_url=f"redis://:sesame@127.0.0.1:{free_ports(1)[0]}/0"))
    for call in (lambda: send_audits(app, [message()]), lambda: queue_depths(app)):
        with pytest.raises(BrokerUnavailable, match=r"redis://.*127\.0\.0\.1.* does not answer") as raised:
            call()
        assert "sesame" not in raised.value.message
    app.close()
