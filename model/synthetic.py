"""Manipulations made on the fly from authentic pictures, with exact masks: splice, copy-move, removal, local edit.

All work on whole pictures before any compression chain; parts are placed by an alpha map whose edge is sharp or feathered at
random. The recipes are ours.
"""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model import retouches
from model.compress import recompressed

INDEX_LIMIT = 127  # an object mask whose largest value is below holds instance numbers; above, it is black and white
LEAST_AREA_PX = 64
AREA_RANGE = (0.004, 0.25)
LARGEST_FILL = 0.06  # of a picture: a larger hole is not filled plausibly, nor quickly
LARGEST_OVERLAP = 0.3  # of a copy with its own source
COPY_LOG_SCALE = 0.4
TRIES = 6

Picture = NDArray[np.uint8]
Affine = NDArray[np.float64]


class Manipulated(NamedTuple):
    """A picture [H, W, 3] uint8, the mask [H, W] uint8, 0 or 255, of its manipulated part, and where copied content came from.

    `move` maps a point of a copy to its source, both as fractions of the picture's width and height ([3, 3]); None where
    nothing was copied within the picture.
    """

    picture: Picture
    mask: Picture
    move: Affine | None = None


def pick_object(mask: Picture, rng: np.random.Generator) -> Picture | None:
    """One object of an object mask, as [H, W] uint8 0 or 255; None when it holds no object of a useful size."""
    top = int(mask.max(initial=0))
    candidates = [mask > INDEX_LIMIT] if top > INDEX_LIMIT else [mask == value for value in np.unique(mask) if value]
    useful = [part for part in candidates if LEAST_AREA_PX <= part.sum() <= 0.7 * part.size]
    return _binary(useful[int(rng.integers(len(useful)))]) if useful else None


def blob(height_px: int, width_px: int, rng: np.random.Generator) -> Picture:
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


def splice(base: Picture, donor: Picture, part: Picture, rng: np.random.Generator) -> Manipulated | None:
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
    area = np.exp(rng.uniform(*np.log(AREA_RANGE))) * base.shape[0] * base.shape[1]
    scale = 1.0 if rng.random() < 0.3 else float(np.sqrt(area / max(np.count_nonzero(part), 1)))
    angle = rng.uniform(-25, 25) if rng.random() < 0.3 else 0.0
    made = _paste(base, donor, part, scale, angle, rng)
    return made._replace(move=None) if made else None


def copy_move(base: Picture, part: Picture, rng: np.random.Generator) -> Manipulated | None:
    """Paste a part of the picture elsewhere in it; the mask marks the copy. Arguments and result as for `splice`."""
    for _ in range(TRIES):
        scale = float(np.exp(rng.uniform(-COPY_LOG_SCALE, COPY_LOG_SCALE))) if rng.random() < 0.5 else 1.0
        angle = rng.uniform(-40, 40) if rng.random() < 0.35 else 0.0
        made = _paste(base, base, part, scale, angle, rng)
        if made is None:
            return None
        both = np.count_nonzero(made.mask & part)
        if both <= LARGEST_OVERLAP * np.count_nonzero(made.mask):
            return made
    return None


def removal(base: Picture, part: Picture, rng: np.random.Generator) -> Manipulated | None:
    """Cover a part with content from beside it, or fill it from its edge (Telea 2004); None where neither is plausible."""
    grown = cv2.dilate(part, np.ones((5, 5), np.uint8))
    if rng.random() < 0.5:
        return _covered(base, np.asarray(grown, dtype=np.uint8), rng)
    if not LEAST_AREA_PX <= np.count_nonzero(grown) <= LARGEST_FILL * grown.size:
        return None
    filled = np.asarray(cv2.inpaint(base, grown, 3, cv2.INPAINT_TELEA), dtype=np.uint8)
    if rng.random() < 0.7:  # the surroundings' grain, which a careful forger restores
        filled = np.where(grown[..., None] > 0, _grained(filled, rng.uniform(1, 4), rng), filled)
    return Manipulated(filled, _binary(grown > 0))


def local_edit(base: Picture, part: Picture, rng: np.random.Generator) -> Manipulated | None:
    """Change a part where it is: light and colour, smoothing, sharpening, grain, resampling or its own compression."""
    if np.count_nonzero(part) < LEAST_AREA_PX:
        return None
    changed = retouches.random_retouch(base, rng)
    alpha = np.divide(part, 255, dtype=np.float32)
    mixed = _mixed(base, changed.astype(np.float32), cv2.GaussianBlur(alpha, (0, 0), rng.uniform(0.6, 3.0)))
    return Manipulated(mixed, _binary(alpha > 0.5))


