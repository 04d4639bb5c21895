"""A version made ready: its files and no other's, its batch size set, found or fixed, its engine warm."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.card import Card, builtin_directory
from model.predictor import Prediction
from schemas.errors import DeviceMemoryFull, EnvironmentMissing, ModelInvalid
from schemas.settings import EngineSettings, Settings, WorkerSettings
from schemas.tables import ModelVersion
from storage import registry
from storage.blobs import BlobStore, DirectoryBlobStore
from storage.model_files import store_student
from workers import loaded
from workers.batch_size import CPU_BATCH, Trial
from workers.loaded import Loaded, directory_of, load, timed

PACKAGED = Card.load(builtin_directory()).version


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return DirectoryBlobStore(tmp_path / "blobs")


class Counting:
    """Counts batches; has room for some pictures and, made so, gains from larger batches."""

    card, input_size, lanes = Card.load(builtin_directory()), 16, 1

    def __init__(self, searches: bool = False, room: int = 1000) -> None:
        self.batches: list[int] = []
        self.searches = searches
        self.room = room

    def predict(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        if len(pictures) > self.room:
            raise DeviceMemoryFull(f"{len(pictures)} do not fit")
        self.batches.append(len(pictures))
        return [Prediction(np.zeros((4, 4), np.uint8), 0.0) for _ in pictures]

    def memory_share(self) -> float:
        return 0.25


def settings_of(max_batch: int) -> Settings:
    return Settings(worker=WorkerSettings(max_batch=max_batch))


def ready(counting: Counting, max_batch: int, known: int = 0) -> Loaded:
    made = Loaded(counting, settings_of(max_batch), known)  # type: ignore[arg-type]
    made.close()
    return made


def row_of(version: str, location: str | Path) -> ModelVersion:
    return ModelVersion(version=version, location=str(location), card={}, reason="test")


@pytest.mark.parametrize(("max_batch", "sizes"), [(1, [1]), (2, [1, 2]), (6, [1, 6])])
def test_a_cpu_is_warm_for_one_picture_and_for_a_full_batch(max_batch: int, sizes: list[int]) -> None:
    counting = Counting()
    assert ready(counting, max_batch).max_batch == max_batch
    assert counting.batches == sizes


def test_a_device_that_records_its_work_is_warm_for_every_size() -> None:
    counting = Counting(searches=True)
    assert ready(counting, 12).max_batch == 12
    assert counting.batches == [1, 2, 4, 8, 12]


def test_a_cpu_takes_the_fixed_size() -> None:
    assert ready(Counting(), 0).max_batch == CPU_BATCH


def test_a_device_that_gains_from_batches_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {1: 100.0, 2: 180.0, 4: 300.0, 8: 310.0}
    monkeypatch.setattr(loaded, "timed", lambda _, size: Trial(rates[size], 0.01))
    assert ready(Counting(searches=True), 0).max_batch == 4


def test_the_next_version_takes_the_size_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaded, "best_batch", None)
    assert ready(Counting(searches=True), 0, known=32).max_batch == 32


def test_a_cpu_that_serves_another_version_warms_the_next_with_one_picture() -> None:
    counting = Counting()
    assert ready(counting, 0, known=16).max_batch == 16
    assert counting.batches == [1]


def test_a_size_that_does_not_fit_gives_way_to_one_that_does(caplog: pytest.LogCaptureFixture) -> None:
    counting = Counting(searches=True, room=5)
    assert ready(counting, 16).max_batch == 4
    assert "batches of up to 4 pictures, not 16: 8 do not fit" in caplog.text
    with pytest.raises(DeviceMemoryFull, match="1 do not fit"):
        ready(Counting(room=0), 16)


def test_a_trial_runs_at_least_once_after_a_first_batch_that_does_not_count() -> None:
    counting = Counting()
    trial = timed(counting, 3, at_least_s=0)  # type: ignore[arg-type]
    assert counting.batches == [3, 3]
    assert (trial.rate > 0, trial.memory_share) == (True, 0.25)


def test_the_packaged_student_lies_in_the_package(blobs: BlobStore) -> None:
    row = row_of(PACKAGED, registry.PACKAGE_LOCATION)
    assert directory_of(row, Settings(), blobs) == builtin_directory()
    predictor = load(row, Settings(engine=EngineSettings(threads=1)), blobs)
    assert (predictor.card.version, predictor.engine.name) == (PACKAGED, "openvino")


def test_a_version_that_lies_in_a_folder_is_found_there(tmp_path: Path, blobs: BlobStore) -> None:
    folder = Path(shutil.copytree(builtin_directory(), tmp_path / "night"))
    assert directory_of(row_of("night-7", folder), Settings(), blobs) == folder


def test_a_version_in_the_blob_store_is_fetched_into_the_cache(tmp_path: Path, blobs: BlobStore) -> None:
    location = store_student(blobs, builtin_directory(), PACKAGED)
    settings = Settings(engine=EngineSettings(threads=1, model_cache=str(tmp_path / "cache")))
    folder = directory_of(row_of(PACKAGED, location), settings, blobs)
    assert folder.is_relative_to(tmp_path / "cache")
    assert load(row_of(PACKAGED, location), settings, blobs).card.version == PACKAGED


def test_the_packaged_student_of_another_release_is_not_guessed_at(blobs: BlobStore) -> None:
    with pytest.raises(EnvironmentMissing, match=rf"student-of-yesterday is live but this release ships {PACKAGED}"):
        load(row_of("student-of-yesterday", registry.PACKAGE_LOCATION), Settings(), blobs)


def test_a_folder_of_another_version_is_refused(blobs: BlobStore) -> None:
    with pytest.raises(ModelInvalid, match=rf"holds {PACKAGED}, not night-8"):
        load(row_of("night-8", builtin_directory()), Settings(engine=EngineSettings(threads=1)), blobs)


def test_damaged_weights_are_not_served(tmp_path: Path, blobs: BlobStore) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(builtin_directory(), copy)
    weights = copy / Card.load(copy).files["openvino_bin"].name
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ModelInvalid, match="does not match the sha256"):
        load(row_of(PACKAGED, copy), Settings(), blobs)
