"""Hashes kept and found again; the picture rows here have hashes that were drawn by chance or one bit at a time."""

import tracemalloc
from collections.abc import Iterable

import numpy as np
import pytest
from sqlalchemy import insert

from schemas.tables import Picture
from storage import similar
from storage.database import Database
from storage.similar import PictureBits, Similar, any_hash, find_similar, store_hashes, stored_hash


def name(number: int) -> str:
    return f"{number:064x}"


def flipped(bits: bytes, count: int) -> bytes:
    values = np.unpackbits(np.frombuffer(bits, np.uint8))
    values[:count] ^= 1
    return np.packbits(values).tobytes()


def fill(database: Database, hashes: Iterable[tuple[bytes | None, int | None]]) -> None:
    rows = [
        Picture(sha256=name(number), bytes=1, pdq=bits, pdq_quality=quality).model_dump()
        for number, (bits, quality) in enumerate(hashes)
    ]
    for start in range(0, len(rows), 5000):
        with database.write() as session:
            session.execute(insert(Picture), rows[start : start + 5000])


BITS = np.random.default_rng(7).integers(0, 256, 32, dtype=np.uint8).tobytes()


def test_the_nearest_come_first_and_the_far_not_at_all(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar, "_PAGE", 2)
    fill(database, [(flipped(BITS, count), 100) for count in (31, 0, 32, 200, 7, 256)])
    with database.read() as session:
        found = find_similar(session, BITS, within_bits=31, least_quality=50, limit=10)
        assert found == [Similar(0, name(1)), Similar(7, name(4)), Similar(31, name(0))]
        assert find_similar(session, BITS, 256, 50, limit=2) == found[:2]
        assert [each.distance_bits for each in find_similar(session, BITS, 256, 50, 10)] == [0, 7, 31, 32, 200, 256]


def test_plain_pictures_and_those_without_a_hash_are_left_out(database: Database) -> None:
    fill(database, [(BITS, 49), (None, None), (BITS, 50)])
    with database.read() as session:
        assert find_similar(session, BITS, 31, 50, 10) == [Similar(0, name(2))]


def test_an_empty_store_has_nothing(database: Database) -> None:
    with database.read() as session:
        assert (find_similar(session, BITS, 256, 0, 10), any_hash(session), stored_hash(session, name(0))) == ([], False, None)


def test_the_first_hash_of_a_picture_stays(database: Database) -> None:
    fill(database, [(None, None), (None, None)])
    first = [PictureBits(name(1), BITS, 80), PictureBits(name(0), flipped(BITS, 1), 90), PictureBits(name(9), BITS, 70)]
    with database.write() as session:
        assert store_hashes(session, first) == [None, None, None]
        store_hashes(session, [PictureBits(name(1), flipped(BITS, 9), 10)])
    with database.read() as session:
        assert [stored_hash(session, name(number)) for number in (1, 0, 9)] == [*first[:2], None]
        assert any_hash(session)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_table(database: Database) -> None:
    hashes = np.random.default_rng(1).integers(0, 256, (60_000, 32), dtype=np.uint8)
    fill(database, ((row.tobytes(), 100) for row in hashes))
    with database.read() as session:
        tracemalloc.start()
        found = find_similar(session, hashes[41_234].tobytes(), 31, 50, 5)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert found == [Similar(0, name(41_234))]
    # Three pages of rows and their bits; all rows at once would take six times as much.
    assert peak_bytes < 16_000_000
