"""What networks do to a picture on delivery: fixed simulated profiles for evaluation, a random chain for training. Pillow only.

The profiles are simulations of our choice, not measurements of a platform, and are called so wherever they are printed.
"""

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

CHROMA_420 = 2  # Pillow's code for 4:2:0 subsampling


@dataclass(frozen=True)
class Profile:
    """A simulated delivery: the long side is reduced to at most `long_side_px`, then JPEG of `quality`, 4:2:0, no metadata."""

    long_side_px: int
    quality: int


PROFILES: dict[str, Profile] = {
    "facebook": Profile(960, 75),
    "weibo": Profile(690, 80),
    "wechat": Profile(800, 60),
    "whatsapp": Profile(800, 65),
}


def deliver(image: Image.Image, profile: Profile) -> Image.Image:
    """Send a picture through a simulated delivery, with a real JPEG encode and decode.

    Args:
        image: any mode, orientation already applied.
        profile: the simulated network.

    Returns:
        RGB picture, long side at most `profile.long_side_px`, without metadata.
    """
    return recompressed(limited(image.convert("RGB"), profile.long_side_px), profile.quality)


def limited(image: Image.Image, long_side_px: int) -> Image.Image:
    """Reduce a picture so that its long side is at most `long_side_px`; a smaller picture stays as it is."""
    scale = long_side_px / max(image.size)
    return image if scale >= 1 else rescaled(image, scale)


def rescaled(image: Image.Image, scale: float) -> Image.Image:
    """Resize by a factor; no side gets shorter than one pixel."""
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS)


def recompressed(image: Image.Image, quality: int, container: Literal["JPEG", "WEBP"] = "JPEG") -> Image.Image:
    """Encode and decode a picture, dropping metadata.

    Args:
        image: RGB.
        quality: 1..100 as the encoder understands it.
        container: JPEG with 4:2:0 chroma, or lossy WebP (always 4:2:0).
    """
    buffer = io.BytesIO()
    if container == "JPEG":
        image.save(buffer, "JPEG", quality=quality, subsampling=CHROMA_420, exif=b"")
    else:
        image.save(buffer, "WEBP", quality=quality, method=0, exif=b"")
    buffer.seek(0)
    with Image.open(buffer) as encoded:
        return encoded.convert("RGB")


def random_chain(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Degrade a training picture at random: the same distribution for manipulated and authentic, before the resize to net size.

    p .5 rescale by U(.5, 1.5) · p .75 JPEG 70..100, long side at most 720..2048, JPEG 71..95, and then p .3 a second pass
    of 50..85 (JPEG, or WebP in a quarter of the cases) · p .2 blur or noise. The chain is our choice.

    Args:
        image: RGB.
        rng: the only source of randomness.

    Returns:
        RGB picture of another size; relative positions stay.
    """
    if rng.random() < 0.5:
        image = rescaled(image, rng.uniform(0.5, 1.5))
    if rng.random() < 0.75:
        image = recompressed(image, int(rng.integers(70, 101)))
        image = limited(image, int(rng.integers(720, 2049)))
        image = recompressed(image, int(rng.integers(71, 96)))
        if rng.random() < 0.3:
            image = recompressed(image, int(rng.integers(50, 86)), "WEBP" if rng.random() < 0.25 else "JPEG")
    if rng.random() < 0.2:
        image = _blurred(image, rng) if rng.random() < 0.5 else _noisy(image, rng)
    return image


def _blurred(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.5)))


def _noisy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Gaussian sensor-like noise, sigma 1..6 of 255."""
    pixels = np.asarray(image, dtype=np.float32)
    noise = rng.normal(0.0, rng.uniform(1.0, 6.0), pixels.shape).astype(np.float32)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))
