"""Jobs that name a picture by its URL: fetched once, stored and recorded under its sha256, and failing alone."""

import hashlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlmodel import select

from model.predictor import Prediction
from schemas.messages import AuditMessage
from schemas.settings import FetchSettings
from schemas.states import JobState
from schemas.tables import AuditJob, Picture
from storage import jobs, orphans
from storage.blobs import picture_key
from storage.jobs import Claim, NewJob
from storage.recovery import FailedJobs, requeue_failed
from tests.pictures import picture_bytes
from tests.web_servers import Answer, WebServer, response, sends, web_server
from workers.sweeper import message_of

MakeWorker = Callable[..., Any]
DATA = picture_bytes(1)
SHA256 = hashlib.sha256(DATA).hexdigest()
Serve = Callable[..., tuple[Any, WebServer]]


def answer(pictures: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
    return [Prediction(np.full((8, 8), 255, np.uint8), 3.0) for _ in pictures]


@pytest.fixture
def serve(make_worker: MakeWorker) -> Iterator[Serve]:
    """Makes a worker that may fetch from a server which gives these answers, and that server."""
    with ExitStack() as stack:

        def made(*answers: Answer, predict: Any = answer, **changes: object) -> tuple[Any, WebServer]:
            server = stack.enter_context(web_server(*answers))
            fetch = FetchSettings(
                allowed_hosts=f"127.0.0.1:{server.port}", allowed_networks="127.0.0.1/32", plain_http=True, timeout_s=10
            )
            return make_worker(predict, fetch=fetch, **changes), server

        yield made


def by_url(url: str) -> AuditMessage:
    return AuditMessage(job_id=uuid.uuid4(), url=url, source="theirs.jpg")


def test_a_picture_named_by_its_url_is_fetched_stored_and_audited(serve: Serve) -> None:
    worker, server = serve(sends(response(DATA)))
    message = by_url(server.url)
    assert worker.run(message) is None
    audited = worker.outcome(message)
    assert (audited.job.state, audited.job.sha256, audited.job.url) == (JobState.DONE, SHA256, server.url)
    assert audited.own is not None and (audited.own.width_px, audited.own.height_px) == (96, 72)
    assert worker.blobs.get(picture_key(SHA256), 1_000_000) == DATA
    with worker.database.read() as session:
        assert [(each.sha256, each.bytes) for each in session.exec(select(Picture))] == [(SHA256, len(DATA))]
    assert list(orphans.check(worker.database, worker.blobs, grace_s=0, repair=False)) == []


def test_a_submitted_url_comes_back_with_its_message_until_it_is_fetched(serve: Serve) -> None:
    worker, server = serve(sends(response(DATA)))
    with worker.database.write() as session:
        new = NewJob(source="a.jpg", sha256=None, bytes=0, client_ref="r", submission="s", url=server.url)
        (job,) = jobs.add_jobs(session, [new])
    assert (message_of(job).url, message_of(job).sha256) == (server.url, None)
    assert worker.run(message_of(job)) is None
    fetched = worker.outcome(message_of(job)).job
    assert (message_of(fetched).url, message_of(fetched).sha256) == (None, SHA256)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://169.254.169.254/latest/meta-data/", "url_refused"),
        ("http://localhost:6379/", "url_refused"),
        ("file:///etc/passwd", "url_refused"),
        ("http://user:word@127.0.0.1/", "url_refused"),
        ("not a url", "url_refused"),
        ("http://[", "url_refused"),
        ("é" * 2048, "url_refused"),
    ],
)
def test_an_attempt_to_reach_what_it_should_not_fails_that_job_alone(serve: Serve, url: str, code: str) -> None:
    worker, server = serve(sends(response(DATA)))
    bad, good = by_url(url), by_url(server.url)
    assert [worker.run(bad), worker.run(good)] == [None, None]
    failed = worker.outcome(bad)
    assert (failed.job.state, failed.job.error_code, failed.job.attempts) == (JobState.FAILED, code, 1)
    assert (failed.job.sha256, failed.results) == (None, {})
    assert worker.outcome(good).job.state is JobState.DONE
    assert server.connections == 1


