"""A second version beside the live one: for a shadow that nobody sees, or for a canary's share of the jobs.

It comes and goes on its own. Where it is not wanted, cannot be loaded, or is the live version anyway, there is none, and
whoever asks for it does without; the live version never notices.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from sqlmodel import Session

from schemas.errors import TamperwatchError
from schemas.settings import Settings
from schemas.tables import ModelVersion
from storage import telemetry
from storage.blobs import BlobStore
from storage.database import Database
from workers.hot_swap import Refusal
from workers.loaded import Loaded, load

log = logging.getLogger(__name__)

Role = Literal["shadow", "canary"]
Wanted = Callable[[Session], ModelVersion | None]
"""Which version should be there just now, if any."""


class SideModel:
    """Looks now and then which version is wanted, and loads it or lets it go."""

    def __init__(self, role: Role, wanted: Wanted, database: Database, blobs: BlobStore, settings: Settings) -> None:
        """Start the thread.

        Args:
            role: for messages and metrics.
            wanted: asked at every look.
            database, blobs: where versions are known, and their files lie.
            settings: how often to look, engine and batching.
        """
        self._role: Role = role
        self._wanted = wanted
        self._database = database
        self._blobs = blobs
        self._settings = settings
        self._loaded: Loaded | None = None
        self._users = 0
        self._changed = threading.Condition()
        self._refusal: Refusal | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=role, daemon=True)
        self._thread.start()

    @property
    def version(self) -> str | None:
        """The one that is loaded; None without one."""
        loaded = self._loaded
        return loaded.card.version if loaded else None

    @contextmanager
    def using(self) -> Iterator[Loaded | None]:
        """The version for one picture; it serves at least until the block ends. None where there is none."""
        with self._changed:
            loaded = self._loaded
            self._users += loaded is not None
        try:
            yield loaded
        finally:
            with self._changed:
                self._users -= loaded is not None
                self._changed.notify_all()

    def look(self) -> None:
        """Look once.

        Raises:
            StoreUnavailable: the database does not answer; what is loaded stays.
        """
        with self._database.read() as session:
            row = self._wanted(session)
            if row is not None:
                session.expunge(row)
        if row is None:
            self._refusal = None
            self._exchange(None)
        elif row.version != self.version and not (self._refusal and self._refusal.holds(row)):
            self._bring(row)

    def close(self) -> None:
        """Stop after the look now running, then let the version go when its last picture is answered."""
        self._closing.set()
        self._thread.join(self._settings.worker.shutdown_grace_s)
        self._exchange(None)

    def _bring(self, row: ModelVersion) -> None:
        try:
            loaded = Loaded(load(row, self._settings, self._blobs), self._settings, name=self._role)
        except Exception as error:
            self._refuse(row, error)
            return
        self._refusal = None
        self._exchange(loaded)
        log.info("%s: %s is loaded beside the live version", self._role, row.version)

    def _refuse(self, row: ModelVersion, error: Exception) -> None:
        known = self._refusal is not None and self._refusal.is_of(row)
        self._refusal = Refusal(row, self._refusal if known else None)
        self._exchange(None)
        if not known:
            telemetry.SIDE_MODEL_REFUSALS.labels(self._role).inc()
            unforeseen = None if isinstance(error, TamperwatchError) else error
            log.error(
                "%s: %s cannot be loaded, the live version goes on alone: %s", self._role, row.version, error, exc_info=unforeseen
            )

    def _exchange(self, loaded: Loaded | None) -> None:
        """Put another in its place, or none; the old one answers its last picture first."""
        with self._changed:
            old, self._loaded = self._loaded, None
            if old is not None:
                self._changed.wait_for(lambda: not self._users, self._settings.worker.predict_timeout_s)
            self._loaded = loaded
        if old is not None:
            old.close()

    def _loop(self) -> None:
        wait_s = 0.0
        while not self._closing.wait(wait_s):
            wait_s = self._settings.worker.model_poll_s
            try:
                self.look()
            except TamperwatchError as error:
                log.warning("%s: which version is wanted could not be seen this time: %s", self._role, error.message)
