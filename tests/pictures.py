"""Pictures drawn by tests; each seed gives other bytes."""

import io

import numpy as np
from PIL import Image, ImageDraw


def picture_bytes(seed: int, width_px: int = 96, height_px: int = 72, container: str = "JPEG") -> bytes:
    """Noise with one pasted square, encoded."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(60, 130, (height_px, width_px, 3), dtype=np.uint8))
    ImageDraw.Draw(image).rectangle((20, 10, 59, 49), fill=(230, 30, seed % 256))
    buffer = io.BytesIO()
    image.save(buffer, container)
    return buffer.getvalue()


def plain_picture_bytes(colour: tuple[int, int, int], width_px: int = 96, height_px: int = 72) -> bytes:
    """One colour, as PNG."""
    buffer = io.BytesIO()
    Image.new("RGB", (width_px, height_px), colour).save(buffer, "PNG")
    return buffer.getvalue()
