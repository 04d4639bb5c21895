"""A real worker process between a real Redis, PostgreSQL and S3 server, told everything through its environment."""

import hashlib
import os
import shutil
import signal
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from model.card import Card, builtin_directory
from schemas.states import AuditQueue, JobState
from storage import queries, registry
from storage.blobs import picture_key
from tests.integration.conftest import DONE_S, Installation
from tests.pictures import picture_bytes
from tests.waiting import wait_for

pytestmark = pytest.mark.slow


def test_every_picture_ends_with_one_result_or_one_named_error(installation: Installation) -> None:
    good = {f"picture {number} ü.jpg": picture_bytes(number) for number in range(8)}
    bad = {"empty.jpg": b"", "text.jpg": b"no picture", "cut.jpg": picture_bytes(1)[:700]}
    installation.submit(good | bad)
    installation.submit({"also on wechat.jpg": picture_bytes(99)}, profiles=("wechat",), queue=AuditQueue.HIGH)
    foreign = _send_foreign_messages(installation)
    installation.start_worker()
    installation.wait_until_ended(len(good) + len(bad) + 1 + 2)
    jobs = installation.jobs()
    assert {name: jobs[name].error_code for name in bad} == {
        "empty.jpg": "empty",
        "text.jpg": "unsupported_format",
        "cut.jpg": "decode_failed",
    }
    done = [*good, "also on wechat.jpg", "theirs.jpg"]
    assert {jobs[name].state for name in done} == {JobState.DONE}
    assert (jobs["missing.jpg"].state, jobs["missing.jpg"].error_code) == (JobState.FAILED, "blob_missing")
    assert installation.results_per_job() == {jobs[name].id: 1 for name in done}
    with installation.database.read() as session:
        audited = {each.job.source: each for each in queries.read_results(session, after=0)}
    assert set(audited["also on wechat.jpg"].results) == {"none", "wechat"}
    assert audited["theirs.jpg"].job.id == foreign
    assert {job.attempts for job in jobs.values()} == {1}


def test_a_worker_told_to_stop_loses_nothing(installation: Installation) -> None:
    count = 80
    installation.submit({f"{number}.jpg": picture_bytes(number, 640, 480) for number in range(count)})
    first = installation.start_worker()
    wait_for(lambda: installation.counts()[JobState.DONE] >= 4, "first results", DONE_S)
    os.kill(first.pid, signal.SIGTERM)
    wait_for(lambda: not first.running, "end of the worker", 60)
    left = count - installation.counts()[JobState.DONE]
    assert left > 0, "the worker was too fast for this test"
    # Well within the visibility timeout of 120 s: the messages in hand were given back, not abandoned.
    with Redis.from_url(installation.settings.broker_url) as client:
        assert client.hlen("unacked") == 0
        assert client.llen("audit.default") == left
    installation.start_worker()
    installation.wait_until_ended(count)
    assert installation.counts()[JobState.DONE] == count
    assert set(installation.results_per_job().values()) == {1}


def test_a_worker_gives_back_what_it_cannot_finish(installation: Installation) -> None:
    """SIGTERM while the bytes of two pictures don't come, and never will: the worker neither waits for them nor keeps them."""
    root = installation.folder / "blobs"
    installation.env = {
        **installation.env,
        "TAMPERWATCH_BLOBS__BACKEND": "directory",
        "TAMPERWATCH_BLOBS__DIRECTORY": str(root),
        "TAMPERWATCH_WORKER__SHUTDOWN_GRACE_S": "1",
    }
    pictures = {f"{number}.jpg": picture_bytes(number) for number in range(2)}
    for data in pictures.values():
        path = root / picture_key(hashlib.sha256(data).hexdigest())
        path.parent.mkdir(parents=True)
        os.mkfifo(path)
    installation.submit(pictures)
    worker = installation.start_worker()
    wait_for(lambda: installation.counts()[JobState.RUNNING] == 2, "claims", DONE_S)
    os.kill(worker.pid, signal.SIGTERM)
    wait_for(lambda: not worker.running, "end of the worker", 15)
    with Redis.from_url(installation.settings.broker_url) as client:
        assert (client.hlen("unacked"), client.zcard("unacked_index"), client.llen("audit.default")) == (0, 0, 2)
    stands = {(job.state, job.attempts, job.claimed_at) for job in installation.jobs().values()}
    assert stands == {(JobState.QUEUED, 0, None)}
    assert "NotImplementedError" not in worker.log_tail()


def test_another_version_made_live_takes_over_without_a_restart(installation: Installation, tmp_path: Path) -> None:
    installation.env = {**installation.env, "TAMPERWATCH_WORKER__MODEL_POLL_S": "0.2"}
    installation.submit({f"{number}.jpg": picture_bytes(number, 640, 480) for number in range(40)})
    worker = installation.start_worker()
    wait_for(lambda: installation.counts()[JobState.DONE] >= 2, "first results", DONE_S)
    folder = Path(shutil.copytree(builtin_directory(), tmp_path / "night-1"))
    card = Card.load(folder).model_copy(update={"version": "night-1"})
    card.save(folder)
    with installation.database.write() as session:
        registry.register(session, "night-1", card.model_dump(mode="json"), str(folder), "tester", "test")
        registry.promote(session, "night-1", "tester", "test")
    wait_for(lambda: installation.versions()["night-1"] >= 1, "a result of the new version", DONE_S)
    installation.wait_until_ended(40)
    assert installation.counts()[JobState.DONE] == 40
    assert set(installation.results_per_job().values()) == {1}
    assert set(installation.versions()) == {Card.load(builtin_directory()).version, "night-1"}
    assert worker.running and len(installation.workers) == 1


def _send_foreign_messages(installation: Installation) -> uuid.UUID:
    """What a producer without our code may send with plain Celery: two good messages, and much that is none."""
    data = picture_bytes(1234)
    sha256 = hashlib.sha256(data).hexdigest()
    installation.blobs.put(picture_key(sha256), data)
    theirs = uuid.uuid4()
    producer = Celery(broker=installation.settings.broker_url, set_as_current=False)
    send: Callable[..., Any] = producer.send_task
    valid = {"version": 1, "job_id": str(theirs), "sha256": sha256, "source": "theirs.jpg"}
    send("audit.image", args=[valid], queue="audit.bulk", serializer="json")
    missing = valid | {"job_id": str(uuid.uuid4()), "sha256": "0" * 64, "source": "missing.jpg"}
    send("audit.image", args=[missing], queue="audit.default", serializer="json")
    for wrong in (valid | {"version": 2}, valid | {"source": "a\x00b"}, {}, None, "text", [valid], 7):
        send("audit.image", args=[wrong], queue="audit.default", serializer="json")
    send("audit.image", args=[], queue="audit.default", serializer="json")
    send("audit.image", args=[valid, valid], queue="audit.default", serializer="json")
    send("no.such.task", args=[valid], queue="audit.default", serializer="json")
    producer.close()
    return theirs
