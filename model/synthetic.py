"""Manipulations made on the fly from authentic pictures, with exact masks: splice, copy-move, removal.

All work on whole pictures at their own size, before any compression chain; parts are placed by an alpha map whose
edge is sharp or feathered at random. The recipes are ours.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.compress import recompressed

INDEX_LIMIT = 127  # an object mask whose largest value is below holds instance numbers; above, it is black and white
LEAST_AREA_PX = 64
AREA_RANGE = (0.004, 0.25)


class Manipulated(NamedTuple):
    """A picture [H, W, 3] uint8 and the mask [H, W] uint8, 0 or 255, of its manipulated part."""

    picture: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def pick_object(mask: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8] | None:
    """One object of an object mask, as [H, W] uint8 0 or 255; None when it holds no object of a useful size."""
    top = int(mask.max(initial=0))
    candidates = [mask > INDEX_LIMIT] if top > INDEX_LIMIT else [mask == value for value in np.unique(mask) if value]
    useful = [part for part in candidates if LEAST_AREA_PX <= part.sum() <= 0.7 * part.size]
    return _binary(useful[int(rng.integers(len(useful)))]) if useful else None


def blob(height_px: int, width_px: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A smooth random shape somewhere in a frame, [H, W] uint8 0 or 255: what a clone stamp or a lasso leaves."""
    radius = np.sqrt(height_px * width_px * np.exp(rng.uniform(*np.log(AREA_RANGE))) / np.pi)
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    waves = sum(rng.uniform(0, 0.35) / k * np.cos(k * angles + rng.uniform(0, 2 * np.pi)) for k in (1, 2, 3, 5))
    reach = radius * (1 + waves)
    stretch = np.exp(rng.uniform(-0.5, 0.5))
    points = np.stack([reach * stretch * np.cos(angles), reach / stretch * np.sin(angles)], axis=1)
    points += np.array([rng.uniform(0.1, 0.9) * width_px, rng.uniform(0.1, 0.9) * height_px])
    canvas = np.zeros((height_px, width_px), dtype=np.uint8)
    cv2.fillPoly(canvas, [np.rint(points).astype(np.int32)], 255)
    return canvas


def splice(
    base: NDArray[np.uint8], donor: NDArray[np.uint8], part: NDArray[np.uint8], rng: np.random.Generator
) -> Manipulated | None:
    """Paste a part of another picture, which has its own compression history.

    Args:
        base: [H, W, 3].
        donor: [h, w, 3].
        part: [h, w] mask of the part in the donor.
        rng: the only source of randomness.

    Returns:
        None when the part landed outside or too small to see.
    """
    if rng.random() < 0.5:
        donor = np.asarray(recompressed(Image.fromarray(donor), int(rng.integers(50, 96))))
    return _paste(base, donor, part, rng)


def copy_move(base: NDArray[np.uint8], part: NDArray[np.uint8], rng: np.random.Generator) -> Manipulated | None:
    """Paste a part of the picture elsewhere in it; the mask marks the copy. Arguments and result as for `splice`."""
    return _paste(base, base, part, rng)


def removal(base: NDArray[np.uint8], part: NDArray[np.uint8], rng: np.random.Generator) -> Manipulated | None:
    """Fill a part from its surroundings (Telea 2004); None for parts too large to fill plausibly or quickly."""
    grown = cv2.dilate(part, np.ones((5, 5), np.uint8))
    if not LEAST_AREA_PX <= np.count_nonzero(grown) <= 0.06 * grown.size:
        return None
    filled = np.asarray(cv2.inpaint(base, grown, 3, cv2.INPAINT_TELEA), dtype=np.uint8)
    if rng.random() < 0.7:  # the surroundings' grain, which a careful forger restores
        grain = rng.normal(0, rng.uniform(1, 4), base.shape)
        noisy = np.clip(filled + grain, 0, 255).astype(np.uint8)
        filled = np.where(grown[..., None] > 0, noisy, filled)
    return Manipulated(filled, _binary(grown > 0))


def _paste(
    base: NDArray[np.uint8], donor: NDArray[np.uint8], part: NDArray[np.uint8], rng: np.random.Generator
) -> Manipulated | None:
    ys, xs = np.nonzero(part)
    if len(ys) < LEAST_AREA_PX:
        return None
    y0, y1, x0, x1 = ys.min(), ys.max() + 1, xs.min(), xs.max() + 1
    patch, alpha = donor[y0:y1, x0:x1], np.divide(part[y0:y1, x0:x1], 255, dtype=np.float32)
    placement = _placement(base.shape[:2], alpha, rng)
    size = (base.shape[1], base.shape[0])
    warped_alpha = cv2.warpAffine(alpha, placement, size, flags=cv2.INTER_LINEAR)
    if np.count_nonzero(warped_alpha > 0.5) < LEAST_AREA_PX:
        return None
    warped = cv2.warpAffine(patch, placement, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    if rng.random() < 0.5:
        warped = _retouched(warped, rng)
    feathered = cv2.GaussianBlur(warped_alpha, (0, 0), rng.uniform(0.4, 2.0)) if rng.random() < 0.6 else warped_alpha
    mixed = base + feathered[..., None] * (warped - base)
    return Manipulated(np.clip(np.rint(mixed), 0, 255).astype(np.uint8), _binary(warped_alpha > 0.5))


def _placement(shape: tuple[int, ...], alpha: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float64]:
    """Affine map from patch to base pixels: scale to a random share of the base, mirror, turn, shift."""
    share = np.exp(rng.uniform(*np.log(AREA_RANGE)))
    wanted = np.sqrt(share * shape[0] * shape[1] / max(float(alpha.sum()), 1.0))
    natural = 1.0 if rng.random() < 0.3 else wanted
    largest = 0.9 * min(shape[0] / alpha.shape[0], shape[1] / alpha.shape[1])
    scale = float(min(natural, 2.5, max(largest, 0.05)))
    angle = rng.uniform(-25, 25) if rng.random() < 0.3 else 0.0
    height, width = alpha.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
    if rng.random() < 0.3:
        matrix = np.vstack([matrix, [0, 0, 1]]) @ np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]])
        matrix = matrix[:2]
    centre = np.array([rng.uniform(0.1, 0.9) * shape[1], rng.uniform(0.1, 0.9) * shape[0]])
    matrix[:, 2] += centre - matrix @ np.array([width / 2, height / 2, 1.0])
    return np.asarray(matrix, dtype=np.float64)


def _retouched(pixels: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Light and colour changed a little, as a forger matches a part to its new place."""
    gain = rng.uniform(0.85, 1.15) * rng.uniform(0.96, 1.04, 3)
    changed = pixels * gain.astype(np.float32) + np.float32(rng.uniform(-12, 12))
    return np.asarray(changed, dtype=np.float32)


def _binary(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.where(mask, 255, 0).astype(np.uint8)
