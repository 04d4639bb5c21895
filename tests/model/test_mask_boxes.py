from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.manifest import Manifest, ManifestRow
from model.mask_boxes import boxes_of_mask, with_boxes
from schemas.errors import InvalidInput
from schemas.geometry import PixelBox


def mask_of(height_px: int, width_px: int, *boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((height_px, width_px), dtype=np.bool_)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


@pytest.mark.parametrize("size", [(300, 400), (1283, 700), (90, 120), (7, 2000), (1, 1)])
def test_a_box_is_tight_in_original_pixels(size: tuple[int, int]) -> None:
    height, width = size
    box = (width // 3, height // 4, width // 3 + max(1, width // 2), height // 4 + max(1, height // 2))
    assert boxes_of_mask(mask_of(height, width, box)) == (PixelBox.of(*box),)


def test_distant_parts_have_their_own_boxes_and_the_larger_comes_first() -> None:
    small, large = (10, 20, 60, 70), (300, 200, 500, 390)
    assert boxes_of_mask(mask_of(400, 512, small, large)) == (PixelBox.of(*large), PixelBox.of(*small))


def test_close_parts_share_a_box() -> None:
    """The cells of a picture of 1280 pixels are 10 pixels wide: a gap of 8 has no empty cell, one of 30 has."""
    assert boxes_of_mask(mask_of(900, 1280, (100, 100, 200, 200), (208, 100, 300, 200))) == (PixelBox.of(100, 100, 300, 200),)
    assert len(boxes_of_mask(mask_of(900, 1280, (100, 100, 200, 200), (230, 100, 300, 200)))) == 2


def test_specks_get_no_box_unless_there_is_nothing_else() -> None:
    specks = ((20, 30, 22, 32), (600, 500, 603, 501))
    assert boxes_of_mask(mask_of(700, 900, (300, 300, 400, 420), *specks)) == (PixelBox.of(300, 300, 400, 420),)
    assert boxes_of_mask(mask_of(700, 900, *specks)) == (PixelBox.of(20, 30, 603, 501),)


def test_the_edges_of_the_picture_are_kept() -> None:
    assert boxes_of_mask(np.ones((301, 403), dtype=np.bool_)) == (PixelBox.of(0, 0, 403, 301),)


def test_an_empty_mask_has_no_box() -> None:
    assert boxes_of_mask(np.zeros((30, 40), dtype=np.bool_)) == ()


def test_every_marked_pixel_of_a_part_lies_in_a_box() -> None:
    rng = np.random.default_rng(5)
    coarse = rng.random((20, 25)) > 0.8
    mask = np.kron(coarse, np.ones((40, 40), dtype=np.bool_))
    covered = mask_of(*mask.shape, *(box.as_tuple() for box in boxes_of_mask(mask)))
    assert not (mask & ~covered).any()


def test_only_manipulated_rows_without_boxes_get_some(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    Image.fromarray(mask_of(48, 64, (5, 6, 25, 30)).astype(np.uint8) * 255).save(tmp_path / "m.png")
    drawn = (PixelBox.of(0, 0, 9, 9),)

    def row(mask: str | None, boxes: tuple[PixelBox, ...] = (), *, tampered: bool = True) -> ManifestRow:
        return ManifestRow("s", "a.png", mask, tampered, "", "x", boxes, (), None)

    rows = (row("m.png"), row("m.png", drawn), row(None), row("m.png", tampered=False), row("m.png"))
    told: list[tuple[int, int]] = []
    found = with_boxes(Manifest(tmp_path, rows, ""), lambda done, count: told.append((done, count)))
    made = (PixelBox.of(5, 6, 25, 30),)
    assert [one.boxes for one in found.rows] == [made, drawn, (), (), made]
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize("problem", ["missing", "broken", "empty", "size"])
def test_a_mask_that_does_not_fit_is_refused(tmp_path: Path, problem: str) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    if problem == "broken":
        (tmp_path / "m.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    elif problem != "missing":
        Image.new("L", (64, 48) if problem == "empty" else (60, 48), 0 if problem == "empty" else 255).save(tmp_path / "m.png")
    row = ManifestRow("s", "a.png", "m.png", True, "", "x", (), (), None, line=7)
    with pytest.raises(InvalidInput, match=r"line 7 \(a\.png\): no boxes from mask"):
        with_boxes(Manifest(tmp_path, (row,), ""))
