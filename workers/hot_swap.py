"""Workers follow the live version: when another one is made live, it is loaded beside the old one and takes its place."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from schemas.errors import InternalError, TamperwatchError
from schemas.settings import Settings
from schemas.tables import ModelVersion
from storage import registry, telemetry
from storage.blobs import BlobStore
from storage.database import Database
from workers.loaded import Loaded, load
from workers.runtime import ModelRuntime, announce

log = logging.getLogger(__name__)

_FIRST_RETRY_S: Final = 30.0
_LAST_RETRY_S: Final = 900.0

Refused = Callable[[str, TamperwatchError], None]
"""Called with a version that this worker cannot serve, and why."""


class HotSwap:
    """Looks now and then which version is live, for as long as a worker runs.

    A version that cannot be served is refused: the old one goes on, `on_refused` hears of it once, and it is tried again
    after waits that double, so that files which arrive late, or are mended, need nobody's hand.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        runtime: ModelRuntime,
        settings: Settings,
        on_refused: Refused | None = None,
    ) -> None:
        """Start the thread.

        Args:
            database: where the live version is known.
            blobs: where the files of versions lie that did not come with the release.
            runtime: whose version is replaced.
            settings: how often to look; engine and batching of what is loaded.
            on_refused: called in this thread, once for each time that a version was made live.
        """
        self._database = database
        self._blobs = blobs
        self._runtime = runtime
        self._settings = settings
        self._on_refused = on_refused
        self._refusal: Refusal | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="hot-swap", daemon=True)
        self._thread.start()

    def look(self) -> bool:
        """Look once; whether another version answers now.

        Raises:
            TamperwatchError: the database does not answer; the old version goes on.
        """
        with self._database.read() as session:
            row = registry.live(session)
            if row is None or row.version == self._runtime.card.version:
                self._refusal = None
                return False
            session.expunge(row)
        if self._refusal and self._refusal.holds(row):
            return False
        try:
            self._replace(row)
        except Exception as error:
            self._refuse(row, error)
            return False
        self._refusal = None
        return True

    def close(self) -> None:
        """Stop after the look now running, which is waited for no longer than the shutdown may take."""
        self._closing.set()
        self._thread.join(self._settings.worker.shutdown_grace_s)

    def _replace(self, row: ModelVersion) -> None:
        """Load and warm the new version while the old one serves, then let the old one finish what it holds."""
        old, started_s = self._runtime.card.version, time.monotonic()
        predictor = load(row, self._settings, self._blobs)
        loaded = Loaded(predictor, self._settings, self._runtime.max_batch)
        self._runtime.swap(loaded)
        announce(predictor, self._settings)
        telemetry.SWAPS.labels("done").inc()
        log.info("%s answers in place of %s, %.1f s after it was seen", row.version, old, time.monotonic() - started_s)

    def _refuse(self, row: ModelVersion, error: Exception) -> None:
        known = self._refusal is not None and self._refusal.is_of(row)
        self._refusal = Refusal(row, self._refusal if known else None)
        if known:
            return
        if not isinstance(error, TamperwatchError):
            log.error("version %s: defect", row.version, exc_info=error)
            error = InternalError(f"{type(error).__name__}: {error}")
        log.error("%s is live but cannot be served here, %s goes on: %s", row.version, self._runtime.card.version, error.message)
        telemetry.SWAPS.labels("refused").inc()
        if self._on_refused:
            self._on_refused(row.version, error)

    def _loop(self) -> None:
        while not self._closing.wait(self._settings.worker.model_poll_s):
            try:
                self.look()
            except TamperwatchError as error:
                log.warning("which version is live could not be seen this time: %s", error.message)


class Refusal:
    """A version that could not be served when it was last tried."""

    def __init__(self, row: ModelVersion, earlier: "Refusal | None") -> None:
        self._made_live = (row.version, row.stage_changed_at)
        self._wait_s: float = min(2 * earlier._wait_s, _LAST_RETRY_S) if earlier else _FIRST_RETRY_S
        self._again_at_s = time.monotonic() + self._wait_s

    def is_of(self, row: ModelVersion) -> bool:
        """Whether this is the same version, made live the same time."""
        return (row.version, row.stage_changed_at) == self._made_live

    def holds(self, row: ModelVersion) -> bool:
        """Whether it is too early to try it again."""
        return self.is_of(row) and time.monotonic() < self._again_at_s
