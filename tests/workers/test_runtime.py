import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.card import Card, builtin_directory
from model.predictor import Prediction, Predictor
from schemas.errors import ModelInvalid
from schemas.settings import EngineSettings, Settings, WorkerSettings
from schemas.states import ModelStage
from storage import registry, telemetry
from storage.blobs import DirectoryBlobStore
from storage.database import Database
from tests.waiting import wait_for
from tests.workers.conftest import StubPredictor
from workers.loaded import Loaded
from workers.runtime import EXIT_HUNG, ModelRuntime, live_version

PACKAGED = Card.load(builtin_directory()).version
QUICK = Settings(engine=EngineSettings(threads=1), worker=WorkerSettings(max_batch=2, max_wait_ms=1))
PATIENCE_S = 30


class Saying(StubPredictor):
    """A version that answers its own number, when it is let."""

    def __init__(self, version: str, number: float) -> None:
        super().__init__(self._answer)
        self.card = self.card.model_copy(update={"version": version})
        self._number = number
        self.open = threading.Event()
        self.open.set()

    def _answer(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        assert self.open.wait(PATIENCE_S)
        return [Prediction(np.zeros((8, 8), np.uint8), self._number) for _ in pictures]


def picture() -> NDArray[np.uint8]:
    return np.ones((32, 32, 3), np.uint8)


def test_the_live_model_answers_in_batches(sqlite: Database, predictor: Predictor, tmp_path: Path) -> None:
    runtime = ModelRuntime.live(sqlite, DirectoryBlobStore(tmp_path), QUICK)
    assert (runtime.card.version, runtime.max_batch, runtime.lanes) == (PACKAGED, 2, 1)
    assert telemetry.ACTIVITY.model_version == PACKAGED
    rng = np.random.default_rng(3)
    pictures = [rng.integers(0, 256, (predictor.input_size,) * 2 + (3,), dtype=np.uint8) for _ in range(3)]
    with runtime.using() as model:
        assert model.input_size == predictor.input_size
        answers = [future.result(PATIENCE_S) for future in [model.submit(picture) for picture in pictures]]
    for picture, answer in zip(pictures, answers, strict=True):
        (alone,) = predictor.predict([picture])
        assert np.abs(answer.mask_net.astype(int) - alone.mask_net).max() <= 1
        assert answer.score_logit == pytest.approx(alone.score_logit, abs=1e-3)
    runtime.close()
    with runtime.using() as model, pytest.raises(RuntimeError, match="closed"):
        model.submit(pictures[0])


def test_the_packaged_student_is_live_where_nothing_ever_was(database: Database) -> None:
    row = live_version(database)
    assert (row.version, row.stage, row.location) == (PACKAGED, ModelStage.LIVE, registry.PACKAGE_LOCATION)
    assert Card.model_validate(row.card).version == PACKAGED


def test_a_worker_does_not_start_on_a_version_that_cannot_be_served(sqlite: Database, tmp_path: Path) -> None:
    with sqlite.write() as session:
        registry.register(session, "night-7", {}, str(tmp_path), "tester", "test")
        registry.promote(session, "night-7", "tester", "test")
    with pytest.raises(ModelInvalid, match=r"card\.json does not exist"):
        ModelRuntime.live(sqlite, DirectoryBlobStore(tmp_path), QUICK)
    with sqlite.read() as session:
        assert registry.get(session, PACKAGED).stage is ModelStage.CANDIDATE


def test_who_began_with_a_version_ends_with_it(caplog: pytest.LogCaptureFixture) -> None:
    old, new = Saying("old", 1.0), Saying("new", 2.0)
    runtime = ModelRuntime(old, QUICK)  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as threads:
        with runtime.using() as first:
            swapping = threads.submit(runtime.swap, Loaded(new, QUICK))  # type: ignore[arg-type]
            wait_for(lambda: runtime.card.version == "new", "new version in its place")
            with runtime.using() as second:
                assert second.card.version == "new"
                assert second.submit(picture()).result(PATIENCE_S).score_logit == 2.0
            assert first.card.version == "old"
            assert first.submit(picture()).result(PATIENCE_S).score_logit == 1.0  # as a second look comes late
            assert not swapping.done()
        swapping.result(PATIENCE_S)
    with pytest.raises(RuntimeError, match="closed"):
        first.submit(picture())
    assert runtime.busy_for_s() == 0
    runtime.close()
    assert not caplog.messages


def test_a_version_on_its_way_out_is_watched_too() -> None:
    old, new = Saying("old", 1.0), Saying("new", 2.0)
    runtime = ModelRuntime(old, QUICK)  # type: ignore[arg-type]
    old.open.clear()
    with ThreadPoolExecutor(1) as threads:
        with runtime.using() as first:
            future = first.submit(picture())
            wait_for(lambda: first.busy_for_s() > 0, "call under way")
        swapping = threads.submit(runtime.swap, Loaded(new, QUICK))  # type: ignore[arg-type]
        wait_for(lambda: runtime.card.version == "new", "new version in its place")
        assert runtime.busy_for_s() > 0
        old.open.set()
        swapping.result(PATIENCE_S)
    assert future.result(0).score_logit == 1.0
    runtime.close()


_HANGING_WORKER = """
import threading
from tests.workers.conftest import StubPredictor
from schemas.settings import Settings, WorkerSettings
from workers.runtime import ModelRuntime
import numpy as np

hang = threading.Event()
predictor = StubPredictor(lambda pictures: hang.wait())
predictor.lanes = LANES
runtime = ModelRuntime(predictor, Settings(worker=WorkerSettings(max_batch=1, hang_exit_s=0.2)))
with runtime.using() as model:
    pending = [model.submit(np.ones((32, 32, 3), np.uint8)) for _ in range(3)]
    pending[0].result()
"""


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [1, 2])
def test_a_worker_whose_device_hangs_leaves_so_that_another_can_start(lanes: int) -> None:
    root = Path(__file__).parents[2]
    script = _HANGING_WORKER.replace("LANES", str(lanes))
    done = subprocess.run([sys.executable, "-c", script], cwd=root, timeout=60, capture_output=True, text=True, check=False)
    assert (done.returncode, "the device has not answered" in done.stderr) == (EXIT_HUNG, True), done.stderr
