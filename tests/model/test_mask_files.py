import io
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from model.evaluation_data import true_mask
from model.mask_files import LONG_SIDE_PX, MaskFacts, facts_of, full_size, packed, taught, teacher_id
from model.teacher import GrabCutTeacher, PseudoMask
from schemas.errors import DecodeFailed, InvalidInput
from schemas.geometry import PixelBox


class Noting:
    """Notes the sizes and boxes it is shown, and marks the boxes."""

    name = "noting"

    def __init__(self) -> None:
        self.shown: list[tuple[tuple[int, int], list[PixelBox]]] = []

    def pseudo_mask(self, image: Image.Image, boxes: Sequence[PixelBox]) -> PseudoMask:
        self.shown.append((image.size, list(boxes)))
        mask = Image.new("L", image.size)
        for box in boxes:
            ImageDraw.Draw(mask).rectangle((box.x0, box.y0, box.x1 - 1, box.y1 - 1), fill=200)
        return PseudoMask(np.asarray(mask), 0.625)


def pixels(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "L"
        return np.asarray(image)


def test_a_mask_says_its_quality_and_its_pictures_size() -> None:
    soft = np.arange(12, dtype=np.uint8).reshape(3, 4)
    data = packed(PseudoMask(soft, 1 / 3), (4, 3))
    assert facts_of(data) == MaskFacts(1 / 3, (4, 3))
    assert (pixels(data) == soft).all()
    assert data == packed(PseudoMask(soft, 1 / 3), (4, 3))


def test_a_small_picture_is_shown_as_it_is() -> None:
    teacher, box = Noting(), PixelBox.of(3, 4, 20, 30)
    data = taught(teacher, Image.new("RGB", (40, LONG_SIDE_PX)), [box])
    assert teacher.shown == [((40, LONG_SIDE_PX), [box])]
    assert pixels(data).shape == (LONG_SIDE_PX, 40)


def test_a_large_picture_is_reduced_with_its_boxes() -> None:
    teacher = Noting()
    boxes = [PixelBox.of(0, 0, 3000, 1500), PixelBox.of(1501, 301, 1800, 601), PixelBox.of(2999, 1499, 3000, 1500)]
    data = taught(teacher, Image.new("RGB", (3000, 1500)), boxes)
    ((size, shown),) = teacher.shown
    assert size == (1024, 512)
    assert shown == [PixelBox.of(0, 0, 1024, 512), PixelBox.of(512, 102, 615, 206), PixelBox.of(1023, 511, 1024, 512)]
    assert facts_of(data) == MaskFacts(0.625, (3000, 1500))


def test_a_picture_thinner_than_a_reduced_pixel_keeps_one() -> None:
    teacher = Noting()
    taught(teacher, Image.new("RGB", (5000, 2)), [PixelBox.of(4990, 0, 4991, 1)])
    assert teacher.shown == [((1024, 1), [PixelBox.of(1021, 0, 1023, 1)])]


def test_a_box_outside_its_picture_is_refused() -> None:
    with pytest.raises(InvalidInput, match="lies outside the picture of 50x40 pixels"):
        taught(GrabCutTeacher(), Image.new("RGB", (50, 40)), [PixelBox.of(0, 0, 51, 40)])


def test_the_same_picture_gives_the_same_bytes() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    box = [PixelBox.of(20, 20, 200, 150)]
    assert taught(GrabCutTeacher(), Image.fromarray(noise), box) == taught(GrabCutTeacher(), Image.fromarray(noise), box)
    assert teacher_id(GrabCutTeacher()) == "grabcut-320-4-0.1-0.1-1024px"


def test_at_full_size_it_is_a_mask_to_measure_against() -> None:
    box = PixelBox.of(600, 300, 1800, 1200)
    data = full_size(taught(Noting(), Image.new("RGB", (3000, 1500)), [box]), [box])
    truth = true_mask(data, 3000, 1500)
    inside = np.zeros((1500, 3000), dtype=bool)
    inside[300:1200, 600:1800] = True
    assert (truth & inside).sum() / (truth | inside).sum() > 0.99


def test_where_the_teacher_marks_nothing_the_boxes_are_the_mask() -> None:
    data = full_size(packed(PseudoMask(np.full((40, 60), 127, dtype=np.uint8), 0.0), (60, 40)), [PixelBox.of(1, 2, 4, 6)])
    truth = true_mask(data, 60, 40)
    assert truth.sum() == 12 and truth[2:6, 1:4].all()


@pytest.mark.parametrize("wrong", ["nothing", "no PNG", "cut off", "no quality", "quality 2", "colour", "size in words"])
def test_what_is_no_mask_is_seen(wrong: str) -> None:
    good = packed(PseudoMask(np.random.default_rng(1).integers(0, 255, (90, 90), dtype=np.uint8), 0.5), (90, 90))
    data = {"nothing": b"", "no PNG": b"GIF89a", "cut off": good[:-200]}.get(wrong)
    if data is None:
        text = PngInfo()
        text.add_text("picture", "two by two" if wrong == "size in words" else "2x2")
        if wrong != "no quality":
            text.add_text("quality", "2" if wrong == "quality 2" else "0.5")
        buffer = io.BytesIO()
        Image.new("RGB" if wrong == "colour" else "L", (2, 2)).save(buffer, "PNG", pnginfo=text)
        data = buffer.getvalue()
    assert facts_of(data) is None
    with pytest.raises(DecodeFailed, match="its pseudo-mask is damaged"):
        full_size(data, [PixelBox.of(0, 0, 1, 1)])
