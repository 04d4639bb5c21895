import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.geometry import PixelBox

SIDE = st.integers(1, 5000)


@st.composite
def boxes(draw: st.DrawFn) -> PixelBox:
    x0, y0 = draw(st.integers(0, 4000)), draw(st.integers(0, 4000))
    return PixelBox.of(x0, y0, x0 + draw(SIDE), y0 + draw(SIDE))


@given(boxes())
def test_extent_counts_the_pixels_between_inclusive_and_exclusive_edges(box: PixelBox) -> None:
    x0, y0, x1, y1 = box.as_tuple()
    assert (box.width, box.height) == (len(range(x0, x1)), len(range(y0, y1)))
    assert box.area == box.width * box.height > 0


@given(boxes())
def test_a_box_survives_json(box: PixelBox) -> None:
    assert PixelBox.model_validate_json(box.model_dump_json()) == box
    assert PixelBox.of(*box.as_tuple()) == box


@given(boxes(), SIDE, SIDE)
def test_a_clipped_box_fits_and_is_the_intersection(box: PixelBox, width_px: int, height_px: int) -> None:
    if box.x0 >= width_px or box.y0 >= height_px:
        with pytest.raises(ValueError, match="no area"):
            box.clipped(width_px, height_px)
        return
    clipped = box.clipped(width_px, height_px)
    assert clipped.fits(width_px, height_px)
    assert set(range(clipped.x0, clipped.x1)) == set(range(box.x0, box.x1)) & set(range(width_px))
    assert set(range(clipped.y0, clipped.y1)) == set(range(box.y0, box.y1)) & set(range(height_px))
    assert (clipped == box) is box.fits(width_px, height_px)


@given(boxes(), st.floats(0, 2), SIDE, SIDE)
def test_a_loosened_box_holds_the_box_and_stays_in_the_picture(
    box: PixelBox, margin: float, more_width_px: int, more_height_px: int
) -> None:
    width_px, height_px = box.x1 + more_width_px, box.y1 + more_height_px
    loose = box.loosened(margin, width_px, height_px)
    assert loose.fits(width_px, height_px)
    assert loose.x0 <= box.x0 and loose.y0 <= box.y0 and loose.x1 >= box.x1 and loose.y1 >= box.y1
    assert loose.width <= box.width + 2 * round(box.width * margin)


def test_loosening_grows_each_side_by_the_margin() -> None:
    assert PixelBox.of(100, 100, 200, 140).loosened(0.25, 1000, 1000) == PixelBox.of(75, 90, 225, 150)


@pytest.mark.parametrize("corners", [(5, 0, 5, 9), (0, 5, 9, 5), (6, 0, 5, 9), (-1, 0, 5, 9), (0, -1, 5, 9), (0, 0, 0, 1)])
def test_a_box_without_area_or_outside_the_frame_is_refused(corners: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValidationError):
        PixelBox.of(*corners)


@pytest.mark.parametrize("value", [1.5, "a", None, float("nan"), float("inf")])
def test_a_corner_that_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        PixelBox.model_validate({"x0": value, "y0": 0, "x1": 10, "y1": 10})


def test_a_box_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        PixelBox.of(0, 0, 1, 1).x1 = 5
