import io

import numpy as np
from PIL import Image

from model.mask_files import packed
from model.mask_sheet import CELL_PX, TaughtPicture, sheet, taught_picture
from model.teacher import PseudoMask
from schemas.geometry import PixelBox


def picture(name: str, size: tuple[int, int] = (400, 300)) -> TaughtPicture:
    soft = np.zeros((size[1], size[0]), dtype=np.uint8)
    soft[: size[1] // 2] = 255
    boxes = [PixelBox.of(0, 0, size[0], size[1] // 2)]
    return taught_picture(name, Image.new("RGB", size, (0, 0, 255)), boxes, packed(PseudoMask(soft, 0.5), size), 0.5)


def colours(data: bytes) -> set[tuple[int, ...]]:
    with Image.open(io.BytesIO(data)) as image:
        return {tuple(colour) for colour in np.asarray(image).reshape(-1, 3)}


def test_a_sheet_shows_picture_box_and_mask() -> None:
    seen = colours(sheet([picture("one")], "title"))
    assert {(0, 0, 255), (255, 176, 0), (0, 0, 0), (255, 255, 255)} <= seen


def test_it_grows_by_a_line_for_every_two_pictures() -> None:
    heights = []
    for count in (0, 1, 2, 3):
        with Image.open(io.BytesIO(sheet([picture(f"{number}") for number in range(count)], ""))) as image:
            heights.append(image.height)
    assert heights[0] == heights[1] == heights[2] < heights[3]


def test_what_it_keeps_of_a_picture_fits_a_cell() -> None:
    for size in ((4000, 3000), (1, 3000), (3000, 2)):
        kept = picture("large", size)
        assert kept.image.width <= CELL_PX[0] and kept.image.height <= CELL_PX[1]
        assert kept.mask.size == kept.image.size
        assert kept.picture_px == size
        sheet([kept], "")


def test_a_name_from_outside_does_no_harm() -> None:
    hostile = sheet([picture("a\nb\x1b[31m\ud800…é漢" + "x" * 500)], "t\nitle")
    assert hostile.startswith(b"\x89PNG")
