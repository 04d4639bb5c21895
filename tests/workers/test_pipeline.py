import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlmodel import Session, select

from model.predictor import Prediction
from schemas.errors import BlobStoreUnavailable, DecodeFailed, StoreUnavailable
from schemas.messages import AuditMessage
from schemas.states import JobState
from schemas.tables import AuditJob, AuditResult, now
from storage import jobs
from storage.database import Database
from storage.jobs import Claim
from tests.pictures import picture_bytes

MakeWorker = Callable[..., Any]
Pixels = NDArray[np.uint8]


def answer(pictures: Sequence[Pixels]) -> list[Prediction]:
    return [Prediction(np.full((8, 8), 255, np.uint8), 3.0) for _ in pictures]


def lapse(worker: Any, message: AuditMessage) -> None:
    """Make the claim on a job so old that its holder counts as dead."""
    with worker.database.write() as session:
        session.get_one(AuditJob, message.job_id).claimed_at = now() - timedelta(hours=1)


class Unreliable(Database):
    """A database whose writes fail while `down` is set."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.down = threading.Event()

    @contextmanager
    def write(self) -> Iterator[Session]:
        if self.down.is_set():
            raise StoreUnavailable("the results store does not answer: switched off by the test")
        with super().write() as session:
            yield session


def test_a_foreign_message_makes_its_own_job(make_worker: MakeWorker) -> None:
    worker = make_worker(answer)
    known = worker.submit(picture_bytes(1))
    foreign = AuditMessage(job_id=uuid.uuid4(), sha256=known.sha256, source="theirs.jpg")
    assert worker.run(foreign) is None
    audited = worker.outcome(foreign)
    assert (audited.job.state, audited.job.source, audited.job.client_ref) == (JobState.DONE, "theirs.jpg", None)


@pytest.mark.parametrize("payload", [None, {}, "text", {"job_id": "x"}, {"version": 99}])
def test_what_is_no_message_is_dropped_without_a_row(make_worker: MakeWorker, payload: object) -> None:
    worker = make_worker(answer)
    assert worker.pipeline.run(payload) is None
    with worker.database.read() as session:
        assert session.exec(select(AuditJob)).all() == []


def test_a_transient_error_is_retried_with_growing_waits_and_then_recorded(make_worker: MakeWorker) -> None:
    worker = make_worker(answer)
    message = worker.submit(picture_bytes(1))

    def away(*_: object) -> bytes:
        raise BlobStoreUnavailable("gone fishing")

    worker.blobs.get = away
    waits, states = [], []
    for _ in range(3):
        waits.append(worker.run(message))
        job = worker.outcome(message).job
        states.append((job.state.value, job.error_code))
    assert waits == [2.0, 3.0, None]  # 2 s, then 4 s cut to the longest allowed, then the end
    assert states == [("queued", "blob_store_unavailable")] * 2 + [("failed", "blob_store_unavailable")]


def test_a_job_that_recovers_carries_no_error(make_worker: MakeWorker) -> None:
    worker = make_worker(answer)
    message = worker.submit(picture_bytes(1))
    get = worker.blobs.get

    def away(*_: object) -> bytes:
        raise BlobStoreUnavailable("gone fishing")

    worker.blobs.get = away
    assert worker.run(message) == 2.0
    worker.blobs.get = get
    assert worker.run(message) is None
    job = worker.outcome(message).job
    assert (job.state, job.attempts, job.error_code, job.error_message) == (JobState.DONE, 2, None, None)


def test_a_picture_that_kills_its_worker_every_time_is_given_up(make_worker: MakeWorker) -> None:
    worker = make_worker(answer)
    message = worker.submit(picture_bytes(1))
    for _ in range(3):  # claimed, and the worker was never heard of again
        with worker.database.write() as session:
            assert isinstance(jobs.claim_job(session, message, lease_s=0), Claim)
    lapse(worker, message)
    assert worker.run(message) is None
    audited = worker.outcome(message)
    assert (audited.job.state, audited.job.error_code, audited.results) == (JobState.FAILED, "worker_lost", {})


def test_a_claim_about_to_lapse_is_waited_for(make_worker: MakeWorker) -> None:
    """A dead worker's message comes back this much early; sent away, it would queue again behind all that wait."""
    worker = make_worker(answer, visibility_timeout_s=60)
    message = worker.submit(picture_bytes(1))
    with worker.database.write() as session:
        assert isinstance(jobs.claim_job(session, message), Claim)
        session.get_one(AuditJob, message.job_id).claimed_at = now() - timedelta(seconds=59.7)
    assert worker.run(message) is None
    job = worker.outcome(message).job
    assert (job.state, job.attempts) == (JobState.DONE, 2)


def test_a_claim_that_holds_on_is_not_waited_for(make_worker: MakeWorker) -> None:
    worker = make_worker(answer, visibility_timeout_s=60)
    message = worker.submit(picture_bytes(1))
    with worker.database.write() as session:
        assert isinstance(jobs.claim_job(session, message), Claim)
    assert worker.run(message) == 2.0


