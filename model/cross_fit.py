"""Held-out figures from one validation set: each picture is judged by a fit that has not seen its scene. No torch."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

FOLDS: Final = 5

Folds = NDArray[np.int64]


def assign_folds(scenes: Sequence[str], tampered: ArrayLike, count: int = FOLDS) -> Folds | None:
    """Deal scenes out to folds: all pictures of a scene to one, and both kinds of picture about evenly to all.

    The largest scenes are dealt first, each to the fold that has fewest pictures of the scene's more frequent kind.

    Args:
        scenes: [N] key of each picture's scene, or of its cluster of near-duplicates.
        tampered: [N] true where the picture was manipulated.
        count: number of folds.

    Returns:
        [N] int64, 0..count-1; None if some fold's complement would lack a kind of picture, so that nothing can be held out.
    """
    truth = np.asarray(tampered, dtype=np.bool_)
    sizes = Counter(zip(scenes, truth.tolist(), strict=True))
    fold_of: dict[str, int] = {}
    loads = np.zeros((count, 2), dtype=np.int64)
    for scene in sorted(set(scenes), key=lambda scene: (-sizes[scene, True] - sizes[scene, False], scene)):
        kinds = np.array([sizes[scene, False], sizes[scene, True]])
        order = np.lexsort((loads.sum(axis=1), loads[:, kinds.argmax()]))
        fold_of[scene] = int(order[0])
        loads[order[0]] += kinds
    if (loads.sum(axis=0) - loads).min() == 0:
        return None
    return np.array([fold_of[scene] for scene in scenes], dtype=np.int64)
