"""Boxes to stored masks, with GrabCut, with a teacher that counts, and once with a random-weight SAM."""

import hashlib
import io
import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlmodel import select

from model.mask_files import facts_of, packed
from model.preprocess import PictureLimits
from model.sam import SamTeacher
from model.teacher import BoxTeacher, GrabCutTeacher, PseudoMask
from scheduler import teaching
from scheduler.teaching import Taught, Wanted, annotated, forget_unused, last_read, mask_bytes, open_teacher, teach
from schemas.errors import BlobCorrupt, BlobMissing, BlobStoreUnavailable, DeviceMemoryFull, InvalidInput
from schemas.geometry import PixelBox
from schemas.learning_tables import PseudoMask as MaskRow
from schemas.learning_tables import RetrainRun
from schemas.states import AnnotationKind, AnnotationOrigin, RetrainState, RetrainTrigger
from schemas.tables import now
from schemas.teacher_settings import TeacherSettings
from storage import annotations
from storage.annotation_checks import NewAnnotation
from storage.blobs import BlobStore, picture_key
from storage.database import Database
from storage.pseudo_masks import MaskName
from tests.hostile import BROKEN
from tests.model.test_sam import counted, tiny_sam
from tests.pictures import picture_bytes

BOX = PixelBox.of(18, 8, 62, 52)  # around the square that picture_bytes draws


class Counting:
    """Marks its boxes; notes how many it was shown with each picture."""

    name = "counting"

    def __init__(self) -> None:
        self.calls: list[int] = []

    def pseudo_mask(self, image: Image.Image, boxes: Sequence[PixelBox]) -> PseudoMask:
        self.calls.append(len(boxes))
        return PseudoMask(np.full((image.height, image.width), 200, dtype=np.uint8), 0.5)


def stored(blobs: BlobStore, *seeds: int, **changes: Any) -> list[Wanted]:
    """Pictures in the store, each with the same box."""
    wanted = []
    for seed in seeds:
        data = picture_bytes(seed, **changes)
        sha256 = hashlib.sha256(data).hexdigest()
        blobs.put(picture_key(sha256), data)
        wanted.append(Wanted(sha256, (BOX,), 96, 72))
    return wanted


def run(
    database: Database, blobs: BlobStore, teacher: BoxTeacher, wanted: Sequence[Wanted], stop: Callable[[], bool] = lambda: False
) -> Taught:
    return teach(database, blobs, teacher, wanted, lambda *_: None, stop)


def rows(database: Database) -> list[MaskRow]:
    with database.read() as session:
        return list(session.exec(select(MaskRow)))


def test_boxes_become_masks_that_the_next_run_finds(database: Database, blobs: BlobStore) -> None:
    wanted, seen = stored(blobs, 1, 2), []
    first = teach(database, blobs, GrabCutTeacher(), wanted, lambda *count: seen.append(count), lambda: False)
    assert (first.made, first.found, first.dropped, first.stopped) == (2, 0, [], False)
    assert seen == [(0, 2), (1, 2), (2, 2)]
    for each in wanted:
        mask = first.masks[each.sha256]
        with Image.open(io.BytesIO(mask_bytes(blobs, mask))) as image:
            soft = np.asarray(image)
        assert soft.shape == (72, 96) and mask.picture_px == (96, 72)
        assert soft[30, 40] > 200 and soft[70, 90] == 0
        assert mask.quality > 0.5
    (row,) = [row for row in rows(database) if row.sha256 == wanted[0].sha256]
    with database.write() as session:
        session.get_one(MaskRow, (row.sha256, row.boxes_sha256, row.teacher_id)).last_used_at = now() - timedelta(days=9)
    again = run(database, blobs, GrabCutTeacher(), wanted)
    assert (again.made, again.found, again.masks) == (0, 2, first.masks)
    assert again.mean_quality == pytest.approx(np.mean([mask.quality for mask in first.masks.values()]))
    assert all(now() - row.last_used_at < timedelta(minutes=5) for row in rows(database))


