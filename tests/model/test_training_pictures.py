import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from model.manifest import Manifest, ManifestRow
from model.training_pictures import CELL_PX, SheetPicture, chosen, sheet, sheet_pictures


@pytest.fixture
def row(drawn: Manifest) -> ManifestRow:
    return drawn.rows[0]


def picture(**changes: object) -> SheetPicture:
    shown = SheetPicture(
        set_name="set",
        tampered=True,
        size_px=(120, 90),
        pixels=np.full((64, 64, 3), 128, dtype=np.uint8),
        truth_net=np.zeros((16, 16), dtype=bool),
        prob_net=np.zeros((16, 16), dtype=np.float32),
        score=0.5,
    )
    return replace(shown, **changes)


def drawn_sheet(*pictures: SheetPicture) -> Image.Image:
    return Image.open(io.BytesIO(sheet(pictures, "a run"))).convert("RGB")


def has(image: Image.Image, colour: tuple[int, int, int]) -> bool:
    return bool((np.asarray(image) == colour).all(axis=-1).any())


def test_two_thirds_are_manipulated_and_every_set_is_there(row: ManifestRow) -> None:
    rows = [replace(row, set_name=f"s{index % 5}", tampered=index < 60) for index in range(100)]
    picked = chosen(rows, 12)
    assert len(set(picked)) == 12
    assert [rows[index].tampered for index in picked] == [True] * 8 + [False] * 4
    assert {rows[index].set_name for index in picked[:8]} == {f"s{number}" for number in range(5)}
    assert {rows[index].set_name for index in picked[8:]} <= {f"s{number}" for number in range(5)}


def test_a_missing_label_leaves_its_place_to_the_other(row: ManifestRow) -> None:
    authentic = [replace(row, tampered=False)] * 20
    assert len(chosen(authentic, 12)) == 12
    assert len(chosen([row] * 20, 12)) == 12
    assert sorted(chosen([row] * 3, 12)) == [0, 1, 2]
    assert chosen([], 12) == []


def test_the_choice_is_the_same_every_time(row: ManifestRow) -> None:
    rows = [replace(row, set_name=f"s{index % 3}", tampered=index % 2 == 0) for index in range(50)]
    assert chosen(rows) == chosen(rows)


def test_figures_are_f1_or_the_area_marked() -> None:
    truth = np.zeros((16, 16), dtype=bool)
    truth[:8] = True
    found = np.zeros((16, 16), dtype=np.float32)
    found[:4] = 0.9
    assert picture(truth_net=truth, prob_net=found).figure == "F1 0.67"
    assert picture(tampered=False, prob_net=found).figure == "marked 25.0%"


def test_the_sheet_shows_outline_heat_and_mask() -> None:
    truth = np.zeros((16, 16), dtype=bool)
    truth[4:12, 4:12] = True
    nothing = drawn_sheet(picture(pixels=np.zeros((64, 64, 3), dtype=np.uint8)))
    outlined = drawn_sheet(picture(pixels=np.zeros((64, 64, 3), dtype=np.uint8), truth_net=truth))
    assert not has(nothing, (0, 214, 107))
    assert has(outlined, (0, 214, 107))
    marked = drawn_sheet(picture(prob_net=np.ones((16, 16), dtype=np.float32)))
    top = np.asarray(marked)[70:200]
    mask_column = top[60, 3 * (CELL_PX[0] + 6) + 22 + CELL_PX[0] // 2]
    assert mask_column.tolist() == [255, 255, 255]


def test_views_keep_the_shape_of_the_original() -> None:
    red = np.zeros((64, 64, 3), dtype=np.uint8)
    red[..., 0] = 255
    tall = np.asarray(drawn_sheet(picture(pixels=red, size_px=(50, 200))))
    is_red = (tall[..., 0] > 200) & (tall[..., 1] < 40) & (tall[..., 2] < 40)
    rows, columns = np.flatnonzero(is_red.any(1)), np.flatnonzero(is_red[:, : 22 + CELL_PX[0]].any(0))
    assert rows.size == CELL_PX[1]
    assert columns.size == round(CELL_PX[1] / 4)


def test_a_validation_becomes_pictures(row: ManifestRow) -> None:
    rows = [replace(row, size_px=None), replace(row, tampered=False, size_px=(9, 5))]
    shown = sheet_pictures(
        rows,
        np.zeros((2, 64, 64, 3), dtype=np.uint8),
        np.zeros((2, 16, 16), dtype=bool),
        np.zeros((2, 16, 16), dtype=np.float32),
        np.array([0.0, 2.0], dtype=np.float32),
    )
    assert [each.size_px for each in shown] == [(64, 64), (9, 5)]
    assert [each.score for each in shown] == pytest.approx([0.5, 0.8808], abs=1e-4)
