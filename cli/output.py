"""Files we write for people, and what is said when that fails."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import DiskFull, OutputFailed


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make the folder of a file that the block writes, and put its errors into our words.

    Raises:
        DiskFull: no space, or no quota, is left.
        OutputFailed: anything else: permissions, a name that is too long, a folder in the way.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no space left to write {path}; free some and run the same command again") from error
        raise OutputFailed(f"cannot write {path}: {error.strerror or error}") from error
    except UnicodeEncodeError as error:
        raise OutputFailed(f"cannot write {path}: this locale's encoding ({error.encoding}) has no such name") from error
    except RecursionError as error:  # mkdir calls itself for every folder that is missing
        raise OutputFailed(f"cannot write {path}: its folders are nested too deeply") from error
