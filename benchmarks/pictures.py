"""Pictures to measure with: photographs where a folder is given, otherwise the samples, brought to one size."""

import io
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from PIL import Image

SAMPLES = Path(__file__).resolve().parent.parent / "samples" / "pictures"
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def write_jpegs(source: Path, folder: Path, count: int, megapixels: float, quality: int = 90) -> list[Path]:
    """Write `count` different JPEG files of the given size, cut and turned from the pictures in `source`.

    Each differs from all others in a few pixels, so that no two have the same sha256.
    """
    folder.mkdir(parents=True, exist_ok=True)
    originals = sorted(path for path in source.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not originals:
        raise SystemExit(f"no pictures in {source}")
    paths = []
    for number, image in enumerate(islice(_sized(originals, megapixels), count)):
        image.putpixel((number % image.width, number // image.width % image.height), (number % 256, 0, 255))
        path = folder / f"picture-{number:05d}.jpg"
        path.write_bytes(_jpeg(image, quality))
        paths.append(path)
    return paths


def _sized(originals: list[Path], megapixels: float) -> Iterator[Image.Image]:
    """The originals over and over, each scaled to the size and turned a little differently every round."""
    for number, path in enumerate(cycle(originals)):
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        scale = float(np.sqrt(megapixels * 1e6 / (image.width * image.height)))
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
        yield image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if number // len(originals) % 2 else image


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
