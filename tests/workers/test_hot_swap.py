"""Another version is made live while pictures come: each has one version's answer, and none is lost or kept waiting."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlmodel import Session

from model.card import CARD_NAME, Card, builtin_directory
from model.predictor import Prediction, Predictor
from schemas.errors import EnvironmentMissing, InternalError, ModelInvalid, StoreUnavailable, TamperwatchError
from schemas.settings import EngineSettings, Settings, WorkerSettings
from schemas.tables import ModelVersion
from storage import registry, telemetry
from storage.blobs import DirectoryBlobStore
from storage.database import Database
from tests.pictures import picture_bytes
from tests.waiting import wait_for
from tests.workers.conftest import StubPredictor
from workers import hot_swap
from workers.hot_swap import HotSwap
from workers.loaded import Loaded
from workers.runtime import ModelRuntime

MakeWorker = Callable[..., Any]
PACKAGED = Card.load(builtin_directory()).version
PATIENCE_S = 30
# Tests look by themselves; where the thread is to look, they say so.
SETTINGS = Settings(engine=EngineSettings(threads=1), worker=WorkerSettings(max_batch=4, max_wait_ms=1, model_poll_s=3600))


class Numbered(StubPredictor):
    """The version `v<number>`; its logits are its number."""

    def __init__(self, number: int) -> None:
        super().__init__(lambda pictures: [Prediction(np.zeros((8, 8), np.uint8), float(number)) for _ in pictures])
        self.card = self.card.model_copy(update={"version": f"v{number}"})
        self.engine = SimpleNamespace(name="stub")


def make_live(database: Database, version: str, location: str | Path) -> None:
    with database.write() as session:
        registry.register(session, version, {}, str(location), "tester", "test")
        registry.promote(session, version, "tester", "test")


@pytest.fixture
def numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions v1, v2 … need no files."""
    monkeypatch.setattr(hot_swap, "load", lambda row, *_: Numbered(int(row.version[1:])))


@pytest.fixture
def follow(
    sqlite: Database, tmp_path: Path
) -> Iterator[Callable[..., tuple[ModelRuntime, HotSwap, list[tuple[str, TamperwatchError]]]]]:
    """Starts a runtime on a predictor, and what follows the live version; gives both and the refusals heard of."""
    closers: list[Callable[[], None]] = []
    blobs = DirectoryBlobStore(tmp_path / "blobs")

    def start(
        predictor: Predictor | StubPredictor, settings: Settings = SETTINGS, database: Database = sqlite
    ) -> tuple[ModelRuntime, HotSwap, list[tuple[str, TamperwatchError]]]:
        refusals: list[tuple[str, TamperwatchError]] = []
        runtime = ModelRuntime(predictor, settings)  # type: ignore[arg-type]
        swap = HotSwap(database, blobs, runtime, settings, lambda version, error: refusals.append((version, error)))
        closers.extend((swap.close, runtime.close))
        return runtime, swap, refusals

    yield start
    for close in closers:
        close()


Follow = Callable[..., tuple[ModelRuntime, HotSwap, list[tuple[str, TamperwatchError]]]]


def swaps(outcome: str) -> float:
    return float(telemetry.SWAPS.labels(outcome)._value.get())


@pytest.mark.usefixtures("numbered")
def test_under_load_every_picture_is_answered_by_one_version_only(sqlite: Database, follow: Follow) -> None:
    make_live(sqlite, "v1", "-")
    runtime, swap, refusals = follow(Numbered(1))
    stop, answered = threading.Event(), threading.Event()

    def audit_until_told() -> list[tuple[str, float, float]]:
        seen = []
        while not stop.is_set():
            with runtime.using() as model:
                first = model.submit(np.ones((32, 32, 3), np.uint8)).result(PATIENCE_S)
                second = model.submit(np.ones((32, 32, 3), np.uint8)).result(PATIENCE_S)
                seen.append((model.card.version, first.score_logit, second.score_logit))
            answered.set()
        return seen

    with ThreadPoolExecutor(8) as threads:
        workers = [threads.submit(audit_until_told) for _ in range(8)]
        for number in (2, 3, 4, 5, 6):
            answered.clear()
            assert answered.wait(PATIENCE_S)  # somebody was served since the last one
            make_live(sqlite, f"v{number}", "-")
            assert swap.look()
            assert runtime.card.version == f"v{number}"
        answered.clear()
        assert answered.wait(PATIENCE_S)
        stop.set()
        seen = [each for worker in workers for each in worker.result(PATIENCE_S)]
    assert {version for version, _, _ in seen} == {"v1", "v2", "v3", "v4", "v5", "v6"}
    assert all(first == second == float(version[1:]) for version, first, second in seen)
    assert refusals == []


