"""The student that answers in this process, one version after the other, and the watchdog of its device."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from model.card import Card, builtin_directory
from model.predictor import Predictor
from schemas.settings import Settings
from schemas.tables import ModelVersion
from storage import registry, telemetry
from storage.blobs import BlobStore
from storage.database import Database
from workers.loaded import Loaded, load

log = logging.getLogger(__name__)

EXIT_HUNG = 70
"""Exit status of a worker whose device stopped answering (EX_SOFTWARE); the supervisor starts another."""


class ModelRuntime:
    """The version in use. `swap` puts another in its place between two pictures."""

    def __init__(self, predictor: Predictor, settings: Settings) -> None:
        """Warm the engine up, then serve.

        Args:
            predictor: the loaded student.
            settings: batch size, waiting time and time limits.

        Raises:
            DeviceMemoryFull: not even one picture fits into the device's memory.
        """
        self._current = Loaded(predictor, settings)
        self._leaving: list[Loaded] = []
        self._users = {self._current: 0}
        self._changed = threading.Condition()
        self._closing = threading.Event()
        watchdog = threading.Thread(target=self._watch, args=(settings.worker.hang_exit_s,), name="watchdog", daemon=True)
        watchdog.start()

    @classmethod
    def live(cls, database: Database, blobs: BlobStore, settings: Settings) -> "ModelRuntime":
        """Load the live version, registering the one that ships with the release where there is none.

        Raises:
            ModelInvalid: the live version's files are missing or damaged.
            EnvironmentMissing: the engine or device asked for is not there.
            DeviceMemoryFull: not even one picture fits into the device's memory.
            StoreUnavailable, BlobStoreUnavailable, DiskFull: the version cannot be looked up, or not fetched.
        """
        predictor = load(live_version(database), settings, blobs)
        runtime = cls(predictor, settings)
        announce(predictor, settings)
        return runtime

    @property
    def card(self) -> Card:
        """Of the version that the next picture gets; what is done with one picture goes by `using`."""
        return self._current.card

    @property
    def max_batch(self) -> int:
        """Pictures a network call at most, as found or set when the process began."""
        return self._current.max_batch

    @property
    def lanes(self) -> int:
        """Batches that may be under way at once."""
        return self._current.lanes

    @contextmanager
    def using(self) -> Iterator[Loaded]:
        """The version for one picture, from preparing it to its last look; it serves at least until the block ends."""
        with self._changed:
            loaded = self._current
            self._users[loaded] += 1
        try:
            yield loaded
        finally:
            with self._changed:
                self._users[loaded] -= 1
                self._changed.notify_all()

    def swap(self, loaded: Loaded) -> None:
        """Give the next picture to another version; returns when the old one has answered its last and is closed.

        Args:
            loaded: warm already, so that nobody waits for it.
        """
        with self._changed:
            old, self._current = self._current, loaded
            self._users[loaded] = 0
            self._leaving.append(old)
            self._changed.wait_for(lambda: not self._users[old])
            del self._users[old]
        old.close()
        self._leaving.remove(old)

    def busy_for_s(self) -> float:
        """How long the network call now running has taken; 0 between calls."""
        return max(loaded.busy_for_s() for loaded in [self._current, *self._leaving])

    def close(self) -> None:
        """Answer what was submitted, then stop."""
        self._closing.set()
        self._current.close()

    def _watch(self, limit_s: float) -> None:
        """A native call that hangs can't be interrupted; leaving is the only way to free the pictures it holds."""
        while not self._closing.wait(min(5.0, limit_s / 4)):
            if self.busy_for_s() > limit_s:
                log.critical("the device has not answered for %.0f s; leaving, messages in hand will be redelivered", limit_s)
                os._exit(EXIT_HUNG)


def announce(predictor: Predictor, settings: Settings) -> None:
    """Tell the metrics which version answers from now on."""
    telemetry.model_loaded(predictor.card.version, predictor.engine.name, settings.engine.device, predictor.card.metrics)


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
