"""The loaded student of this process: one device, one batching thread, one watchdog."""

import logging
import os
import threading
from concurrent.futures import Future
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.card import Card, builtin_directory
from model.predictor import Prediction, Predictor
from schemas.errors import EnvironmentMissing
from schemas.settings import Settings
from schemas.tables import ModelVersion
from storage import registry
from storage.database import Database
from workers.batching import MicroBatcher

log = logging.getLogger(__name__)

EXIT_HUNG = 70
"""Exit status of a worker whose device stopped answering (EX_SOFTWARE); the supervisor starts another."""


class ModelRuntime:
    """A predictor behind a micro-batcher."""

    def __init__(self, predictor: Predictor, settings: Settings) -> None:
        """Warm the engine up, then serve.

        Args:
            predictor: the loaded student.
            settings: batch size, waiting time and time limits.
        """
        self.card = predictor.card
        self.input_size = predictor.input_size
        blank = np.zeros((self.input_size, self.input_size, 3), dtype=np.uint8)
        for batch in {1, settings.worker.max_batch}:
            predictor.predict([blank] * batch)
        self._batcher: MicroBatcher[NDArray[np.uint8], Prediction] = MicroBatcher(
            predictor.predict, settings.worker.max_batch, settings.worker.max_wait_ms / 1000, name="device"
        )
        self._closing = threading.Event()
        watchdog = threading.Thread(target=self._watch, args=(settings.worker.hang_exit_s,), name="watchdog", daemon=True)
        watchdog.start()

    @classmethod
    def live(cls, database: Database, settings: Settings) -> "ModelRuntime":
        """Load the live version, registering the one that ships with the release where there is none.

        Raises:
            ModelInvalid: the live version's files are missing or damaged.
            EnvironmentMissing: the engine or device asked for is not there.
        """
        engine = settings.engine
        folder = directory_of(live_version(database))
        predictor = Predictor.load(
            folder, engine.name, device=engine.device, threads=engine.threads, compiled=engine.compiled, exact=engine.exact
        )
        log.info("loaded %s on %s (%s)", predictor.card.version, engine.device, predictor.engine.name)
        return cls(predictor, settings)

    def submit(self, pixels: NDArray[np.uint8]) -> Future[Prediction]:
        """Queue one [S, S, 3] uint8 picture for the next batch."""
        return self._batcher.submit(pixels)

    def close(self) -> None:
        """Answer what was submitted, then stop."""
        self._closing.set()
        self._batcher.close()

    def _watch(self, limit_s: float) -> None:
        """A native call that hangs can't be interrupted; leaving is the only way to free the pictures it holds."""
        while not self._closing.wait(min(5.0, limit_s / 4)):
            if self._batcher.busy_for_s() > limit_s:
                log.critical("the device has not answered for %.0f s; leaving, messages in hand will be redelivered", limit_s)
                os._exit(EXIT_HUNG)


def live_version(database: Database) -> ModelVersion:
    """The live version's row; the packaged student becomes live where nothing ever was.

    Raises:
        ModelInvalid: the packaged student is damaged.
        StoreUnavailable: the database does not answer.
    """
    card = Card.load(builtin_directory())
    with database.write() as session:
        row = registry.ensure_live(session, card.version, card.model_dump(mode="json"), registry.PACKAGE_LOCATION)
        session.expunge(row)
    return row


def directory_of(row: ModelVersion) -> Path:
    """The folder of a version's files on this machine.

    Raises:
        EnvironmentMissing: the packaged student of another release is live here.
    """
    if row.location != registry.PACKAGE_LOCATION:
        return Path(row.location)
    packaged = Card.load(builtin_directory()).version
    if packaged != row.version:
        raise EnvironmentMissing(
            f"{row.version} is live but this release ships {packaged}; install the release it came with, "
            f"or make {packaged} live: tamperwatch models promote {packaged}"
        )
    return builtin_directory()
