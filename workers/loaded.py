"""One student version, ready to answer: its files found, its batch size known, its engine warm."""

import logging
import time
from concurrent.futures import Future
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.predictor import Prediction, Predictor
from schemas.errors import DeviceMemoryFull, ModelInvalid
from schemas.settings import Settings
from schemas.tables import ModelVersion
from storage.blobs import BlobStore
from workers.batch_size import CPU_BATCH, Trial, best_batch
from workers.batching import MicroBatcher
from workers.student_files import directory_of

log = logging.getLogger(__name__)

_TRIAL_S: Final = 0.3


class Loaded:
    """A predictor behind a micro-batcher. A picture is prepared, run and judged by one and the same of these.

    Attributes:
        card: of the version.
        input_size: S of the pictures it takes.
        max_batch: pictures a network call at most.
        lanes: batches that may be under way at once.
    """

    def __init__(self, predictor: Predictor, settings: Settings, max_batch: int = 0, name: str = "device") -> None:
        """Warm the engine up, then serve.

        Args:
            predictor: the loaded student.
            settings: batch size, waiting time, share of the device's memory.
            max_batch: the batch size that is known already; 0 goes by the settings, and finds it where those say nothing.
            name: of its threads, and in metrics.

        Raises:
            DeviceMemoryFull: not even one picture fits.
        """
        self.card = predictor.card
        self.input_size = predictor.input_size
        self.lanes = predictor.lanes
        self.max_batch = _warm(predictor, max_batch) if max_batch else _tried(predictor, chosen_batch(predictor, settings))
        self._batcher: MicroBatcher[NDArray[np.uint8], Prediction] = MicroBatcher(
            predictor.predict, self.max_batch, settings.worker.max_wait_ms / 1000, name=name, lanes=self.lanes
        )

    def submit(self, pixels: NDArray[np.uint8]) -> Future[Prediction]:
        """Queue one [S, S, 3] uint8 picture for the next batch."""
        return self._batcher.submit(pixels)

    def busy_for_s(self) -> float:
        """How long the network call now running has taken; 0 between calls."""
        return self._batcher.busy_for_s()

    def close(self) -> None:
        """Answer what was submitted, then stop."""
        self._batcher.close()


def load(row: ModelVersion, settings: Settings, blobs: BlobStore) -> Predictor:
    """Load a version's files, as its row and the engine settings say.

    Raises:
        ModelInvalid: files are missing or damaged, or are another version's.
        EnvironmentMissing: the engine or device asked for is not there, or there is no place to keep the files.
        BlobStoreUnavailable, DiskFull: the files could not be fetched.
    """
    engine, directory = settings.engine, directory_of(row, settings, blobs)
    predictor = Predictor.load(
        directory,
        engine.name,
        device=engine.device,
        threads=engine.threads,
        compiled=engine.compiled,
        exact=engine.exact,
        precision=engine.precision,
    )
    if predictor.card.version != row.version:
        raise ModelInvalid(f"{directory} holds {predictor.card.version}, not {row.version}; register it under its own name")
    log.info("loaded %s on %s (%s)", row.version, engine.device, predictor.engine.name)
    return predictor


def chosen_batch(predictor: Predictor, settings: Settings) -> int:
    """The batch size set, else the best one found on a device that gains from batches, else the fixed one.

    Raises:
        DeviceMemoryFull: not even one picture fits.
    """
    if settings.worker.max_batch:
        return settings.worker.max_batch
    if not predictor.searches:
        return CPU_BATCH
    return best_batch(lambda size: timed(predictor, size), settings.engine.memory_share)


def timed(predictor: Predictor, size: int, at_least_s: float = _TRIAL_S) -> Trial:
    """Run batches of one size for a moment, after a first one that is not counted.

    Raises:
        DeviceMemoryFull: so many do not fit.
    """
    batch = _blank(predictor, size)
    predictor.predict(batch)
    started_s, done = time.perf_counter(), 0
    while (elapsed_s := time.perf_counter() - started_s) < at_least_s or not done:
        predictor.predict(batch)
        done += size
    return Trial(done / elapsed_s, predictor.memory_share())


def _warm(predictor: Predictor, max_batch: int) -> int:
    """Prepare for a batch size that another version of the student has been served with; returns what fits.

    An engine that runs pictures one by one is warm after one. More of them would only take the time of the version that serves
    meanwhile, and memory that runs out later halves the batch then.

    Raises:
        DeviceMemoryFull: not even one picture fits.
    """
    if predictor.searches:
        return _tried(predictor, max_batch)
    predictor.predict(_blank(predictor, 1))
    return max_batch


def _tried(predictor: Predictor, max_batch: int) -> int:
    """Run each size that the engine prepares for, and return the largest that fits.

    Raises:
        DeviceMemoryFull: not even one picture fits.
    """
    doublings = [1 << power for power in range(max_batch.bit_length()) if 1 << power < max_batch]
    fits = 0
    for size in [*(doublings if predictor.searches else [1][: max_batch - 1]), max_batch]:
        try:
            predictor.predict(_blank(predictor, size))
        except DeviceMemoryFull as error:
            if not fits:
                raise
            log.warning("batches of up to %d pictures, not %d: %s", fits, max_batch, error.message)
            return fits
        fits = size
    return fits


def _blank(predictor: Predictor, size: int) -> list[NDArray[np.uint8]]:
    side_px = predictor.input_size
    return [np.zeros((side_px, side_px, 3), dtype=np.uint8)] * size