def _covered(base: Picture, part: Picture, rng: np.random.Generator) -> Manipulated | None:
    """A part hidden under a shifted piece of the same picture: the clone stamp."""
    height, width = part.shape
    box = cv2.boundingRect(part)
    for _ in range(TRIES):
        dx, dy = (int(sign * rng.uniform(0.7, 1.8) * side) for sign, side in zip(rng.choice([-1, 0, 1], 2), box[2:], strict=True))
        left, top = box[0] + dx, box[1] + dy
        if min(left, top) >= 0 and left + box[2] <= width and top + box[3] <= height and (dx or dy):
            shift = np.array([[1, 0, -dx], [0, 1, -dy]], dtype=np.float64)
            shifted = cv2.warpAffine(base, shift, (width, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
            alpha = cv2.GaussianBlur(np.divide(part, 255, dtype=np.float32), (0, 0), rng.uniform(0.6, 4.0))
            move = np.array([[1, 0, dx / width], [0, 1, dy / height], [0, 0, 1]])
            return Manipulated(_mixed(base, shifted.astype(np.float32), alpha), _binary(part > 0), move)
    return None


def _paste(
    base: Picture, donor: Picture, part: Picture, scale: float, angle: float, rng: np.random.Generator
) -> Manipulated | None:
    """Place a donor's part at random; `move` maps the base's frame to the donor's."""
    if np.count_nonzero(part) < LEAST_AREA_PX:
        return None
    x0, y0, part_width, part_height = cv2.boundingRect(part)
    window = (slice(y0, y0 + part_height), slice(x0, x0 + part_width))
    patch, alpha = donor[window], np.divide(part[window], 255, dtype=np.float32)
    placement = _placement(base.shape[:2], alpha.shape, scale, angle, rng)
    size = (base.shape[1], base.shape[0])
    warped_alpha = cv2.warpAffine(alpha, placement[:2], size, flags=cv2.INTER_LINEAR)
    if np.count_nonzero(warped_alpha > 0.5) < LEAST_AREA_PX:
        return None
    warped = cv2.warpAffine(patch, placement[:2], size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(
        np.float32
    )
    warped = _retouched(warped, base, warped_alpha, rng)
    feathered = cv2.GaussianBlur(warped_alpha, (0, 0), rng.uniform(0.4, 2.0)) if rng.random() < 0.6 else warped_alpha
    to_donor = np.array([[1, 0, x0], [0, 1, y0], [0, 0, 1]]) @ np.linalg.inv(placement)
    base_px, donor_fraction = np.diag([base.shape[1], base.shape[0], 1.0]), np.diag([1 / donor.shape[1], 1 / donor.shape[0], 1.0])
    return Manipulated(_mixed(base, warped, feathered), _binary(warped_alpha > 0.5), donor_fraction @ to_donor @ base_px)


def _placement(
    shape: tuple[int, ...], part_shape: tuple[int, ...], scale: float, angle: float, rng: np.random.Generator
) -> Affine:
    """Map [3, 3] from patch to base pixels: scale so that it fits, mirror, turn, shift."""
    largest = 0.9 * min(shape[0] / part_shape[0], shape[1] / part_shape[1])
    fitting = min(scale, 2.5, max(largest, 0.05))
    height, width = part_shape
    matrix = np.vstack([cv2.getRotationMatrix2D((width / 2, height / 2), angle, fitting), [0, 0, 1]])
    if rng.random() < 0.2:
        matrix = matrix @ np.array([[-1, 0, width], [0, 1, 0], [0, 0, 1]])
    centre = np.array([rng.uniform(0.1, 0.9) * shape[1], rng.uniform(0.1, 0.9) * shape[0]])
    matrix[:2, 2] += centre - (matrix @ np.array([width / 2, height / 2, 1.0]))[:2]
    return np.asarray(matrix, dtype=np.float64)


def _retouched(pixels: NDArray[np.float32], base: Picture, alpha: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float32]:
    """A pasted part made to fit, as a forger does: nothing, light and colour by hand, or matched to what it covers."""
    choice = rng.random()
    if choice < 0.35:
        return pixels
    if choice < 0.65:
        gain = rng.uniform(0.85, 1.15) * rng.uniform(0.96, 1.04, 3)
        return np.asarray(pixels * gain.astype(np.float32) + np.float32(rng.uniform(-12, 12)), dtype=np.float32)
    if choice < 0.85:
        inside = alpha > 0.5
        here, there = base[inside].astype(np.float32), pixels[inside]
        strength = np.float32(rng.uniform(0.2, 0.8))
        gain = 1 + strength * (np.clip(here.std(0) / np.maximum(there.std(0), 1), 0.5, 2) - 1)
        wanted = there.mean(0) + strength * (here.mean(0) - there.mean(0))
        return np.asarray((pixels - there.mean(0)) * gain + wanted, dtype=np.float32)
    if choice < 0.93:
        return np.asarray(cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.4, 1.2)), dtype=np.float32)
    return pixels + rng.normal(0, rng.uniform(1, 5), pixels.shape).astype(np.float32)


def _mixed(base: Picture, over: NDArray[np.float32], alpha: NDArray[Any]) -> Picture:
    blended: NDArray[np.float32] = base + alpha[..., None] * (over - base)
    return np.clip(np.rint(blended), 0, 255).astype(np.uint8)


def _grained(picture: Picture, sigma: float, rng: np.random.Generator) -> Picture:
    return np.clip(picture + rng.normal(0, sigma, picture.shape), 0, 255).astype(np.uint8)


def _binary(mask: NDArray[np.bool_]) -> Picture:
    return np.where(mask, 255, 0).astype(np.uint8)
