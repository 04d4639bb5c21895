"""Who holds a folder's lock, in words, written into the lock's file for whoever comes second."""

import os
from pathlib import Path
from typing import IO

_MOST_BYTES = 500


def write_holder(file: IO[bytes], what: str) -> None:
    """Put this process into the lock it holds.

    Args:
        file: the lock's file, open for appending.
        what: runs here, in words.
    """
    file.truncate(0)
    file.write(f"{what}, process {os.getpid()}".encode())
    file.flush()


def read_holder(path: Path) -> str:
    """What the holder wrote; empty where nothing can be read."""
    try:
        with path.open("rb") as file:
            said = file.read(_MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    return " ".join(said.split())
