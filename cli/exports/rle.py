"""COCO's run-length encoding of masks, as pycocotools' maskApi.c defines it.

Source: https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c (rleEncode, rleToString).
"""

import numpy as np
from numpy.typing import NDArray

_STRIP_PX = 4_000_000
_MORE, _SIGN, _DATA_BITS, _FIRST_CHARACTER = 0x20, 0x10, 5, 48


def run_lengths(marked: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Lengths of the runs of equal pixels, column by column from the top left; the first run is unmarked, maybe empty.

    Args:
        marked: bool [H, W] with at least one pixel.

    Returns:
        int64 [R], whose sum is H x W.
    """
    height, width = marked.shape
    columns = max(1, _STRIP_PX // height)
    edges: list[NDArray[np.int64]] = [np.zeros(1, np.int64)]
    previous = False
    # In strips: a column-major copy of a whole large mask would double what an export holds.
    for x0 in range(0, width, columns):
        strip = marked[:, x0 : x0 + columns].T.ravel()
        changed = np.flatnonzero(np.diff(strip, prepend=previous))
        edges.append(changed + x0 * height)
        previous = bool(strip[-1])
    edges.append(np.array([height * width]))
    starts = np.concatenate(edges)
    return starts[1:] - starts[:-1]


def compressed(counts: NDArray[np.int64]) -> str:
    """Run lengths [R] as COCO's text: from the fourth on the difference to the last but one, five bits a character."""
    left = counts.astype(np.int64)
    left[3:] = counts[3:] - counts[1:-2]
    unfinished = np.ones(len(left), bool)
    characters: list[NDArray[np.uint8]] = []
    while unfinished.any():
        low = left & ((1 << _DATA_BITS) - 1)
        left = left >> _DATA_BITS
        more = unfinished & np.where(low & _SIGN, left != -1, left != 0)
        characters.append(np.where(unfinished, low + _MORE * more + _FIRST_CHARACTER, 0).astype(np.uint8))
        unfinished = more
    by_run = np.stack(characters, axis=1)
    return bytes(by_run[by_run != 0]).decode("ascii")
