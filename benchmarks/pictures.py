"""Pictures to measure with: photographs where a folder is given, otherwise the samples, brought to one size."""

import io
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from PIL import Image

SAMPLES = Path(__file__).resolve().parent.parent / "samples" / "pictures"
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
_START_OF_IMAGE = b"\xff\xd8"
_COMMENT = b"\xff\xfe"


def write_jpegs(source: Path, folder: Path, count: int, megapixels: float, quality: int = 90) -> list[Path]:
    """Write `count` JPEG files of the given size, made of the pictures in `source` and their mirror images.

    Each carries its number in a comment, so that no two have the same sha256 and tens of thousands take seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    originals = sorted(path for path in source.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not originals:
        raise SystemExit(f"no pictures in {source}")
    encoded = [_jpeg(image, quality) for image in islice(_sized(originals, megapixels), min(count, 2 * len(originals)))]
    paths = [folder / f"picture-{number:05d}.jpg" for number in range(count)]
    for number, (path, data) in enumerate(zip(paths, cycle(encoded), strict=False)):
        path.write_bytes(numbered(data, number))
    return paths


def numbered(jpeg: bytes, number: int) -> bytes:
    """The same picture in other bytes: with a number in a comment behind the first marker."""
    text = f"{number:08d}".encode()
    return _START_OF_IMAGE + _COMMENT + (len(text) + 2).to_bytes(2, "big") + text + jpeg.removeprefix(_START_OF_IMAGE)


def _sized(originals: list[Path], megapixels: float) -> Iterator[Image.Image]:
    """The originals scaled to the size, then their mirror images."""
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
