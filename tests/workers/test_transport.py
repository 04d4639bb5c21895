"""Entries that are no task message, on a real Redis under a real Celery worker."""

import base64
import json
import logging
import uuid
from typing import Any

import pytest
from celery.contrib.testing.worker import start_worker
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from schemas.messages import AuditMessage
from schemas.settings import Settings
from schemas.states import AuditQueue
from tests.waiting import wait_for
from workers.app import make_app, send_audits
from workers.transport import MALFORMED_KEPT, MALFORMED_LIST, envelope_problem

MESSAGE = {"version": 1, "job_id": str(uuid.UUID(int=1)), "sha256": "ab" * 32, "source": "a.jpg"}


def envelope(**changes: Any) -> dict[str, Any]:
    made = {
        "body": base64.b64encode(json.dumps([[MESSAGE], {}, {}]).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": "audit.image", "id": "x", "lang": "py"},
        "properties": {
            "delivery_tag": "t",
            "delivery_info": {"exchange": "audit", "routing_key": "audit.default"},
            "body_encoding": "base64",
        },
    }
    return made | changes


def encoded(body: object) -> str:
    return base64.b64encode(json.dumps(body).encode()).decode()


def without(part: str) -> dict[str, Any]:
    return {name: value for name, value in envelope().items() if name != part}


MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "raw bytes": b"\x00\xff\xfe\x80",
    "a picture": b"\xff\xd8\xff\xe0\x00\x10JFIF" * 50,
    "text": b"please audit a.jpg",
    "number": b"7",
    "null": b"null",
    "list": b"[]",
    "endless nesting": b"[" * 100_000,
    "unknown type": b'{"__type__": "datetime", "__value__": 5}',
    "the message alone": json.dumps(MESSAGE).encode(),
    **{f"no {part}": json.dumps(without(part)).encode() for part in envelope()},
    "no task": json.dumps(envelope(headers={"id": "x"})).encode(),
    "no id": json.dumps(envelope(headers={"task": "audit.image"})).encode(),
    "time limit of another shape": json.dumps(envelope(headers={"task": "a", "id": "x", "timelimit": 5})).encode(),
    "no delivery tag": json.dumps(envelope(properties={"delivery_info": {"exchange": "", "routing_key": ""}})).encode(),
    "body no base64": json.dumps(envelope(body="§§§")).encode(),
    "body no json": json.dumps(envelope(body=base64.b64encode(b"\x80abc").decode())).encode(),
    "body a number": json.dumps(envelope(body=encoded(5))).encode(),
    "body without arguments": json.dumps(envelope(body=encoded({}))).encode(),
    "pickle": json.dumps(envelope(**{"content-type": "application/x-python-serialize"})).encode(),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_entry_has_a_named_problem(name: str) -> None:
    assert envelope_problem(MALFORMED[name])


def test_a_task_message_has_none() -> None:
    assert envelope_problem(json.dumps(envelope()).encode()) is None


@given(st.binary())
def test_any_bytes_are_judged(entry: bytes) -> None:
    assert envelope_problem(entry)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_malformed_entries_are_set_aside_and_the_worker_reads_on(broker_url: str, caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(Settings(broker_url=broker_url))
    seen: list[str] = []

    @app.task(name="audit.image", shared=False)
    def audit_image(payload: dict[str, Any]) -> None:
        seen.append(payload["source"])

    names = [f"{number}.jpg" for number in range(len(MALFORMED))]
    with Redis.from_url(broker_url) as client, caplog.at_level(logging.ERROR, "workers.transport"):
        for name, entry in zip(names, MALFORMED.values(), strict=True):
            client.lpush("audit.default", entry)
            send_audits(app, [AuditMessage(job_id=uuid.uuid4(), sha256="ab" * 32, source=name)])
        queues = [queue.celery_name for queue in AuditQueue]
        with start_worker(app, pool="threads", concurrency=2, queues=queues, perform_ping_check=False, loglevel="WARNING"):
            wait_for(lambda: len(seen) == len(names), "end of the good messages")
        assert sorted(seen) == sorted(names)
        assert client.lrange(MALFORMED_LIST, 0, -1) == list(MALFORMED.values())[::-1]
        assert client.llen("audit.default") == client.hlen("unacked") == 0
    assert "malformed entry of audit.default moved to tamperwatch:malformed" in caplog.text
    assert all(len(record.getMessage()) < 2000 for record in caplog.records)
    app.close()


@pytest.mark.slow
def test_a_flood_keeps_only_the_newest(broker_url: str) -> None:
    app = make_app(Settings(broker_url=broker_url))
    with Redis.from_url(broker_url) as client, app.connection_for_read() as connection:
        client.lpush(MALFORMED_LIST, *[b"old"] * MALFORMED_KEPT)
        client.lpush("audit.default", b"new")
        channel = connection.default_channel
        channel.basic_consume("audit.default", no_ack=False, callback=seen_nothing, consumer_tag="c")
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=1)
        assert (client.lindex(MALFORMED_LIST, 0), client.llen(MALFORMED_LIST)) == (b"new", MALFORMED_KEPT)
    app.close()


def seen_nothing(message: object) -> None:
    raise AssertionError(message)
