"""Whether a role lives and is ready: named parts, each checked on request, each with the time since when it stands so."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from schemas.errors import TamperwatchError
from schemas.tables import now
from storage.blobs import BlobStore
from storage.database import Database
from storage.telemetry_log import without_secrets
from storage.telemetry_probe import Probe

Check = Callable[[], str]
"""Says in words what it found; raises, with the reason as its message, where the part is not well."""


@dataclass(frozen=True)
class Part:
    """One part as it was found.

    Attributes:
        since: when it was first found so, without a change since.
        words: for the person who reads it.
    """

    ok: bool
    since: datetime
    words: str

    def payload(self) -> dict[str, Any]:
        """The part as plain JSON types."""
        return {"ok": self.ok, "since": self.since.isoformat(timespec="seconds"), "words": self.words}


class Health:
    """Two lists of checks: is the process alive, and may it be given work."""

    def __init__(self, role: str, live: Mapping[str, Check], ready: Mapping[str, Check]) -> None:
        """Nothing is checked yet.

        Args:
            role: of this process, as it is shown.
            live: the process should be started again where one of these fails; they must not depend on other machines.
            ready: the process cannot do its work while one of these fails.
        """
        self._role = role
        self._checks = {"live": dict(live), "ready": dict(ready)}
        self._gate = threading.Lock()
        self._found: dict[tuple[str, str], Part] = {}

    def live(self) -> tuple[bool, dict[str, Any]]:
        """Whether the process lives, and the answer as plain JSON types."""
        return self._report("live")

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Whether the process can work, and the answer as plain JSON types."""
        return self._report("ready")

    def _report(self, kind: str) -> tuple[bool, dict[str, Any]]:
        parts = {name: self._part(kind, name, check) for name, check in self._checks[kind].items()}
        ok = all(part.ok for part in parts.values())
        return ok, {"role": self._role, "ok": ok, "parts": {name: part.payload() for name, part in parts.items()}}

    def _part(self, kind: str, name: str, check: Check) -> Part:
        try:
            ok, words = True, check()
        except TamperwatchError as error:
            ok, words = False, error.message
        except Exception as error:
            # A check must never take the answer about all the others with it.
            ok, words = False, str(error) or type(error).__name__
        with self._gate:
            before = self._found.get((kind, name))
            since = before.since if before is not None and before.ok == ok else now()
            part = self._found[kind, name] = Part(ok, since, without_secrets(words))
        return part


def store_checks(database: Database, blobs: BlobStore) -> dict[str, Check]:
    """The checks that every role's readiness begins with. A store that hangs makes nobody wait for long."""
    return {
        "sql": Probe("the results store", lambda: check_store(database)).answer,
        "blobs": Probe("the blob store", lambda: check_blobs(blobs)).answer,
    }


def check_store(database: Database) -> str:
    """Ask the results store for the smallest of answers.

    Raises:
        StoreUnavailable
    """
    with database.read() as session:
        session.connection().execute(text("SELECT 1"))
    return "answers"


def check_blobs(blobs: BlobStore) -> str:
    """Ask the blob store for a key that need not be there.

    Raises:
        BlobStoreUnavailable
    """
    blobs.stat("health")
    return "answers"
