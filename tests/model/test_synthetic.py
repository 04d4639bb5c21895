import numpy as np
import pytest

from model.synthetic import Manipulated, blob, copy_move, local_edit, pick_object, removal, splice


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
        assert made.picture[made.mask > 0].mean() > base.mean() + 40  # even where it was matched to what it covers
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
    made = next(one for seed in range(20) if (one := removal(base, small, rng(seed))) is not None and one.move is None)
    assert made.picture[small > 0].mean() < 100
    assert (made.mask[small > 0] == 255).all()
    assert untouched(base, made) == 0


def test_a_part_too_large_to_fill_is_covered_or_left(base: np.ndarray, part: np.ndarray) -> None:
    made = [removal(base, part, rng(seed)) for seed in range(20)]
    assert None in made
    assert all(one.move is not None for one in made if one is not None)


def test_a_covered_part_shows_what_its_move_says(base: np.ndarray) -> None:
    small = np.zeros((90, 120), dtype=np.uint8)
    small[40:55, 50:70] = 255
    covered = [one for seed in range(30) if (one := removal(base, small, rng(seed))) is not None and one.move is not None]
    assert len(covered) > 5
    for made in covered:
        assert copied(base, made) < 20  # of noise whose neighbours differ by 20 on average


def copied(base: np.ndarray, made: Manipulated) -> float:
    """Mean difference between well inside the copy and the source the move names, in the picture as it was."""
    assert made.move is not None
    inner = np.argwhere(made.mask > 0)
    centre = inner[np.linalg.norm(inner - inner.mean(0), axis=1) < 4]
    height, width = made.mask.shape
    points = np.stack([(centre[:, 1] + 0.5) / width, (centre[:, 0] + 0.5) / height, np.ones(len(centre))])
    x, y = np.floor((made.move @ points)[:2] * np.array([[width], [height]])).astype(int)
    assert (x >= 0).all() and (x < width).all() and (y >= 0).all() and (y < height).all()
    return float(np.abs(base[y, x].astype(int) - made.picture[centre[:, 0], centre[:, 1]]).mean())


def test_a_copys_move_leads_to_its_source(part: np.ndarray) -> None:
    """A ramp, so that every pixel tells where it comes from; light changes of the copy shift it by little."""
    ramp = np.zeros((90, 120, 3), dtype=np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(120) * 2, np.arange(90)[:, None] * 2
    ramp[..., 2] = 128
    differences = [
        copied(ramp, made)
        for seed in range(40)
        if (made := copy_move(ramp, part, rng(seed))) is not None and made.mask[5:-5, 5:-5].any()
    ]
    assert len(differences) > 10
    assert np.median(differences) < 8


def test_a_copy_does_not_lie_on_its_source(base: np.ndarray, part: np.ndarray) -> None:
    for seed in range(20):
        made = copy_move(base, part, rng(seed))
        if made is not None:
            assert np.count_nonzero(made.mask & part) <= 0.3 * np.count_nonzero(made.mask)


def test_a_local_edit_changes_its_part_alone(base: np.ndarray, part: np.ndarray) -> None:
    base = np.kron(base[::6, ::6], np.ones((6, 6, 1), dtype=np.uint8))
    changed = []
    for seed in range(30):
        made = local_edit(base, part, rng(seed))
        assert made is not None
        assert made.move is None
        assert untouched(base, made) == 0
        assert np.array_equal(made.mask, part)
        changed.append(np.abs(base.astype(int) - made.picture)[part > 0].mean())
    assert min(changed) > 0
    assert len(set(np.round(changed, 2))) > 10


def test_an_empty_part_makes_nothing(base: np.ndarray) -> None:
    nothing = np.zeros((90, 120), dtype=np.uint8)
    assert splice(base, base, nothing, rng()) is None
    assert removal(base, nothing, rng()) is None
    assert local_edit(base, nothing, rng()) is None


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
