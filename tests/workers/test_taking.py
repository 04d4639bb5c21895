"""Messages by the handful, on a real Redis: taken and noted in one step, acknowledged together, and never lost between."""

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu.asynchronous import Hub, set_event_loop
from redis import Redis

from schemas.messages import AuditMessage
from schemas.settings import Settings
from schemas.states import AuditQueue
from workers.app import make_app, send_audits

pytestmark = pytest.mark.slow


@pytest.fixture
def app(broker_url: str) -> Iterator[Celery]:
    with make_app(Settings(broker_url=broker_url)) as app:
        yield app


@pytest.fixture
def client(broker_url: str) -> Iterator[Redis]:
    with Redis.from_url(broker_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    set_event_loop(hub)
    yield hub
    set_event_loop(None)
    hub.close()


@contextmanager
def consumer(app: Celery, room: int) -> Iterator[tuple[Any, list[Any]]]:
    """A connection that consumes all queues with this prefetch limit, and the list of what it was given."""
    seen: list[Any] = []
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        channel.basic_qos(0, room, False)
        for queue in AuditQueue:
            channel.basic_consume(queue.celery_name, no_ack=False, callback=seen.append, consumer_tag=queue.celery_name)
        yield connection, seen


def send(app: Celery, count: int, queue: AuditQueue = AuditQueue.DEFAULT) -> None:
    messages = [AuditMessage(job_id=uuid.uuid4(), sha256="ab" * 32, source=f"{n}.jpg", queue=queue) for n in range(count)]
    assert send_audits(app, messages) == count


def turn(connection: Any) -> None:
    """One turn of a consumer that has no room for what a BRPOP would bring, or nothing to wait for."""
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.1)


def sources(messages: list[Any]) -> list[str]:
    return [message.decode()[0][0]["source"] for message in messages]


def test_a_handful_is_noted_as_it_is_taken(app: Celery, client: Redis) -> None:
    send(app, 25)
    entries: Any = client.lrange("audit.default", 0, -1)
    with consumer(app, room=10) as (connection, seen):
        turn(connection)
        assert sources(seen) == [f"{n}.jpg" for n in range(10)]
        assert client.llen("audit.default") == 15
        noted = client.hgetall("unacked")
        assert noted == {tag_of(entry): f'[{entry},"","audit.default"]' for entry in entries[15:]}
        assert set(client.zrange("unacked_index", 0, -1)) == set(noted)


def test_acknowledgements_go_out_together_in_the_next_turn(app: Celery, client: Redis) -> None:
    send(app, 25)
    with consumer(app, room=10) as (connection, seen):
        turn(connection)
        for message in seen[:9]:
            message.ack()
        assert client.hlen("unacked") == 10
        turn(connection)
        assert len(seen) == 19
        assert set(client.hkeys("unacked")) == {message.delivery_tag for message in seen[9:]}
        assert client.zcard("unacked_index") == 10


def test_in_an_event_loop_acknowledgements_gather_for_a_moment(
    app: Celery, client: Redis, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(time=time.time, monotonic=lambda: 100.0)
    monkeypatch.setattr("workers.taking.time", clock)
    send(app, 25)
    with consumer(app, room=10) as (connection, seen):
        turn(connection)
        cycle = connection.transport.cycle
        for message in seen[:9]:
            message.ack()
            cycle.on_poll_start()
        assert (len(seen), client.hlen("unacked")) == (10, 10)
        assert len(hub.timer.queue) == 1, "the loop is woken once, at the end"
        clock.monotonic = lambda: 100.02
        cycle.on_poll_start()
        assert len(seen) == 19
        assert set(client.hkeys("unacked")) == {message.delivery_tag for message in seen[9:]}


def test_what_is_acknowledged_before_the_end_does_not_come_again(app: Celery, client: Redis) -> None:
    send(app, 6)
    with consumer(app, room=6) as (connection, seen):
        turn(connection)
        for message in seen[:4]:
            message.ack()
    assert (client.hlen("unacked"), client.zcard("unacked_index"), client.llen("audit.default")) == (0, 0, 2)


def test_what_a_dead_worker_had_taken_comes_back_as_it_was(app: Celery, client: Redis) -> None:
    send(app, 3)
    with consumer(app, room=3) as (connection, first):
        turn(connection)
        qos = connection.default_channel.qos
        for message in first:
            qos.restore_by_tag(message.delivery_tag)
        assert (client.hlen("unacked"), client.llen("audit.default")) == (0, 3)
        with consumer(app, room=3) as (second_connection, second):
            turn(second_connection)
            assert sorted(sources(second)) == ["0.jpg", "1.jpg", "2.jpg"]
            assert all(message.delivery_info["routing_key"] == "audit.default" for message in second)


def test_what_came_back_is_taken_before_all_else(app: Celery, client: Redis) -> None:
    """A dead worker's pictures from the smallest queue don't wait behind a full one."""
    send(app, 3, AuditQueue.BULK)
    with consumer(app, room=3) as (connection, first):
        turn(connection)
        send(app, 30, AuditQueue.HIGH)
        send(app, 30, AuditQueue.BULK)
        for message in first:
            connection.default_channel.qos.restore_by_tag(message.delivery_tag)
        with consumer(app, room=10) as (second_connection, second):
            turn(second_connection)
            queues = [message.delivery_info["routing_key"] for message in second]
            assert queues[:3] == ["audit.bulk"] * 3
            assert sorted(sources(second[:3])) == ["0.jpg", "1.jpg", "2.jpg"]
            assert queues[3:].count("audit.high") >= 6
    assert client.llen("audit.high") == 30


def test_a_handful_is_shared_out_among_full_queues(app: Celery, client: Redis) -> None:
    for queue in AuditQueue:
        send(app, 30, queue)
    with consumer(app, room=21) as (connection, seen):
        turn(connection)
        taken = Counter(message.delivery_info["routing_key"] for message in seen)
        assert taken == {"audit.high": 16, "audit.default": 4, "audit.bulk": 1}
    assert client.llen("audit.bulk") == 30


def test_an_empty_queues_turns_go_to_the_others(app: Celery) -> None:
    send(app, 5, AuditQueue.BULK)
    with consumer(app, room=21) as (connection, seen):
        turn(connection)
        assert sources(seen) == [f"{n}.jpg" for n in range(5)]


def test_a_consumer_without_a_limit_takes_one_at_a_time(app: Celery, client: Redis) -> None:
    """Such as `celery inspect`, which acknowledges nothing."""
    send(app, 3)
    with consumer(app, room=0) as (connection, seen):
        connection.drain_events(timeout=5)
        assert (len(seen), client.llen("audit.default")) == (1, 2)


def test_the_script_is_loaded_again_after_redis_forgot_it(app: Celery, client: Redis) -> None:
    send(app, 4)
    with consumer(app, room=2) as (connection, seen):
        turn(connection)
        client.script_flush()
        for message in seen[:2]:
            message.ack()
        turn(connection)
        assert len(seen) == 4


def tag_of(entry: str) -> str:
    tag: str = json.loads(entry)["properties"]["delivery_tag"]
    return tag