def test_the_teacher_is_asked_once_for_all_boxes_of_a_picture(database: Database, blobs: BlobStore) -> None:
    (wanted,) = stored(blobs, 1)
    boxes = tuple(PixelBox.of(x, x, x + 20, x + 20) for x in (0, 10, 50))
    teacher = Counting()
    run(database, blobs, teacher, [Wanted(wanted.sha256, boxes)])
    run(database, blobs, teacher, [Wanted(wanted.sha256, boxes[::-1])])
    assert teacher.calls == [3]
    other = run(database, blobs, teacher, [Wanted(wanted.sha256, boxes[:2])])
    assert (teacher.calls, other.made, len(rows(database))) == ([3, 2], 1, 2)


@pytest.mark.slow
def test_sam_embeds_a_picture_once(database: Database, blobs: BlobStore) -> None:
    sam = tiny_sam()
    calls = counted(sam.image_encoder)
    (small,), (large,) = stored(blobs, 1), stored(blobs, 2, width_px=2400, height_px=1200)
    boxes = tuple(PixelBox.of(x, 5, x + 40, 50) for x in range(10))
    taught = run(database, blobs, SamTeacher(sam, "tiny"), [Wanted(small.sha256, boxes), Wanted(large.sha256, boxes)])
    assert (calls, taught.made) == ([1, 1], 2)
    facts = facts_of(mask_bytes(blobs, taught.masks[large.sha256]))
    assert facts is not None and facts.picture_px == (2400, 1200)
    assert {row.teacher_id for row in rows(database)} == {"tiny-0.1-0.1-1024px"}


def test_what_cannot_be_taught_is_dropped_by_name_and_the_rest_goes_on(database: Database, blobs: BlobStore) -> None:
    good, gone, changed, outside, resized = stored(blobs, 1, 2, 3, 4, 5)
    blobs.delete(picture_key(gone.sha256))
    blobs.delete(picture_key(changed.sha256))
    blobs.put(picture_key(changed.sha256), picture_bytes(99))
    hostile = []
    for broken in BROKEN:
        data = broken.make()
        sha256 = hashlib.sha256(data).hexdigest()
        blobs.put(picture_key(sha256), data)
        hostile.append((Wanted(sha256, (BOX,)), broken.code))
    wanted = [
        gone,
        changed,
        Wanted(outside.sha256, (PixelBox.of(0, 0, 97, 72),)),
        Wanted(resized.sha256, (BOX,), 192, 144),
        *(each for each, _ in hostile),
        good,
    ]
    taught = run(database, blobs, GrabCutTeacher(), wanted)
    assert list(taught.masks) == [good.sha256]
    codes = {each.sha256: each.code for each in taught.dropped}
    assert codes == {
        gone.sha256: "blob_missing",
        changed.sha256: "blob_corrupt",
        outside.sha256: "invalid_input",
        resized.sha256: "invalid_input",
        **{each.sha256: code for each, code in hostile},
    }
    why = {each.sha256: each.why for each in taught.dropped}
    assert why[outside.sha256] == "box [0, 0, 97, 72] lies outside the picture of 96x72 pixels"
    assert why[resized.sha256] == "its boxes were drawn on 192 x 144 pixels, the picture has 96 x 72"


def test_no_picture_costs_more_than_the_limits(database: Database, blobs: BlobStore) -> None:
    wanted = stored(blobs, 1)
    limits = PictureLimits(max_pixels=96 * 72 - 1)
    taught = teach(database, blobs, Counting(), wanted, lambda *_: None, lambda: False, limits=limits)
    assert [each.code for each in taught.dropped] == ["too_large"]
    taught = teach(database, blobs, Counting(), wanted, lambda *_: None, lambda: False, limits=PictureLimits(max_bytes=10))
    assert [each.code for each in taught.dropped] == ["too_large"]


def test_a_stop_is_honoured_between_pictures_and_the_next_call_goes_on(
    database: Database, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teaching, "_PAGE", 2)
    wanted, teacher, asked = stored(blobs, *range(5)), Counting(), itertools.count()
    first = run(database, blobs, teacher, wanted, lambda: next(asked) == 3)
    assert (first.made, first.stopped, len(teacher.calls)) == (3, True, 3)
    again = run(database, blobs, teacher, wanted)
    assert (again.made, again.found, again.stopped, len(teacher.calls)) == (2, 3, False, 5)


