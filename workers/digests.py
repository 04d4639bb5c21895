"""What `submit` has read before: the sha256 that lay under a file's or object's stamp, on disk in SQLite.

Only a shortcut, never the truth: whether a picture is in is asked of the results store each time.
"""

import hashlib
import logging
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

log = logging.getLogger(__name__)

_TABLE = "CREATE TABLE IF NOT EXISTS digest (stamp BLOB PRIMARY KEY, sha256 BLOB NOT NULL) WITHOUT ROWID"
_BUSY_S = 5.0


class Digests:
    """A context that keeps digests in a file; without one, or where it can't be used, it knows nothing.

    A stamp is any text that changes when the bytes do: path, size and modification time, or an object's ETag.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = sqlite3.connect(self._path, timeout=_BUSY_S)
                self._file.execute(_TABLE)
            except (OSError, sqlite3.Error) as error:
                self._give_up(error)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def known(self, stamps: Iterable[str]) -> dict[str, str]:
        """The sha256 of each of these stamps that was seen before."""
        keys = {_key(stamp): stamp for stamp in stamps}
        if self._file is None or not keys:
            return {}
        places = ",".join("?" * len(keys))
        try:
            with closing(self._file.execute(f"SELECT stamp, sha256 FROM digest WHERE stamp IN ({places})", list(keys))) as rows:
                return {keys[stamp]: sha256.hex() for stamp, sha256 in rows}
        except sqlite3.Error as error:
            self._give_up(error)
            return {}

    def remember(self, digests: Mapping[str, str]) -> None:
        """Note which sha256 lay under each stamp."""
        if self._file is None or not digests:
            return
        rows = [(_key(stamp), bytes.fromhex(sha256)) for stamp, sha256 in digests.items()]
        try:
            with self._file:
                self._file.executemany("INSERT OR REPLACE INTO digest VALUES (?, ?)", rows)
        except sqlite3.Error as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        log.warning("%s is not used, everything is read: %s", self._path, error)
        if self._file is not None:
            self._file.close()
            self._file = None


def _key(stamp: str) -> bytes:
    return hashlib.blake2b(stamp.encode("utf-8", "surrogateescape"), digest_size=16).digest()
