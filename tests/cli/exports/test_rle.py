import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from cli.exports import rle

MASKS = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(lambda shape: arrays.arrays(np.bool_, shape))


def decoded(text: str, height: int, width: int) -> NDArray[np.bool_]:
    """COCO's decoder (rleFrString, rleDecode in maskApi.c), written out plainly."""
    counts: list[int] = []
    position = 0
    while position < len(text):
        value, shift, more = 0, 0, True
        while more:
            character = ord(text[position]) - 48
            value |= (character & 0x1F) << shift
            more = bool(character & 0x20)
            position, shift = position + 1, shift + 5
            if not more and character & 0x10:
                value |= -1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    pixels = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return pixels.reshape(width, height).T


def encoded(marked: NDArray[np.bool_]) -> str:
    return rle.compressed(rle.run_lengths(marked))


@given(MASKS)
def test_decoding_gives_the_mask_back(marked: NDArray[np.bool_]) -> None:
    assert np.array_equal(decoded(encoded(marked), *marked.shape), marked)


@given(MASKS, st.integers(1, 20))
def test_strips_make_no_difference(marked: NDArray[np.bool_], strip_px: int) -> None:
    whole = rle.run_lengths(marked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rle, "_STRIP_PX", strip_px)
        assert np.array_equal(rle.run_lengths(marked), whole)


def test_runs_go_down_the_columns_and_begin_unmarked() -> None:
    marked = np.array([[1, 0, 0], [1, 1, 0]], bool)
    assert rle.run_lengths(marked).tolist() == [0, 2, 1, 1, 2]


def test_what_pycocotools_writes() -> None:
    """Texts from pycocotools.mask.encode of the same masks."""
    assert encoded(np.zeros((3, 4), bool)) == "<"
    assert encoded(np.ones((3, 4), bool)) == "0<"
    block = np.zeros((300, 400), bool)
    block[50:170, 100:104] = True
    block[200, 7] = True
    assert encoded(block) == "lW21USk0g3_RUO00000^ef2"
