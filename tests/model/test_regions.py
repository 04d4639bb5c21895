"""Regions against a flood fill written the slow way, and their boxes in original pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from model.regions import MAX_REGIONS, find_regions
from schemas.geometry import PixelBox

SMALL_MASKS = arrays(
    np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.sampled_from([0, 127, 128, 200, 255])
)


def flooded(mask_net: np.ndarray) -> set[frozenset[tuple[int, int]]]:
    """The 8-connected parts above 0.5 as sets of (row, column)."""
    open_cells = {(int(row), int(column)) for row, column in np.argwhere(mask_net > 127)}
    parts = set()
    while open_cells:
        part, border = set(), [open_cells.pop()]
        while border:
            row, column = border.pop()
            part.add((row, column))
            touching = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & open_cells
            open_cells -= touching
            border.extend(touching)
        parts.add(frozenset(part))
    return parts


@given(SMALL_MASKS)
def test_regions_are_the_flooded_parts(mask_net: np.ndarray) -> None:
    rows, columns = mask_net.shape
    found = find_regions(mask_net, width_px=columns, height_px=rows, limit=1000)

    expected = []
    for part in flooded(mask_net):
        ys, xs = zip(*part, strict=True)
        box = PixelBox(x0=min(xs), y0=min(ys), x1=max(xs) + 1, y1=max(ys) + 1)
        expected.append((box.as_tuple(), len(part), sum(int(mask_net[cell]) for cell in part)))
    area = [round(region.area * mask_net.size) for region in found]
    total = [round(region.score * cells * 255) for region, cells in zip(found, area, strict=True)]
    assert sorted(zip((region.box.as_tuple() for region in found), area, total, strict=True)) == sorted(expected)
    assert total == sorted(total, reverse=True)


def test_corners_connect() -> None:
    mask_net = np.eye(8, dtype=np.uint8) * 255

    (region,) = find_regions(mask_net, 8, 8)

    assert region.box == PixelBox(x0=0, y0=0, x1=8, y1=8)
    assert region.area == pytest.approx(8 / 64)


def test_a_ring_and_its_core_are_two_parts_and_a_u_is_one() -> None:
    ring = np.zeros((9, 9), np.uint8)
    ring[1:8, 1:8], ring[2:7, 2:7], ring[4, 4] = 200, 0, 200
    u_shape = np.zeros((6, 6), np.uint8)
    u_shape[:, 1], u_shape[:, 4], u_shape[5, 1:5] = 255, 255, 255

    assert len(find_regions(ring, 9, 9)) == 2
    assert len(find_regions(u_shape, 6, 6)) == 1


def test_boxes_cover_the_cells_in_original_pixels() -> None:
    mask_net = np.zeros((10, 10), np.uint8)
    mask_net[2:4, 5:8] = 255

    (region,) = find_regions(mask_net, width_px=1005, height_px=333)

    # columns 5..8 of 10 are 502.5..804 px, rows 2..4 of 10 are 66.6..133.2 px
    assert region.box == PixelBox(x0=502, y0=66, x1=804, y1=134)
    assert region.score == 1.0
    assert region.area == pytest.approx(0.06)


@pytest.mark.parametrize(("width_px", "height_px"), [(1, 1), (1, 5000), (7, 3), (4000, 3000)])
def test_boxes_stay_inside_any_picture(width_px: int, height_px: int) -> None:
    mask_net = np.zeros((96, 96), np.uint8)
    mask_net[10:40, 50:52] = 180
    mask_net[90:, 90:] = 255

    boxes = [region.box for region in find_regions(mask_net, width_px, height_px)]

    assert len(boxes) == 2
    assert all(box.fits(width_px, height_px) for box in boxes)


def test_specks_are_dropped_and_the_most_telling_come_first() -> None:
    mask_net = np.zeros((96, 96), np.uint8)
    mask_net[0:2, 0:2] = 255  # 4 cells of 9216: a speck
    mask_net[10:20, 10:20] = 140  # 100 cells
    mask_net[30:39, 30:39] = 255  # 81 cells, but sure

    found = find_regions(mask_net, 960, 960)

    assert [region.box.x0 for region in found] == [300, 100]
    assert found[1].score == pytest.approx(140 / 255)


def test_at_most_the_limit() -> None:
    mask_net = np.zeros((96, 96), np.uint8)
    for row in range(0, 96, 12):
        for column in range(0, 96, 12):
            mask_net[row : row + 6, column : column + 6] = 200

    assert len(find_regions(mask_net, 500, 500)) == MAX_REGIONS
    assert len(find_regions(mask_net, 500, 500, limit=3)) == 3


def test_an_empty_and_a_full_mask() -> None:
    assert find_regions(np.full((96, 96), 127, np.uint8), 500, 400) == []
    (region,) = find_regions(np.full((96, 96), 128, np.uint8), 500, 400)
    assert region.box == PixelBox(x0=0, y0=0, x1=500, y1=400)
    assert region.area == 1.0
