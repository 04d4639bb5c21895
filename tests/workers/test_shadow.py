"""A candidate beside the live version: it scores what was answered, and nobody waits for it or fails with it."""

import threading
import uuid
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from model.predictor import Prediction
from schemas.errors import ModelInvalid
from schemas.states import JobState
from storage import registry, shadow_scores, telemetry
from storage.database import Database
from tests.pictures import picture_bytes
from tests.waiting import wait_for
from tests.workers.conftest import MakeWorker, StubPredictor, Worker
from workers import side_model
from workers.canary import in_share

PATIENCE_S = 30
MARKED, CLEAN = np.full((8, 8), 200, np.uint8), np.zeros((8, 8), np.uint8)
Predict = Callable[[Sequence[NDArray[np.uint8]]], list[Prediction]]


def calm(pictures: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
    """The live version: nothing is marked, low scores."""
    return [Prediction(CLEAN, -5.0) for _ in pictures]


def alarmed(pictures: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
    """The candidate: all is marked, high scores."""
    return [Prediction(MARKED, 9.0) for _ in pictures]


@pytest.fixture
def candidate(sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Predict], None]:
    """Registers a version whose network is the given function; one without a function cannot be loaded."""
    networks: dict[str, Predict] = {}

    def load(row: SimpleNamespace, *_: object) -> StubPredictor:
        if row.version not in networks:
            raise ModelInvalid(f"the files of {row.version} are gone")
        made = StubPredictor(networks[row.version])
        made.card = made.card.model_copy(update={"version": row.version})
        return made

    def register(version: str, predict: Predict | None = None) -> None:
        if predict is not None:
            networks[version] = predict
        with sqlite.write() as session:
            registry.register(session, version, {}, "-", "tester", "test")

    monkeypatch.setattr(side_model, "load", load)
    return register


def audited(worker: Worker, seed: int) -> str:
    """The version that answered a picture."""
    message = worker.submit(picture_bytes(seed))
    assert worker.run(message) is None
    outcome = worker.outcome(message)
    assert outcome.job.state is JobState.DONE and outcome.own is not None
    return outcome.own.model_version


def loaded(worker: Worker, version: str | None) -> None:
    """Wait until the shadow has this version."""
    shadow = worker.pipeline._shadow
    assert shadow is not None
    wait_for(lambda: shadow._model.version == version, f"shadow {version}")


def rows(database: Database, version: str = "night-1") -> list[tuple[str, str, float]]:
    with database.read() as session:
        found = shadow_scores.shadow_scores(session, version)
    return [(row.live_verdict.value, row.candidate_verdict.value, row.mask_agreement) for row in found]


def counted(outcome: str) -> float:
    return float(telemetry.SHADOW.labels(outcome)._value.get())


def test_what_the_live_version_answered_is_scored_by_the_candidate_too(
    make_worker: MakeWorker, sqlite: Database, candidate: Callable[..., None]
) -> None:
    candidate("older", calm)
    candidate("night-1", alarmed)
    worker = make_worker(calm, shadow_version="candidate")
    loaded(worker, "night-1")
    assert audited(worker, 1) != "night-1"
    wait_for(lambda: rows(sqlite), "shadow score")
    assert rows(sqlite) == [("pass", "flag", 0.0)]
    with sqlite.read() as session:
        (row,) = shadow_scores.shadow_scores(session, "night-1")
    assert row.candidate_score > 0.99 > 0.01 > row.live_score
    summary = shadow_scores.summarised([row])
    assert summary is not None
    assert (summary.pictures, summary.same_verdict, summary.mean_agreement) == (1, 0.0, 0.0)
    assert summary.differences == [row.candidate_score - row.live_score]


def test_it_stops_after_the_pictures_it_was_given(
    make_worker: MakeWorker, sqlite: Database, candidate: Callable[..., None]
) -> None:
    candidate("night-1", alarmed)
    worker = make_worker(calm, shadow_version="night-1", shadow_pictures=2, model_poll_s=0.05)
    loaded(worker, "night-1")
    for seed in (1, 2):
        audited(worker, seed)
        wait_for(lambda count=seed: len(rows(sqlite)) == count, "shadow score")
    loaded(worker, None)  # and lets its memory go
    audited(worker, 3)
    worker.pipeline.close()
    assert len(rows(sqlite)) == 2


def test_a_slow_candidate_delays_nobody_and_what_it_cannot_take_is_counted(
    make_worker: MakeWorker, sqlite: Database, candidate: Callable[..., None]
) -> None:
    go_on = threading.Event()

    def slow(pictures: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        assert go_on.wait(PATIENCE_S)
        return alarmed(pictures)

    candidate("night-1", slow)
    worker = make_worker(calm, shadow_version="night-1")
    loaded(worker, "night-1")
    dropped = counted("dropped")
    for seed in range(15):
        audited(worker, seed)  # answered though the candidate stands still
    assert rows(sqlite) == []
    # One in its hand, eight waiting; a thread that was slow to take the first may have had nine.
    assert counted("dropped") - dropped in (6, 7)
    go_on.set()
    wait_for(lambda: len(rows(sqlite)) >= 8, "shadow scores")


def test_a_candidate_that_fails_is_counted_and_the_live_answers_stay(
    make_worker: MakeWorker, sqlite: Database, candidate: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        raise ArithmeticError("a defect")

    candidate("night-1", broken)
    worker = make_worker(calm, shadow_version="night-1")
    loaded(worker, "night-1")
    failed = counted("failed")
    audited(worker, 1)
    # It is counted before it is told.
    wait_for(lambda: "ArithmeticError: a defect" in caplog.text, "failure")
    assert counted("failed") == failed + 1
    assert rows(sqlite) == []


@pytest.mark.parametrize("asked", [{"shadow_version": "night-1"}, {"canary_version": "night-1", "canary_share": 1.0}])
def test_a_version_that_cannot_be_loaded_is_told_once_and_the_live_one_goes_on(
    make_worker: MakeWorker, candidate: Callable[..., None], caplog: pytest.LogCaptureFixture, asked: dict[str, object]
) -> None:
    candidate("night-1")
    worker = make_worker(calm, model_poll_s=0.02, **asked)
    wait_for(lambda: "the files of night-1 are gone" in caplog.text, "report")
    assert [audited(worker, seed) for seed in range(3)] != ["night-1"] * 3
    worker.pipeline.close()
    assert caplog.text.count("cannot be loaded, the live version goes on alone") == 1


def test_without_the_setting_there_is_neither_shadow_nor_canary(make_worker: MakeWorker, candidate: Callable[..., None]) -> None:
    candidate("night-1", alarmed)
    worker = make_worker(calm, canary_version="night-1")
    assert worker.pipeline._shadow is None
    assert not worker.pipeline._canary.takes(uuid.UUID(int=0))
    assert audited(worker, 1) != "night-1"


def test_a_canary_answers_its_share_and_always_the_same_jobs(make_worker: MakeWorker, candidate: Callable[..., None]) -> None:
    candidate("night-1", alarmed)
    worker = make_worker(calm, canary_version="night-1", canary_share=0.5)
    wait_for(lambda: any(worker.pipeline._canary.takes(uuid.UUID(int=number)) for number in range(20)), "canary")
    data = picture_bytes(1)  # the same bytes again and again: no answer of the one stands for the other
    messages = [worker.submit(data) for _ in range(24)]
    for message in messages:
        assert worker.run(message) is None
    by = {message.job_id: worker.outcome(message).results["none"] for message in messages}
    for job_id, result in by.items():
        assert (result.model_version == "night-1") is in_share(job_id, 0.5)
        assert (result.verdict.value == "flag") is (result.model_version == "night-1")
    assert {result.reused_from is None for result in by.values()} == {True, False}  # the live version's answers are reused


def test_a_share_is_as_large_as_it_says() -> None:
    ids = [uuid.UUID(int=number) for number in range(4000)]
    assert sum(in_share(each, 0.25) for each in ids) == pytest.approx(1000, abs=100)
    assert [sum(in_share(each, share) for each in ids) for share in (0.0, 1.0)] == [0, 4000]
    assert all(in_share(each, 0.5) for each in ids if in_share(each, 0.25))


def test_where_the_canary_fails_the_live_version_answers(
    make_worker: MakeWorker, candidate: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        raise ArithmeticError("a defect")

    candidate("night-1", broken)
    worker = make_worker(calm, canary_version="night-1", canary_share=1.0)
    wait_for(lambda: worker.pipeline._canary.takes(uuid.UUID(int=1)), "canary")
    assert audited(worker, 1) != "night-1"
    assert "canary night-1 failed, the live version answers" in caplog.text


def test_a_canary_that_is_made_live_or_taken_away_leaves(
    make_worker: MakeWorker, sqlite: Database, candidate: Callable[..., None]
) -> None:
    candidate("night-1", alarmed)
    worker = make_worker(calm, canary_version="night-1", canary_share=1.0, model_poll_s=0.02)
    wait_for(lambda: worker.pipeline._canary.takes(uuid.UUID(int=1)), "canary")
    assert audited(worker, 1) == "night-1"
    with sqlite.write() as session:
        registry.promote(session, "night-1", "tester", "test")
    wait_for(lambda: not worker.pipeline._canary.takes(uuid.UUID(int=1)), "end of the canary")
    assert audited(worker, 2) != "night-1"
