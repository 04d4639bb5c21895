"""Where an export goes: standard output, or a file that appears only when it is whole."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cli.output import writing
from schemas.errors import InvalidInput

STDOUT = Path("-")


@contextmanager
def open_sink(out: Path, binary: bool) -> Iterator[BinaryIO]:
    """A file to write bytes to. A named one is moved into place when the block ends, and left as it was if it raises.

    Args:
        out: a path, or `-` for standard output.
        binary: whether the bytes would garble a terminal.

    Raises:
        InvalidInput: the path is a folder, or a terminal would have to show bytes.
        DiskFull, OutputFailed: the file cannot be written.
    """
    if out == STDOUT:
        if binary and sys.stdout.isatty():
            raise InvalidInput("this format is not text: name a file with --out, or send it on with > or |")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if out.is_dir():
        raise InvalidInput(f"{out} is a folder; name the file to write")
    # Hidden, and of this process alone: two exports to one name would otherwise write into each other.
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    with writing(out):
        try:
            with part.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(out)
        finally:
            part.unlink(missing_ok=True)