def test_without_allowed_hosts_nothing_is_fetched(make_worker: MakeWorker) -> None:
    worker = make_worker(answer)
    with web_server(sends(response(DATA))) as server:
        message = by_url(server.url)
        assert worker.run(message) is None
        assert worker.outcome(message).job.error_code == "url_refused"
        assert server.connections == 0


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [(b"", "404 Not Found", "url_gone"), (b"<html>", "200 OK", "unsupported_format"), (b"", "200 OK", "empty")],
)
def test_what_will_not_change_is_not_tried_again(serve: Serve, body: bytes, status: str, code: str) -> None:
    worker, server = serve(sends(response(body, status)))
    message = by_url(server.url)
    assert worker.run(message) is None
    assert worker.outcome(message).job.error_code == code
    assert server.connections == 1


def test_a_server_that_is_busy_is_asked_again_with_growing_waits(serve: Serve) -> None:
    worker, server = serve(sends(response(b"", "429 Busy")), sends(response(b"", "503 Busy")), sends(response(DATA)))
    message = by_url(server.url)
    assert [worker.run(message) for _ in range(3)] == [2.0, 3.0, None]
    job = worker.outcome(message).job
    assert (job.state, job.attempts, job.error_code) == (JobState.DONE, 3, None)
    assert server.connections == 3


def test_a_server_that_stays_away_ends_the_job_and_a_retry_asks_it_again(serve: Serve) -> None:
    busy = sends(response(b"", "503 Busy"))
    worker, server = serve(busy, busy, busy, sends(response(DATA)))
    message = by_url(server.url)
    assert [worker.run(message) for _ in range(3)] == [2.0, 3.0, None]
    assert worker.outcome(message).job.error_code == "url_unreachable"
    ((job,),) = requeue_failed(worker.database, FailedJobs())
    assert worker.run(message_of(job)) is None
    assert worker.outcome(message).job.state is JobState.DONE


def test_what_was_fetched_is_not_fetched_again_when_the_model_fails(serve: Serve) -> None:
    outcomes = iter((False, False, True))

    def falters(pictures: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        if not next(outcomes):
            raise FloatingPointError("this time")
        return answer(pictures)

    worker, server = serve(sends(response(DATA)), sends(response(picture_bytes(2))), predict=falters)
    message = by_url(server.url)
    assert [worker.run(message) for _ in range(3)] == [2.0, 3.0, None]
    job = worker.outcome(message).job
    assert (job.state, job.sha256, server.connections) == (JobState.DONE, SHA256, 1)


def test_a_worker_overtaken_while_it_fetched_records_nothing(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    message = by_url("http://later/")

    def overtaken(connection: Any) -> None:
        with worker.database.write() as session:
            assert isinstance(jobs.claim_job(session, message, lease_s=0), Claim)
        connection.sendall(response(DATA))

    worker, server = serve(overtaken)
    message = message.model_copy(update={"url": server.url})
    assert worker.run(message) is None
    job = worker.outcome(message).job
    assert (job.state, job.sha256, job.fence) == (JobState.RUNNING, None, 2)
    assert "claim 1 is void" in caplog.text


def test_a_failed_job_submitted_again_fetches_what_lies_there_now(serve: Serve) -> None:
    worker, server = serve(sends(response(b"<html>")), sends(response(DATA)))
    new = NewJob(source="a.jpg", sha256=None, bytes=0, client_ref="r", submission="s", url=server.url)
    for expected in (JobState.FAILED, JobState.DONE):
        with worker.database.write() as session:
            (job,) = jobs.add_jobs(session, [new])
        worker.run(message_of(job))
        with worker.database.read() as session:
            assert session.get_one(AuditJob, job.id).state is expected
    assert server.connections == 2