def test_what_dies_in_the_middle_goes_on(database: Database, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between putting the bytes and writing the row: the bytes are taken, and nobody is asked again."""
    wanted, teacher = stored(blobs, 1, 2), Counting()

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(teaching.pseudo_masks, "record", kill)
        with pytest.raises(Killed):
            run(database, blobs, teacher, wanted)
    assert (len(teacher.calls), rows(database)) == (1, [])
    again = run(database, blobs, teacher, wanted)
    assert (again.made, again.found, len(teacher.calls), len(rows(database))) == (1, 1, 2, 2)


def test_a_lost_or_damaged_mask_is_made_again(database: Database, blobs: BlobStore) -> None:
    wanted, teacher = stored(blobs, 1, 2, 3), Counting()
    first = run(database, blobs, teacher, wanted)
    lost, damaged, unrecorded = (first.masks[each.sha256] for each in wanted)
    blobs.delete(lost.key)
    for mask in (damaged, unrecorded):
        blobs.delete(mask.key)
        blobs.put(mask.key, b"no mask")
    with database.write() as session:
        session.delete(session.exec(select(MaskRow).where(MaskRow.key == unrecorded.key)).one())
    with pytest.raises(BlobCorrupt, match="the next run makes it again"):
        mask_bytes(blobs, damaged)
    again = run(database, blobs, teacher, wanted)
    assert (again.made, again.masks, len(teacher.calls)) == (3, first.masks, 6)
    assert [mask_bytes(blobs, mask) for mask in first.masks.values()] == [mask_bytes(blobs, lost)] * 3


def test_of_two_that_make_a_mask_at_once_both_go_on_with_the_first(database: Database, blobs: BlobStore) -> None:
    (wanted,) = stored(blobs, 1)
    together = threading.Barrier(2)

    class Unsure(Counting):
        """Says something else each time, as a GPU may in the last digit."""

        def pseudo_mask(self, image: Image.Image, boxes: Sequence[PixelBox]) -> PseudoMask:
            self.calls.append(len(boxes))
            quality = 0.25 * (1 + together.wait(30))
            return PseudoMask(np.full((image.height, image.width), round(200 * quality), dtype=np.uint8), quality)

    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda _: run(database, blobs, Unsure(), [wanted]), range(2)))
    assert both[0].masks == both[1].masks
    (row,) = rows(database)
    data = mask_bytes(blobs, both[0].masks[wanted.sha256])
    facts = facts_of(data)
    assert facts is not None
    assert row.quality == {
        "quality": facts.quality, "bytes_sha256": hashlib.sha256(data).hexdigest(), "picture_px": [96, 72]
    }  # fmt: skip


def test_masks_that_nobody_uses_are_forgotten(database: Database, blobs: BlobStore) -> None:
    old, young = stored(blobs, 1, 2)
    masks = run(database, blobs, Counting(), [old, young]).masks
    with database.write() as session:
        session.exec(select(MaskRow).where(MaskRow.sha256 == old.sha256)).one().last_used_at = now() - timedelta(days=31)
    assert forget_unused(database, blobs, 32) == 0
    assert forget_unused(database, blobs, 30) == 1
    assert [blobs.exists(masks[each.sha256].key) for each in (old, young)] == [False, True]


@pytest.mark.parametrize("error", [BlobStoreUnavailable("away"), DeviceMemoryFull("full")])
def test_a_store_or_device_that_is_away_ends_the_run_and_loses_nothing(
    database: Database, blobs: BlobStore, error: Exception
) -> None:
    wanted = stored(blobs, 1, 2)

    class Once(Counting):
        def pseudo_mask(self, image: Image.Image, boxes: Sequence[PixelBox]) -> PseudoMask:
            if self.calls:
                raise error
            return super().pseudo_mask(image, boxes)

    with pytest.raises(type(error)):
        run(database, blobs, Once(), wanted)
    assert len(rows(database)) == 1


def test_a_picture_may_come_from_elsewhere(database: Database, blobs: BlobStore) -> None:
    """As those of a base set, which lie in a folder."""
    data = picture_bytes(1)
    sha256 = hashlib.sha256(data).hexdigest()

    def read(wanted: str) -> bytes:
        if wanted != sha256:
            raise BlobMissing("not in the base set")
        return data

    wanted = [Wanted(sha256, (BOX,)), Wanted("0" * 64, (BOX,))]
    taught = teach(database, blobs, Counting(), wanted, lambda *_: None, lambda: False, read_picture=read)
    assert (list(taught.masks), [each.why for each in taught.dropped]) == ([sha256], ["not in the base set"])


def test_a_picture_twice_is_a_mistake_of_the_caller(sqlite: Database) -> None:
    blobs: Any = None
    with pytest.raises(ValueError, match="twice"):
        run(sqlite, blobs, Counting(), [Wanted("0" * 64, (BOX,))] * 2)


def annotate(database: Database, sha256: str, by: str, *boxes: PixelBox) -> int:
    kind = AnnotationKind.BOXES if boxes else AnnotationKind.AUTHENTIC
    word = NewAnnotation(
        sha256=sha256, kind=kind, boxes=boxes, width_px=96, height_px=72, annotator=by, origin=AnnotationOrigin.CLI
    )
    with database.write() as session:
        return annotations.add_annotation(session, word).annotation.id or 0


def test_pictures_with_agreed_boxes_are_wanted(database: Database) -> None:
    first, second, third, fourth = (f"{number}" * 64 for number in range(4))
    number = annotate(database, first, "anna", BOX)
    annotate(database, second, "anna")
    annotate(database, third, "anna", BOX)
    annotate(database, third, "ben")  # disputed
    annotate(database, fourth, "anna", BOX, PixelBox.of(0, 0, 5, 5))
    boxes = (PixelBox.of(0, 0, 5, 5), BOX)
    with database.read() as session:
        assert annotated(session) == [Wanted(first, (BOX,), 96, 72), Wanted(fourth, boxes, 96, 72)]
        assert annotated(session, after=number) == [Wanted(fourth, boxes, 96, 72)]


def test_what_was_read_is_what_a_decided_run_has_read(database: Database) -> None:
    with database.read() as session:
        assert last_read(session) == 0
    with database.write() as session:
        decided = {RetrainState.PROMOTED: 3, RetrainState.REJECTED: 5, RetrainState.PROPOSED: 7}
        for state, number in (decided | {RetrainState.FAILED: 8, RetrainState.TRAINING: 9}).items():
            session.add(RetrainRun(state=state, trigger=RetrainTrigger.MANUAL, last_annotation_id=number))
    with database.read() as session:
        assert last_read(session) == 7


def test_the_teacher_that_the_settings_name(tmp_path: Any) -> None:
    assert open_teacher(TeacherSettings()).name == "grabcut-320-4-0.1-0.1"
    missing = tmp_path / "sam.pth"
    assert open_teacher(TeacherSettings(kind="grabcut", checkpoint=missing)).name == "grabcut-320-4-0.1-0.1"
    with pytest.raises(InvalidInput, match=r"sam\.pth cannot be read"):
        open_teacher(TeacherSettings(checkpoint=missing))
    missing.write_bytes(b"another file")
    with pytest.raises(InvalidInput, match=r"is not the published sam_vit_l_0b3195\.pth: its sha256 is"):
        open_teacher(TeacherSettings(checkpoint=missing, model="sam-vit-l"))


def test_a_name_is_what_everything_depends_on(database: Database, blobs: BlobStore) -> None:
    (wanted,) = stored(blobs, 1)
    taught = run(database, blobs, Counting(), [wanted])
    name = MaskName.of(wanted.sha256, wanted.boxes, "counting-1024px")
    expected = packed(PseudoMask(np.full((72, 96), 200, dtype=np.uint8), 0.5), (96, 72))
    assert taught.masks[wanted.sha256].key == name.key
    assert blobs.get(name.key, 10**6) == expected
