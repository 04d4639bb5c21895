"""Which connected parts of a picture a mask marks: boxes for people, in the picture's own pixels.

Runs once per picture in the worker, so it works on the rows' runs, of which a mask of 96 x 96 has some hundred, and
not on its thousands of pixels.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.geometry import PixelBox

MAX_REGIONS: Final = 16
MIN_AREA_FRACTION: Final = 0.0005
"""Smaller parts are specks: five cells of a 96 x 96 mask, a square of 22 pixels in a picture of one megapixel."""

_HALF_UINT8: Final = 127

Integers = NDArray[np.int64]


class MaskRegion(NamedTuple):
    """One connected part above 0.5: its box in original pixels, its mean probability, its share of the picture's area."""

    box: PixelBox
    score: float
    area: float


class _Runs(NamedTuple):
    """Horizontal runs above 0.5, by row then column: row, start (inclusive), end (exclusive), sum of values; each [R]."""

    row: Integers
    start: Integers
    end: Integers
    total: Integers


def find_regions(mask_net: NDArray[np.uint8], width_px: int, height_px: int, limit: int = MAX_REGIONS) -> list[MaskRegion]:
    """The 8-connected parts of the mask above 0.5, the most telling (score x area) first.

    Args:
        mask_net: uint8 [M, N], probability x 255, the whole picture stretched to the network's frame.
        width_px: the picture's own width.
        height_px: the picture's own height.
        limit: at most this many regions.

    Returns:
        Regions of at least `MIN_AREA_FRACTION` of the picture. A box covers every original pixel its cells touch.
    """
    runs = _runs(mask_net)
    if not runs.row.size:
        return []
    label = _label(runs, mask_net.shape[1])
    order = np.argsort(label, kind="stable")
    first = np.flatnonzero(label[order] == order)
    cells = np.add.reduceat((runs.end - runs.start)[order], first)
    total = np.add.reduceat(runs.total[order], first)
    top, bottom = runs.row[order][first], np.maximum.reduceat(runs.row[order], first) + 1
    left, right = np.minimum.reduceat(runs.start[order], first), np.maximum.reduceat(runs.end[order], first)

    kept = np.flatnonzero(cells >= MIN_AREA_FRACTION * mask_net.size)
    kept = kept[np.argsort(-total[kept], kind="stable")][:limit]
    rows, columns = mask_net.shape
    return [
        MaskRegion(
            box=PixelBox(
                x0=int(left[i]) * width_px // columns,
                y0=int(top[i]) * height_px // rows,
                x1=-(-int(right[i]) * width_px // columns),
                y1=-(-int(bottom[i]) * height_px // rows),
            ),
            score=float(total[i] / (255 * cells[i])),
            area=float(cells[i] / mask_net.size),
        )
        for i in kept
    ]


def _runs(mask_net: NDArray[np.uint8]) -> _Runs:
    rows, columns = mask_net.shape
    # One spare column keeps runs of neighbouring rows apart in the flat array.
    padded = np.zeros((rows, columns + 1), dtype=np.uint8)
    padded[:, :-1] = mask_net
    above = np.zeros(padded.size + 1, dtype=np.bool_)
    np.greater(padded.ravel(), _HALF_UINT8, out=above[1:])
    edges = np.flatnonzero(above[1:] != above[:-1])
    start, end = edges[0::2], edges[1::2]
    row = start // (columns + 1)
    # From edge to edge: every second sum is a run's.
    total = np.add.reduceat(padded.ravel(), edges, dtype=np.int64)[0::2] if edges.size else edges
    return _Runs(row, start - row * (columns + 1), end - row * (columns + 1), total)


def _label(runs: _Runs, columns: int) -> Integers:
    """The first run of each run's connected part, [R]: union-find over the pairs of runs that touch, corners included."""
    stride = columns + 2  # wider than any column + 1, so that a key never reaches the next row's
    below = (runs.row + 1) * stride
    low = np.searchsorted(runs.row * stride + runs.end, below + runs.start, side="left")
    high = np.searchsorted(runs.row * stride + runs.start, below + runs.end, side="right")
    parent = list(range(runs.row.size))
    for upper, (begin, stop) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        root = _root(parent, upper)
        for lower in range(begin, stop):
            # The smaller root wins, so that no run's parent comes after it.
            root, other = sorted((root, _root(parent, lower)))
            parent[other] = root
    for run, above in enumerate(parent):
        parent[run] = parent[above]
    return np.array(parent, dtype=np.int64)


def _root(parent: list[int], run: int) -> int:
    while parent[run] != run:
        parent[run] = run = parent[parent[run]]
    return run
