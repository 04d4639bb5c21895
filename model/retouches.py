"""What people do to a part of a picture without moving anything: each returns the whole picture changed, for blending."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.compress import recompressed, rescaled

Picture = NDArray[np.uint8]


def random_retouch(picture: Picture, rng: np.random.Generator) -> Picture:
    """One change of random kind and strength to a picture [H, W, 3]."""
    retouch = _RETOUCHES[int(rng.integers(len(_RETOUCHES)))]
    return retouch(picture, rng)


def _light(picture: Picture, rng: np.random.Generator) -> Picture:
    gain, lift = rng.choice([-1, 1]) * rng.uniform(0.1, 0.35) + 1, rng.uniform(-20, 20)
    return _clipped(picture * gain + lift)


def _hue(picture: Picture, rng: np.random.Generator) -> Picture:
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(np.int32) + int(rng.integers(15, 166))) % 180  # OpenCV counts hue to 180
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), dtype=np.uint8)


def _smooth(picture: Picture, rng: np.random.Generator) -> Picture:
    if rng.random() < 0.5:
        return np.asarray(cv2.medianBlur(picture, int(rng.choice([3, 5, 7]))), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.8, 3.0)), dtype=np.uint8)


def _sharpen(picture: Picture, rng: np.random.Generator) -> Picture:
    soft = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.8, 2.0)).astype(np.float32)
    return _clipped(picture + rng.uniform(0.5, 2.0) * (picture - soft))


def _grain(picture: Picture, rng: np.random.Generator) -> Picture:
    return _clipped(picture + rng.normal(0, rng.uniform(3, 12), picture.shape))


def _resample(picture: Picture, rng: np.random.Generator) -> Picture:
    image = Image.fromarray(picture)
    return np.asarray(rescaled(image, rng.uniform(0.35, 0.75)).resize(image.size, Image.Resampling.BICUBIC), dtype=np.uint8)


def _compress(picture: Picture, rng: np.random.Generator) -> Picture:
    return np.asarray(recompressed(Image.fromarray(picture), int(rng.integers(25, 66))), dtype=np.uint8)


def _clipped(values: NDArray[np.floating]) -> Picture:
    clipped: Picture = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return clipped


_RETOUCHES: tuple[Callable[[Picture, np.random.Generator], Picture], ...] = (
    _light,
    _hue,
    _smooth,
    _sharpen,
    _grain,
    _resample,
    _compress,
)
