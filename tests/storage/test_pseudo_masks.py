from datetime import datetime, timedelta

import pytest
from sqlmodel import col, select

from schemas.geometry import PixelBox
from schemas.learning_tables import PseudoMask
from schemas.tables import now
from storage import orphans, pseudo_masks
from storage.blobs import BlobStore
from storage.database import Database
from storage.orphans import Disagreement
from storage.pseudo_masks import MaskName, StoredMask

BOXES = (PixelBox.of(5, 6, 7, 8), PixelBox.of(1, 2, 30, 40))


def name_of(number: int, teacher: str = "teacher") -> MaskName:
    return MaskName.of(f"{number:02x}" * 32, BOXES, teacher)


def keep(database: Database, blobs: BlobStore, name: MaskName, used: datetime | None = None, quality: float = 0.5) -> StoredMask:
    mask = StoredMask(name.key, "0" * 64, quality, (40, 50))
    blobs.put(name.key, b"mask")
    with database.write() as session:
        pseudo_masks.record(session, name, mask)
        if used is not None:
            row(session, name).last_used_at = used
    return mask


def row(session: object, name: MaskName) -> PseudoMask:
    found: PseudoMask = session.get_one(PseudoMask, (name.sha256, name.boxes_sha256, name.teacher_id))  # type: ignore[attr-defined]
    return found


def kept(database: Database) -> list[str]:
    with database.read() as session:
        return list(session.exec(select(PseudoMask.key).order_by(col(PseudoMask.sha256))))


def test_a_name_depends_on_picture_boxes_and_teacher_and_not_on_their_order() -> None:
    name = MaskName.of("ab" * 32, BOXES, "t")
    assert name == MaskName.of("ab" * 32, [*reversed(BOXES), BOXES[0]], "t")
    others = [MaskName.of("ac" * 32, BOXES, "t"), MaskName.of("ab" * 32, BOXES[:1], "t"), MaskName.of("ab" * 32, BOXES, "u")]
    assert len({each.key for each in (name, *others)}) == 4
    # Of [[1,2,30,40],[5,6,7,8]]: what is stored today must be found by every later release.
    assert name.boxes_sha256 == "b85cb6d194619d39c2a8d7ba5c6886cc919afddf3a7c2b333e0c3f71bf13c447"


def test_the_longest_teachers_name_fits_into_a_file_name() -> None:
    assert len(MaskName.of("ab" * 32, BOXES, "t" * 120).key.rpartition("/")[2]) <= 255
    assert pseudo_masks.is_key(name_of(1).key)
    assert not pseudo_masks.is_key("pseudo-masks/ab/notes.png") and not pseudo_masks.is_key("pseudo-masks/x")


def test_what_is_recorded_is_found(database: Database, blobs: BlobStore) -> None:
    first, second = name_of(1), name_of(2)
    mask = keep(database, blobs, first)
    keep(database, blobs, name_of(1, "another-teacher"))
    with database.read() as session:
        assert pseudo_masks.find(session, [first, second]) == {first: mask}
        assert pseudo_masks.find(session, []) == {}


def test_recording_again_replaces_and_keeps_one_row(database: Database, blobs: BlobStore) -> None:
    name = name_of(1)
    keep(database, blobs, name, used=now() - timedelta(days=5))
    again = keep(database, blobs, name, quality=0.75)
    with database.read() as session:
        assert pseudo_masks.find(session, [name]) == {name: again}
        assert now() - row(session, name).last_used_at < timedelta(minutes=1)


def test_using_a_mask_makes_it_young(database: Database, blobs: BlobStore) -> None:
    old = now() - timedelta(days=5)
    masks = [keep(database, blobs, name_of(number), used=old) for number in (1, 2)]
    with database.write() as session:
        pseudo_masks.touch(session, masks[:1])
        pseudo_masks.touch(session, [])
    with database.read() as session:
        assert row(session, name_of(1)).last_used_at > old + timedelta(days=4)
        assert row(session, name_of(2)).last_used_at == old


def test_what_was_not_used_is_forgotten_page_by_page(
    database: Database, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pseudo_masks, "_PAGE", 2)
    for number in range(5):
        keep(database, blobs, name_of(number), used=now() - timedelta(days=91))
    young = keep(database, blobs, name_of(9), used=now() - timedelta(days=89))
    unused = pseudo_masks.unused_since(now() - timedelta(days=90))
    with database.read() as session:
        assert pseudo_masks.count(session, unused) == 5
    assert list(pseudo_masks.forget(database, blobs, unused)) == [2, 2, 1]
    assert kept(database) == [young.key] == [blob.key for blob in blobs.list(pseudo_masks.FOLDER)]


def test_a_mask_wanted_again_while_it_is_forgotten_keeps_its_bytes(database: Database, blobs: BlobStore) -> None:
    """Between the transaction that deletes the row and the bytes, somebody else finds these and writes the row anew."""
    name = name_of(1)
    mask = keep(database, blobs, name, used=now() - timedelta(days=91))
    read = database.read

    def read_after_somebody_else():  # type: ignore[no-untyped-def]
        database.read = read  # type: ignore[method-assign]
        with database.write() as session:
            pseudo_masks.record(session, name, mask)
        return read()

    database.read = read_after_somebody_else  # type: ignore[method-assign]
    list(pseudo_masks.forget(database, blobs, pseudo_masks.unused_since(now() - timedelta(days=90))))
    assert kept(database) == [name.key]
    assert blobs.exists(name.key)


def test_bytes_without_a_row_are_found_and_deleted_by_the_check(database: Database, blobs: BlobStore) -> None:
    whole, alone = keep(database, blobs, name_of(1)), name_of(2)
    blobs.put(alone.key, b"mask")
    blobs.put("pseudo-masks/notes", b"not ours")
    assert list(orphans.check(database, blobs, grace_s=3600)) == []
    (found,) = orphans.check(database, blobs, grace_s=-5)
    assert (found.kind, found.name, found.repaired) == (Disagreement.MASK_WITHOUT_ROW, alone.key, False)
    (mended,) = orphans.check(database, blobs, grace_s=-5, repair=True)
    assert mended.repaired
    assert {blob.key for blob in blobs.list("pseudo-masks")} == {whole.key, "pseudo-masks/notes"}
    assert list(orphans.check(database, blobs, grace_s=-5)) == []


def test_leftovers_of_one_picture_alone_are_deleted(database: Database, blobs: BlobStore) -> None:
    mine, other = keep(database, blobs, name_of(1)), MaskName.of("01" + "00" * 31, BOXES, "t")
    blobs.put(other.key, b"mask")
    pseudo_masks.forget_leftovers(blobs, "01" * 32)
    assert [blobs.exists(key) for key in (mine.key, other.key)] == [False, True]
