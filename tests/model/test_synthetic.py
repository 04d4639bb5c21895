import numpy as np
import pytest

from model.synthetic import Manipulated, blob, copy_move, pick_object, removal, splice


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def base() -> np.ndarray:
    return rng(1).integers(0, 60, (90, 120, 3), dtype=np.uint8)


@pytest.fixture
def part() -> np.ndarray:
    mask = np.zeros((90, 120), dtype=np.uint8)
    mask[30:60, 40:80] = 255
    return mask


def untouched(base: np.ndarray, made: Manipulated) -> float:
    """Largest change of a pixel farther than eight pixels from the mask."""
    far = np.ones(made.mask.shape, dtype=bool)
    for y, x in zip(*np.nonzero(made.mask), strict=True):
        far[max(0, y - 8) : y + 9, max(0, x - 8) : x + 9] = False
    return float(np.abs(base.astype(int) - made.picture)[far].max(initial=0))


def test_a_splice_changes_what_its_mask_says(base: np.ndarray, part: np.ndarray) -> None:
    donor = np.full((90, 120, 3), 220, dtype=np.uint8)
    seen = 0
    for seed in range(8):
        made = splice(base, donor, part, rng(seed))
        if made is None:
            continue
        seen += 1
        assert set(np.unique(made.mask)) == {0, 255}
        assert made.picture[made.mask > 0].mean() > 130
        assert untouched(base, made) == 0
    assert seen > 4


def test_a_copy_move_comes_from_the_same_picture(base: np.ndarray, part: np.ndarray) -> None:
    base = base.copy()
    base[part > 0] = 250
    made = next(made for seed in range(9) if (made := copy_move(base, part, rng(seed))) is not None)
    assert made.picture[made.mask > 0].mean() > 130
    assert untouched(base, made) == 0


def test_a_removal_fills_and_marks_a_small_part(base: np.ndarray) -> None:
    small = np.zeros((90, 120), dtype=np.uint8)
    small[40:55, 50:70] = 255
    base = base.copy()
    base[small > 0] = 250
    made = removal(base, small, rng(3))
    assert made is not None
    assert made.picture[small > 0].mean() < 100
    assert (made.mask[small > 0] == 255).all()
    assert untouched(base, made) == 0


def test_a_large_part_is_not_removed(base: np.ndarray, part: np.ndarray) -> None:
    assert removal(base, part, rng()) is None


def test_an_empty_part_makes_nothing(base: np.ndarray) -> None:
    nothing = np.zeros((90, 120), dtype=np.uint8)
    assert splice(base, base, nothing, rng()) is None
    assert removal(base, nothing, rng()) is None


def test_an_instance_mask_gives_one_instance() -> None:
    mask = np.zeros((40, 40), dtype=np.uint8)
    mask[:10, :10], mask[20:, 20:], mask[0, 39] = 1, 2, 3
    sizes = {int((picked > 0).sum()) for seed in range(20) if (picked := pick_object(mask, rng(seed))) is not None}
    assert sizes == {100, 400}  # the single pixel of instance 3 is of no use


def test_a_black_and_white_mask_gives_its_white_part() -> None:
    mask = np.full((40, 40), 3, dtype=np.uint8)
    mask[:10, :10] = 250
    picked = pick_object(mask, rng())
    assert picked is not None
    assert int((picked > 0).sum()) == 100


@pytest.mark.parametrize("value", [0, 255])
def test_a_mask_of_nothing_or_everything_gives_no_object(value: int) -> None:
    assert pick_object(np.full((40, 40), value, dtype=np.uint8), rng()) is None


def test_blobs_are_single_shapes_of_varied_size() -> None:
    shares = [float((blob(100, 150, rng(seed)) > 0).mean()) for seed in range(30)]
    assert max(shares) < 0.5
    assert max(shares) > 5 * sorted(shares)[5]
