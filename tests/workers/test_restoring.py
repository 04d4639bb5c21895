"""A dead worker's messages on a real Redis: each comes back once, soon, whoever else is busy there."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from schemas.settings import Settings
from schemas.states import AuditQueue
from tests.workers.test_taking import consumer, send, tag_of, turn
from workers.app import make_app

pytestmark = pytest.mark.slow
_VISIBILITY_TIMEOUT_S = 2.0


@pytest.fixture
def app(broker_url: str) -> Iterator[Celery]:
    with make_app(Settings(broker_url=broker_url)) as app:
        app.conf.broker_transport_options |= {"visibility_timeout": _VISIBILITY_TIMEOUT_S}
        yield app


@pytest.fixture
def client(broker_url: str) -> Iterator[Any]:
    with Redis.from_url(broker_url, decode_responses=True) as client:
        yield client


def die_holding(app: Celery, client: Any, count: int) -> None:
    """Leave behind what a worker would that took messages and was killed."""
    send(app, count)
    with consumer(app, room=count) as (connection, seen):
        turn(connection)
        assert len(seen) == count
        connection.default_channel.do_restore = False
    assert client.hlen("unacked") == count


def age(client: Any) -> None:
    """Let a minute pass for all that is unacknowledged."""
    for tag in client.zrange("unacked_index", 0, -1):
        client.zincrby("unacked_index", -60, tag)


@pytest.fixture
def survivor(app: Celery) -> Iterator[Any]:
    """The QoS of a worker that lives, and has no room."""
    with consumer(app, room=1) as (connection, _):
        yield connection.default_channel.qos


def test_everything_comes_back_once_the_oldest_first(app: Celery, client: Any, survivor: Any) -> None:
    count = 230
    die_holding(app, client, count)
    for place, tag in enumerate(client.zrange("unacked_index", 0, -1)):
        client.zadd("unacked_index", {tag: place})
    oldest = [json.loads(client.hget("unacked", tag) or "")[0]["body"] for tag in client.zrange("unacked_index", 0, -1)]
    survivor.restore_visible()
    survivor.restore_visible()
    assert (client.hlen("unacked"), client.zcard("unacked_index")) == (0, 0)
    back = [json.loads(entry) for entry in reversed(client.lrange("audit.default", 0, -1))]
    assert [entry["body"] for entry in back] == oldest
    assert all(entry["headers"]["redelivered"] for entry in back)


def test_what_was_taken_just_now_stays(app: Celery, client: Any, survivor: Any) -> None:
    die_holding(app, client, 3)
    survivor.restore_visible()
    assert (client.hlen("unacked"), client.llen("audit.default")) == (3, 0)


def test_a_lock_that_a_dead_worker_left_holds_nobody_up(app: Celery, client: Any, survivor: Any) -> None:
    die_holding(app, client, 3)
    age(client)
    client.set("unacked_mutex", "the dead worker's")
    survivor.restore_visible()
    assert client.llen("audit.default") == 3


def test_what_others_did_meanwhile_stands(app: Celery, client: Any, survivor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One message is acknowledged late, and another given back and taken anew, between our look and our deed."""
    die_holding(app, client, 3)
    age(client)
    acknowledged, taken_anew, dead = client.zrange("unacked_index", 0, -1)
    second_client = survivor.channel.second_client
    read = second_client.hmget

    def read_before_others_act(*args: Any) -> Any:
        noted = read(*args)
        client.zrem("unacked_index", acknowledged)
        client.hdel("unacked", acknowledged)
        client.zadd("unacked_index", {taken_anew: time.time()})
        return noted

    monkeypatch.setattr(second_client, "hmget", read_before_others_act)
    survivor.restore_visible()
    assert client.hkeys("unacked") == client.zrange("unacked_index", 0, -1) == [taken_anew]
    assert [tag_of(entry) for entry in client.lrange("audit.default", 0, -1)] == [dead]


def test_a_tag_without_its_message_is_forgotten(client: Any, survivor: Any) -> None:
    client.zadd("unacked_index", {"lost": 1.0})
    survivor.restore_visible()
    assert client.zcard("unacked_index") == 0


def test_a_message_of_an_unknown_exchange_goes_where_its_key_says(app: Celery, client: Any, survivor: Any) -> None:
    die_holding(app, client, 2)
    age(client)
    foreign, _ = client.hkeys("unacked")
    payload, _, routing_key = json.loads(client.hget("unacked", foreign) or "")
    client.hset("unacked", foreign, json.dumps([payload, "nowhere", routing_key]))
    survivor.restore_visible()
    assert (client.hlen("unacked"), client.llen("audit.default")) == (0, 2)


def test_a_busy_survivor_serves_them_soon_after_the_timeout(app: Celery, client: Any) -> None:
    """It always has a full queue of a far higher share in front of it."""
    send(app, 3, AuditQueue.BULK)
    with consumer(app, room=3) as (connection, dead):
        turn(connection)
        connection.default_channel.do_restore = False
    died_s = time.monotonic()
    send(app, 500, AuditQueue.HIGH)
    send(app, 100, AuditQueue.BULK)
    lost = {message.delivery_tag for message in dead}
    with consumer(app, room=4) as (connection, seen):
        served: set[str] = set()
        while not lost <= served:
            assert time.monotonic() - died_s < _VISIBILITY_TIMEOUT_S + 3.0, f"served so far: {len(lost & served)}"
            turn(connection)
            served |= {message.delivery_tag for message in seen}
            for message in seen:
                message.ack()
            seen.clear()
        assert client.llen("audit.high") > 0
