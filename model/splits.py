"""The split that no near-duplicate crosses: scenes whose pictures look alike become one scene."""

from dataclasses import replace

import numpy as np

from model.manifest import Manifest
from model.near_duplicates import THRESHOLD, fingerprints, near_blocks
from model.threads import Progress


def clustered(manifest: Manifest, threshold: float = THRESHOLD, progress: Progress | None = None) -> Manifest:
    """The manifest with every row's scene replaced by the smallest scene name of its cluster.

    Two scenes belong to one cluster when any of their pictures are near-duplicates, or through a chain of such scenes. So
    `Manifest.split` keeps a photo and all its manipulated versions on one side, whatever their rows' scenes were called. The
    result does not depend on the order of the rows. Applied again, it changes nothing.

    Args:
        manifest: pictures that cannot be read resemble nothing.
        threshold: least correlation of near-duplicates, above 0.
        progress: called with (pictures read, pictures in all).
    """
    order = sorted(range(len(manifest.rows)), key=lambda index: (manifest.rows[index].image, manifest.rows[index].scene))
    rows = [manifest.rows[index] for index in order]
    prints = fingerprints([manifest.root / row.image for row in rows], progress)
    names = sorted({row.scene for row in rows})
    number = {name: index for index, name in enumerate(names)}
    cluster = np.array([number[row.scene] for row in rows], dtype=np.int64)
    for part, others, alike in near_blocks(prints, prints, threshold):
        for offset in np.flatnonzero(alike.any(axis=1)):
            joined = np.unique(np.append(cluster[others][alike[offset]], cluster[part.start + offset]))
            if joined.size > 1:
                cluster[np.isin(cluster, joined)] = joined[0]
    scenes = dict(zip(order, (names[index] for index in cluster), strict=True))
    return replace(manifest, rows=tuple(replace(row, scene=scenes[index]) for index, row in enumerate(manifest.rows)))
