"""Everything in one blob store copied to another: a backup, its way back, or a move.

A key's bytes never change, so what the other side has under the same key and at the same length is there. A picture is read
through its sha256 on the way: what rotted in one store is not carried into the other.
"""

import hashlib
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from schemas.errors import BlobMissing
from storage.blobs import BlobStore, StoredBlob, picture_key

_AT_ONCE = 8
_PAGE = 256
_IN_MEMORY_BYTES = 1 << 20


class Copy(StrEnum):
    """What became of a blob."""

    COPIED = "copied"
    THERE = "there already"
    CORRUPT = "not copied: its bytes are not those of its name"
    GONE = "deleted meanwhile"
    DELETED = "deleted: the source no longer has it"


@dataclass(frozen=True)
class Copied:
    """One key and what became of it."""

    key: str
    bytes: int
    outcome: Copy


def copy_blobs(source: BlobStore, target: BlobStore, mirror: bool = False) -> Iterator[Copied]:
    """Copy what the target lacks, at constant memory, and tell of each key.

    Args:
        mirror: afterwards delete from the target what the source does not have (any more).

    Raises:
        BlobStoreUnavailable, DiskFull: what was yielded is done; call again for the rest.
    """
    yield from _each(partial(_copy, source, target), source.list(""))
    if mirror:
        done = _each(partial(_forget, source, target), target.list(""))
        yield from (each for each in done if each.outcome is Copy.DELETED)


def _each(work: "partial[Copied]", blobs: Iterator[StoredBlob]) -> Iterator[Copied]:
    with ThreadPoolExecutor(_AT_ONCE, "blob-copy") as pool:
        # By pages: the pool would take in the whole list before it gave back the first answer.
        while page := list(itertools.islice(blobs, _PAGE)):
            yield from pool.map(work, page)


def _copy(source: BlobStore, target: BlobStore, blob: StoredBlob) -> Copied:
    found = target.stat(blob.key)
    if found is not None and found.bytes == blob.bytes:
        return Copied(blob.key, blob.bytes, Copy.THERE)
    digest, size_bytes = hashlib.sha256(), 0
    with SpooledTemporaryFile(_IN_MEMORY_BYTES) as file:
        try:
            for piece in source.read(blob.key):
                digest.update(piece)
                size_bytes += file.write(piece)
        except BlobMissing:
            return Copied(blob.key, 0, Copy.GONE)
        name = blob.key.rpartition("/")[2]
        if picture_key(name) == blob.key and digest.hexdigest() != name:
            return Copied(blob.key, size_bytes, Copy.CORRUPT)
        file.seek(0)
        if found is not None:
            # A directory keeps what lies under a key, and of another length it is wrong.
            target.delete(blob.key)
        target.put_file(blob.key, cast(BinaryIO, file), size_bytes)
    return Copied(blob.key, size_bytes, Copy.COPIED)


def _forget(source: BlobStore, target: BlobStore, blob: StoredBlob) -> Copied:
    if source.stat(blob.key) is not None:
        return Copied(blob.key, blob.bytes, Copy.THERE)
    target.delete(blob.key)
    return Copied(blob.key, blob.bytes, Copy.DELETED)