def test_a_defect_of_ours_is_recorded_after_all_attempts(make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise KeyError("oops")

    worker = make_worker(answer)
    monkeypatch.setattr("workers.auditing.render.mask_png", broken)
    message = worker.submit(picture_bytes(1))
    assert [worker.run(message) for _ in range(3)] == [2.0, 3.0, None]
    job = worker.outcome(message).job
    assert (job.error_code, job.error_message) == ("internal_error", "KeyError: 'oops'")


def test_a_redelivered_finished_job_does_nothing(make_worker: MakeWorker) -> None:
    calls: list[int] = []

    def counted(pictures: Sequence[Pixels]) -> list[Prediction]:
        calls.append(len(pictures))
        return answer(pictures)

    worker = make_worker(counted)
    message = worker.submit(picture_bytes(1))
    assert worker.run(message) is None
    first = worker.outcome(message)
    assert worker.run(message) is None
    again = worker.outcome(message)
    assert calls == [1]
    assert (again.job.attempts, again.job.finished_at) == (1, first.job.finished_at)
    assert again.own == first.own


def test_the_same_message_in_four_hands_is_one_attempt_and_one_result(make_worker: MakeWorker) -> None:
    worker = make_worker(answer, max_wait_ms=100)
    message = worker.submit(picture_bytes(1))
    with ThreadPoolExecutor(4) as threads:
        waits = list(threads.map(worker.run, [message] * 4))
    assert None in waits and all(wait is None or 0 <= wait <= 2.0 for wait in waits)
    with worker.database.read() as session:
        assert len(session.exec(select(AuditResult)).all()) == 1
    job = worker.outcome(message).job
    assert (job.state, job.attempts, job.fence, job.claimed_at) == (JobState.DONE, 1, 1, None)
    assert worker.run(message) is None


def test_a_job_in_another_hand_is_left_alone_until_its_claim_lapses(make_worker: MakeWorker) -> None:
    worker = make_worker(answer)
    message = worker.submit(picture_bytes(1))
    with worker.database.write() as session:
        jobs.claim_job(session, message)
    assert worker.run(message) == 2.0
    assert (worker.outcome(message).job.attempts, worker.outcome(message).results) == (1, {})
    lapse(worker, message)
    assert worker.run(message) is None
    assert (worker.outcome(message).job.state, worker.outcome(message).job.attempts) == (JobState.DONE, 2)


@pytest.mark.parametrize("error", [None, BlobStoreUnavailable("gone fishing"), DecodeFailed("truncated")])
def test_the_outcome_of_a_worker_that_was_overtaken_changes_nothing(
    make_worker: MakeWorker, caplog: pytest.LogCaptureFixture, error: Exception | None
) -> None:
    worker = make_worker(answer)
    message = worker.submit(picture_bytes(1))
    get = worker.blobs.get

    def overtaken(*arguments: Any) -> bytes:
        with worker.database.write() as session:
            assert isinstance(jobs.claim_job(session, message, lease_s=0), Claim)
        if error is not None:
            raise error
        return bytes(get(*arguments))

    worker.blobs.get = overtaken
    assert worker.run(message) is None
    audited = worker.outcome(message)
    assert (audited.job.state, audited.job.attempts, audited.job.error_code) == (JobState.RUNNING, 2, None)
    assert audited.results == {}
    assert "claim 1 is void" in caplog.text


def test_a_worker_that_stops_gives_back_what_it_holds(make_worker: MakeWorker) -> None:
    reached, release = threading.Event(), threading.Event()

    def hangs(pictures: Sequence[Pixels]) -> list[Prediction]:
        reached.set()
        release.wait(30)
        return answer(pictures)

    worker = make_worker(hangs)
    message = worker.submit(picture_bytes(1))
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(worker.run, message)
        assert reached.wait(30)
        worker.pipeline.close()
        job = worker.outcome(message).job
        assert (job.state, job.attempts, job.claimed_at) == (JobState.QUEUED, 0, None)
        release.set()
        assert running.result(30) == 2.0  # too late to store anything: the message comes again


def test_a_store_that_is_down_brings_the_message_back(make_worker: MakeWorker, sqlite_url: str) -> None:
    database = Unreliable(sqlite_url)
    worker = make_worker(answer, database)
    message = worker.submit(picture_bytes(1))
    database.down.set()
    assert [worker.run(message) for _ in range(5)] == [2.0] * 5
    database.down.clear()
    assert worker.run(message) is None
    audited = worker.outcome(message)
    assert (audited.job.state, audited.job.attempts) == (JobState.DONE, 1)


def test_a_store_that_goes_down_before_the_result_is_stored(make_worker: MakeWorker, sqlite_url: str) -> None:
    database = Unreliable(sqlite_url)

    def cuts_the_line(pictures: Sequence[Pixels]) -> list[Prediction]:
        database.down.set()
        return answer(pictures)

    worker = make_worker(cuts_the_line, database)
    message = worker.submit(picture_bytes(1))
    assert worker.run(message) == 2.0
    assert worker.outcome(message).job.state is JobState.RUNNING
    assert worker.outcome(message).results == {}


def test_nothing_escapes_even_when_the_error_cannot_be_stored(make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise TypeError("defect in storage")

    worker = make_worker(answer)
    for name in ("finish_jobs", "release_job"):
        monkeypatch.setattr(f"workers.pipeline.jobs.{name}", broken)
    assert worker.run(worker.submit(picture_bytes(1))) == 2.0


def test_a_message_that_comes_while_the_worker_closes_comes_again(make_worker: MakeWorker) -> None:
    worker = make_worker(answer)
    message = worker.submit(picture_bytes(1))
    worker.pipeline.close()
    assert worker.run(message) == 2.0
    assert worker.outcome(message).job.state is JobState.QUEUED
