import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.card import Card, builtin_directory
from model.predictor import Prediction, Predictor
from schemas.errors import EnvironmentMissing, ModelInvalid
from schemas.settings import EngineSettings, Settings, WorkerSettings
from schemas.states import ModelStage
from storage import registry
from storage.database import Database
from workers.runtime import EXIT_HUNG, ModelRuntime, directory_of, live_version

PACKAGED = Card.load(builtin_directory()).version


def make_live(database: Database, version: str, location: str) -> None:
    with database.write() as session:
        registry.register(session, version, {}, location, "test")
        registry.set_live(session, version, "test")


def test_the_live_model_answers_in_batches(sqlite: Database, predictor: Predictor) -> None:
    settings = Settings(engine=EngineSettings(threads=1), worker=WorkerSettings(max_batch=2, max_wait_ms=1))
    runtime = ModelRuntime.live(sqlite, settings)
    assert (runtime.card.version, runtime.input_size) == (PACKAGED, predictor.input_size)
    rng = np.random.default_rng(3)
    pictures = [rng.integers(0, 256, (runtime.input_size,) * 2 + (3,), dtype=np.uint8) for _ in range(3)]
    answers = [future.result(30) for future in [runtime.submit(picture) for picture in pictures]]
    for picture, answer in zip(pictures, answers, strict=True):
        (alone,) = predictor.predict([picture])
        assert np.abs(answer.mask_net.astype(int) - alone.mask_net).max() <= 1
        assert answer.score_logit == pytest.approx(alone.score_logit, abs=1e-3)
    runtime.close()
    with pytest.raises(RuntimeError, match="closed"):
        runtime.submit(pictures[0])


def test_the_engine_is_warm_for_one_picture_and_for_a_full_batch() -> None:
    class Counting:
        card, input_size = Card.load(builtin_directory()), 16

        def __init__(self) -> None:
            self.batches: list[int] = []

        def predict(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
            self.batches.append(len(pictures))
            return [Prediction(np.zeros((4, 4), np.uint8), 0.0) for _ in pictures]

    counting = Counting()
    ModelRuntime(counting, Settings(worker=WorkerSettings(max_batch=6))).close()  # type: ignore[arg-type]
    assert sorted(counting.batches) == [1, 6]


def test_the_packaged_student_is_live_where_nothing_ever_was(database: Database) -> None:
    row = live_version(database)
    assert (row.version, row.stage, row.location) == (PACKAGED, ModelStage.LIVE, registry.PACKAGE_LOCATION)
    assert Card.model_validate(row.card).version == PACKAGED
    assert directory_of(row) == builtin_directory()


def test_a_version_that_lies_elsewhere_is_found_there(sqlite: Database, tmp_path: Path) -> None:
    make_live(sqlite, "night-7", str(tmp_path))
    assert directory_of(live_version(sqlite)) == tmp_path
    with sqlite.read() as session:
        assert registry.get(session, PACKAGED).stage is ModelStage.CANDIDATE


def test_the_packaged_student_of_another_release_is_not_guessed_at(sqlite: Database) -> None:
    make_live(sqlite, "student-of-yesterday", registry.PACKAGE_LOCATION)
    with pytest.raises(EnvironmentMissing, match=rf"student-of-yesterday is live but this release ships {PACKAGED}"):
        directory_of(live_version(sqlite))


def test_damaged_weights_are_not_served(sqlite: Database, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(builtin_directory(), copy)
    weights = copy / Card.load(copy).files["openvino_bin"].name
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    make_live(sqlite, "damaged", str(copy))
    with pytest.raises(ModelInvalid, match="does not match the sha256"):
        ModelRuntime.live(sqlite, Settings())


_HANGING_WORKER = """
import threading
from tests.workers.conftest import StubPredictor
from schemas.settings import Settings, WorkerSettings
from workers.runtime import ModelRuntime
import numpy as np

hang = threading.Event()
runtime = ModelRuntime(StubPredictor(lambda pictures: hang.wait()), Settings(worker=WorkerSettings(hang_exit_s=0.2)))
runtime.submit(np.ones((32, 32, 3), np.uint8)).result()
"""


@pytest.mark.slow
def test_a_worker_whose_device_hangs_leaves_so_that_another_can_start() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _HANGING_WORKER], cwd=root, timeout=60, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "the device has not answered" in done.stderr) == (EXIT_HUNG, True), done.stderr
