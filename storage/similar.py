"""Pictures that look alike, by the perceptual hashes that workers keep where a setting asks for them.

There is no index for distances in 256 bits: a search reads every stored hash, page by page, at constant memory.
"""

import functools
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Update, bindparam, select, update
from sqlmodel import Session

from schemas.tables import Picture

_PICTURES = Picture.metadata.tables["picture"]
_HASH_BYTES = 32
_PAGE = 10_000


@dataclass(frozen=True)
class PictureBits:
    """The hash of a picture's bytes.

    Attributes:
        bits: 32 bytes.
        quality: 0 to 100.
    """

    sha256: str
    bits: bytes
    quality: int


@dataclass(frozen=True, order=True)
class Similar:
    """A stored picture and how many of its hash's 256 bits differ."""

    distance_bits: int
    sha256: str


def store_hashes(session: Session, hashes: Sequence[PictureBits]) -> list[None]:
    """Keep the hashes of pictures that have none, and return as many answers as a batch of changes needs."""
    # In order, or on PostgreSQL two workers with the same pictures could wait for each other.
    rows = [
        {"of": each.sha256, "bits": each.bits, "quality": each.quality} for each in sorted(hashes, key=lambda one: one.sha256)
    ]
    session.connection().execute(_keep(), rows)
    return [None] * len(hashes)


def stored_hash(session: Session, sha256: str) -> PictureBits | None:
    """The hash of a picture, None if no worker kept it."""
    query = select(_PICTURES.c.pdq, _PICTURES.c.pdq_quality).where(_PICTURES.c.sha256 == sha256, _PICTURES.c.pdq.is_not(None))
    row = session.connection().execute(query).first()
    return None if row is None else PictureBits(sha256, row.pdq, row.pdq_quality)


def any_hash(session: Session) -> bool:
    """Whether any stored picture has a hash."""
    query = select(_PICTURES.c.sha256).where(_PICTURES.c.pdq.is_not(None)).limit(1)
    return session.connection().execute(query).first() is not None


def find_similar(session: Session, bits: bytes, within_bits: int, least_quality: int, limit: int) -> list[Similar]:
    """The stored pictures nearest to a hash, nearest first.

    Args:
        bits: the hash, 32 bytes.
        within_bits: the largest distance that counts.
        least_quality: hashes below it are not compared.
        limit: how many pictures at most.
    """
    wanted = np.frombuffer(bits, dtype=np.uint8)
    found: list[Similar] = []
    for names, hashes in _pages(session, least_quality):
        distances = np.unpackbits(hashes ^ wanted, axis=1).sum(axis=1, dtype=np.uint16)
        near = [Similar(int(distances[row]), names[row]) for row in np.flatnonzero(distances <= within_bits)]
        found = heapq.nsmallest(limit, found + near)
    return found


@functools.cache
def _keep() -> Update:
    unhashed = (_PICTURES.c.sha256 == bindparam("of"), _PICTURES.c.pdq.is_(None))
    return update(_PICTURES).where(*unhashed).values(pdq=bindparam("bits"), pdq_quality=bindparam("quality"))


def _pages(session: Session, least_quality: int) -> Iterator[tuple[list[str], NDArray[np.uint8]]]:
    """All hashes of some quality: sha256 names [N], and hashes [N, 32]."""
    query = select(_PICTURES.c.sha256, _PICTURES.c.pdq).where(_PICTURES.c.pdq_quality >= least_quality)
    # A cursor of the server's, read in the table's own order: by key it would jump all over the table.
    rows = session.connection().execute(query, execution_options={"yield_per": _PAGE})
    for page in rows.partitions():
        hashes = np.frombuffer(b"".join(row.pdq for row in page), dtype=np.uint8)
        yield [row.sha256 for row in page], hashes.reshape(-1, _HASH_BYTES)