def test_a_result_row_is_of_one_version_though_another_came_before_its_second_look(make_worker: MakeWorker) -> None:
    """Swapped during the first look; the new version would call the picture's score another name, and has no part in it."""
    settings = SETTINGS.model_copy(update={"worker": SETTINGS.worker.model_copy(update={"stability_band": 10.0})})
    looks, swapping = [], []

    def old(pictures: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        looks.append(len(pictures))
        if len(looks) == 1:
            thread = threading.Thread(target=runtime.swap, args=(Loaded(Numbered(7), settings),))  # type: ignore[arg-type]
            thread.start()
            swapping.append(thread)
            wait_for(lambda: runtime.card.version == "v7", "new version in its place")
        return [Prediction(np.zeros((8, 8), np.uint8), 0.0) for _ in pictures]

    worker = make_worker(old, stability_band=10.0)
    runtime: ModelRuntime = worker.pipeline._auditor._runtime
    first, second = (worker.submit(picture_bytes(seed)) for seed in (1, 2))
    assert worker.run(first) is None
    swapping[0].join(PATIENCE_S)
    assert worker.run(second) is None
    before, after = worker.outcome(first).own, worker.outcome(second).own
    assert (before.model_version, looks) == (PACKAGED, [1, 1])
    assert before.second_score == before.score
    assert after.model_version == "v7"
    assert after.score > before.score


@pytest.mark.usefixtures("numbered")
def test_the_thread_looks_by_itself(sqlite: Database, follow: Follow) -> None:
    often = SETTINGS.model_copy(update={"worker": SETTINGS.worker.model_copy(update={"model_poll_s": 0.02})})
    make_live(sqlite, "v1", "-")
    runtime, _, _ = follow(Numbered(1), often)
    done = swaps("done")
    make_live(sqlite, "v2", "-")
    wait_for(lambda: swaps("done") == done + 1, "swap")
    assert (runtime.card.version, telemetry.ACTIVITY.model_version) == ("v2", "v2")


@pytest.mark.usefixtures("numbered")
def test_nothing_happens_while_the_same_version_is_live(sqlite: Database, follow: Follow) -> None:
    runtime, swap, _ = follow(Numbered(1))
    assert not swap.look()  # none is live
    make_live(sqlite, "v1", "-")
    with runtime.using() as before:
        assert not swap.look()
    with runtime.using() as after:
        assert before is after


@pytest.mark.slow
def test_a_version_from_a_folder_answers_as_it_does_alone(sqlite: Database, tmp_path: Path, follow: Follow) -> None:
    make_live(sqlite, PACKAGED, registry.PACKAGE_LOCATION)
    folder = renamed_copy(tmp_path, "night-1")
    runtime, swap, refusals = follow(Predictor.load(builtin_directory(), threads=1))
    make_live(sqlite, "night-1", folder)
    assert swap.look()
    picture = np.random.default_rng(1).integers(0, 256, (runtime.card.student.input_size,) * 2 + (3,), dtype=np.uint8)
    with runtime.using() as model:
        answer = model.submit(picture).result(PATIENCE_S)
    (alone,) = Predictor.load(folder, threads=1).predict([picture])
    assert (model.card.version, refusals) == ("night-1", [])
    assert answer.score_logit == pytest.approx(alone.score_logit, abs=1e-3)
    with sqlite.write() as session:
        registry.promote(session, PACKAGED, "tester", "back")
    assert swap.look()
    assert runtime.card.version == PACKAGED


def renamed_copy(tmp_path: Path, version: str) -> Path:
    """The packaged student's folder under another name."""
    folder = Path(shutil.copytree(builtin_directory(), tmp_path / version))
    card = json.loads((folder / CARD_NAME).read_text(encoding="utf-8")) | {"version": version}
    (folder / CARD_NAME).write_text(json.dumps(card), encoding="utf-8")
    return folder


def damage(folder: Path) -> Callable[[], None]:
    """Change one bit of the weights; what is returned changes it back."""
    weights = folder / Card.load(folder).files["openvino_bin"].name
    good = weights.read_bytes()
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 1
    weights.write_bytes(bad)
    return lambda: weights.write_bytes(good) and None


class Clock:
    """Stands in for `time` in hot_swap; moves when it is told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


def test_a_damaged_version_is_refused_and_the_old_one_stays(
    sqlite: Database, tmp_path: Path, follow: Follow, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    monkeypatch.setattr(hot_swap, "time", clock)
    folder = renamed_copy(tmp_path, "night-1")
    mend = damage(folder)
    make_live(sqlite, "v1", "-")
    runtime, swap, refusals = follow(Numbered(1))
    make_live(sqlite, "night-1", folder)
    refused = swaps("refused")
    for _ in range(5):
        assert not swap.look()
        clock.now_s += 100
    ((version, error),) = refusals  # told once, though it was tried again
    assert (version, type(error)) == ("night-1", ModelInvalid)
    assert "does not match the sha256" in error.message
    assert "night-1 is live but cannot be served here, v1 goes on" in caplog.text
    assert swaps("refused") == refused + 1
    with runtime.using() as model:
        assert model.submit(np.ones((32, 32, 3), np.uint8)).result(PATIENCE_S).score_logit == 1.0
    mend()
    clock.now_s += 1000
    assert swap.look()
    assert runtime.card.version == "night-1"


def test_a_refused_version_is_left_alone_for_a_while(sqlite: Database, follow: Follow, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, tried_at_s = Clock(), []

    def fail(*_: object) -> Predictor:
        tried_at_s.append(clock.now_s - 1000)
        raise ArithmeticError("a defect")

    monkeypatch.setattr(hot_swap, "time", clock)
    monkeypatch.setattr(hot_swap, "load", fail)
    make_live(sqlite, "v1", "-")
    _, swap, refusals = follow(Numbered(1))
    make_live(sqlite, "v2", "-")
    for _ in range(50):
        swap.look()
        clock.now_s += 10
    assert tried_at_s == [0, 30, 90, 210, 450]
    assert [(version, type(error), error.message) for version, error in refusals] == [
        ("v2", InternalError, "ArithmeticError: a defect")
    ]


def test_a_version_made_live_again_is_tried_and_told_at_once(
    sqlite: Database, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(hot_swap, "time", clock)
    make_live(sqlite, "v1", registry.PACKAGE_LOCATION)
    _, swap, refusals = follow(Numbered(1))
    make_live(sqlite, "v2", registry.PACKAGE_LOCATION)
    swap.look()
    with sqlite.write() as session:
        session.get_one(ModelVersion, "v2").stage_changed_at += timedelta(seconds=1)
    swap.look()
    swap.look()
    assert [(version, type(error)) for version, error in refusals] == [("v2", EnvironmentMissing)] * 2


def test_going_back_to_the_old_version_needs_no_loading(
    sqlite: Database, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_live(sqlite, "v1", registry.PACKAGE_LOCATION)
    runtime, swap, refusals = follow(Numbered(1))
    make_live(sqlite, "v2", registry.PACKAGE_LOCATION)
    assert not swap.look()
    with sqlite.write() as session:
        registry.promote(session, "v1", "tester", "back")
    monkeypatch.setattr(hot_swap, "load", None)
    assert not swap.look()
    assert (runtime.card.version, len(refusals)) == ("v1", 1)


class Away(Database):
    """A database that does not answer."""

    def __init__(self) -> None:
        super().__init__("sqlite://")
        self.asked = threading.Event()

    @contextmanager
    def read(self) -> Iterator[Session]:
        self.asked.set()
        raise StoreUnavailable("the results store does not answer: switched off by the test")
        yield


def test_a_database_that_is_away_changes_nothing(follow: Follow, caplog: pytest.LogCaptureFixture) -> None:
    often = SETTINGS.model_copy(update={"worker": SETTINGS.worker.model_copy(update={"model_poll_s": 0.02})})
    away = Away()
    runtime, _, refusals = follow(Numbered(1), often, away)
    assert away.asked.wait(PATIENCE_S)
    away.asked.clear()
    assert away.asked.wait(PATIENCE_S)  # it goes on looking
    assert (runtime.card.version, refusals) == ("v1", [])
    assert "which version is live could not be seen this time" in caplog.text
    away.close()
