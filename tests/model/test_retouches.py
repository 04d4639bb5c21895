import numpy as np
import pytest

from model import retouches


@pytest.fixture
def picture() -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 200, (12, 16, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((8, 8, 1), dtype=np.uint8))


@pytest.mark.parametrize("retouch", retouches._RETOUCHES)
def test_each_retouch_changes_the_picture_and_keeps_its_form(picture: np.ndarray, retouch) -> None:  # type: ignore[no-untyped-def]
    before = picture.copy()
    changed = retouch(picture, np.random.default_rng(1))
    assert np.array_equal(picture, before)
    assert (changed.shape, changed.dtype) == (picture.shape, np.uint8)
    assert 0 < np.abs(changed.astype(int) - picture).mean() < 120


def test_all_kinds_are_drawn(picture: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    seen = {retouches.random_retouch(picture, rng).tobytes() for _ in range(30)}
    assert len(seen) > 20
