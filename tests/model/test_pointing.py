import numpy as np
import pytest

from model.pointing import pointing
from schemas.geometry import PixelBox

BOX, FAR = PixelBox.of(0, 0, 10, 10), PixelBox.of(20, 20, 30, 30)


def mask(*marked: tuple[int, int, int, int], value: int = 255) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    out = np.zeros((40, 50), np.uint8)
    for x0, y0, x1, y1 in marked:
        out[y0:y1, x0:x1] = value
    return out


@pytest.mark.parametrize(
    ("marked", "inside", "found"),
    [
        ([(0, 0, 10, 10)], 1.0, 0.5),
        ([(0, 0, 10, 10), (20, 20, 30, 30)], 1.0, 1.0),
        ([(0, 0, 10, 20)], 0.5, 0.5),
        ([(0, 0, 10, 1)], 1.0, 0.5),
        ([(0, 0, 9, 1)], 1.0, 0.0),
        ([(40, 0, 50, 10)], 0.0, 0.0),
        ([], 0.0, 0.0),
    ],
)
def test_how_well_a_mask_points_at_two_boxes(marked: list[tuple[int, int, int, int]], inside: float, found: float) -> None:
    assert pointing(mask(*marked), [BOX, FAR]) == (inside, found)


def test_a_half_is_not_marked_and_a_pixel_in_two_boxes_counts_once() -> None:
    assert pointing(mask((0, 0, 10, 10), value=127), [BOX]) == (0.0, 0.0)
    assert pointing(mask((0, 0, 10, 10), (0, 20, 10, 30), value=128), [BOX, BOX]) == (0.5, 1.0)


def test_what_lies_outside_the_picture_is_not_marked() -> None:
    assert pointing(mask((40, 30, 50, 40)), [PixelBox.of(40, 30, 140, 130)]) == (1.0, 0.0)
    assert pointing(mask((40, 30, 50, 40)), [PixelBox.of(100, 100, 110, 110)]) == (0.0, 0.0)


def test_without_boxes_there_is_nothing_to_point_at() -> None:
    assert pointing(mask((0, 0, 5, 5)), []) is None
