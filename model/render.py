"""Masks made visible: the full-size mask, the overlay, and the small PNG that is stored.

`full_size_mask` is the one inverse of the stretch in `model.preprocess`: the worker's exports, the report and the
evaluation all bring a mask back to original pixels through it. Pillow does the heavy parts, in C and without the GIL.
"""

import io
import struct
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.errors import DecodeFailed

Mask = NDArray[np.uint8]

# Orange through magenta: apart in brightness as well as in hue, so the ramp survives every kind of colour blindness,
# and rare enough in photographs to stand out from the picture below.
_COLD_RGB: Final = (255, 159, 28)
_HOT_RGB: Final = (214, 0, 147)
# A white line with a dark one along its inside shows on any background.
_CONTOUR_RGB: Final = (255, 255, 255)
_CONTOUR_INSIDE_RGB: Final = (40, 0, 30)
# Below a quarter nothing is painted: an authentic picture keeps its own pixels.
_VISIBLE_FROM: Final = 64
_STRONGEST_ALPHA: Final = 150
_HALF_UINT8: Final = 127
_CONTOUR_PER_SIDE: Final = 1 / 600
_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PNG_UP: Final = 2  # the filter that stands before each row: differences to the row above


def full_size_mask(mask_net: Mask, width_px: int, height_px: int) -> Image.Image:
    """Bring a mask back to the picture's own size by bilinear interpolation.

    Args:
        mask_net: uint8 [M, N], probability x 255, the whole picture stretched to the network's frame.
        width_px: the picture's own width, EXIF orientation applied.
        height_px: the picture's own height.

    Returns:
        8-bit grey picture ('L') of width_px x height_px; above 127 means above 0.5.
    """
    return Image.fromarray(mask_net).resize((width_px, height_px), Image.Resampling.BILINEAR)


def overlay(image: Image.Image, mask_orig: Image.Image) -> Image.Image:
    """The picture with suspicion painted over it: orange to magenta, opaquer with probability, a line at 0.5.

    Args:
        image: RGB, original pixels; not changed.
        mask_orig: 'L', the same size, from `full_size_mask`.

    Returns:
        A new RGB picture, equal to `image` wherever the mask is below a quarter.

    Raises:
        ValueError: the sizes differ.
    """
    if image.size != mask_orig.size:
        raise ValueError(f"picture {image.size} and mask {mask_orig.size} differ in size")
    heat = mask_orig.copy()
    heat.putpalette([channel for level in range(256) for channel in _heat(level)])
    painted = Image.composite(heat.convert("RGB"), image, mask_orig.point([_alpha(level) for level in range(256)]))
    thickness_px = max(1, round(max(image.size) * _CONTOUR_PER_SIDE))
    painted.paste(_CONTOUR_INSIDE_RGB, mask=_contour(mask_orig, 2 * thickness_px))
    painted.paste(_CONTOUR_RGB, mask=_contour(mask_orig, thickness_px))
    return painted


def mask_png(mask: Mask) -> bytes:
    """An 8-bit grey PNG of a uint8 mask [H, W].

    Written here, because it is done once for every picture: Pillow tries all filters on each row. A map is smooth, so each row's
    difference to the one above it serves as well, and zlib's runs then find what is left to find in the least time.
    """
    height_px, width_px = mask.shape
    rows = np.full((height_px, width_px + 1), _PNG_UP, dtype=np.uint8)
    rows[0, 1:] = mask[0]
    np.subtract(mask[1:], mask[:-1], out=rows[1:, 1:])
    packer = zlib.compressobj(1, strategy=zlib.Z_RLE)
    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", packer.compress(rows.tobytes()) + packer.flush()), (b"IEND", b""))
    return _PNG_SIGNATURE + b"".join(_png_chunk(kind, data) for kind, data in parts)


def read_mask_png(data: bytes) -> Mask:
    """The inverse of `mask_png`: uint8 [H, W].

    Raises:
        DecodeFailed: the bytes are not an 8-bit grey PNG.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.mode != "L":
                raise DecodeFailed(f"a stored mask is an 8-bit grey PNG, not mode {image.mode}")
            return np.array(image, dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, LookupError, TypeError, struct.error) as error:
        raise DecodeFailed(f"the stored mask is damaged: {error}") from error


def thumbnail_jpeg(image: Image.Image, long_side_px: int, quality: int = 82) -> bytes:
    """A JPEG of an RGB picture with its long side at most `long_side_px`, for a report that carries its pictures inside."""
    small = image.copy()
    small.thumbnail((long_side_px, long_side_px), Image.Resampling.BILINEAR, reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _visibility(level: int) -> float:
    """0 up to a quarter, then linear up to 1."""
    return max(0, level - _VISIBLE_FROM) / (255 - _VISIBLE_FROM)


def _heat(level: int) -> tuple[int, ...]:
    share = _visibility(level)
    return tuple(round(cold + share * (hot - cold)) for cold, hot in zip(_COLD_RGB, _HOT_RGB, strict=True))


def _alpha(level: int) -> int:
    return round(_STRONGEST_ALPHA * _visibility(level))


def _contour(mask_orig: Image.Image, thickness_px: int) -> Image.Image:
    """255 on the pixels above 0.5 that lie within `thickness_px` of one that is not, 0 elsewhere."""
    above = np.asarray(mask_orig) > _HALF_UINT8
    inner = above
    for _ in range(thickness_px):
        # Outside the picture counts as marked: its border is not an edge of the region.
        framed = np.pad(inner, 1, constant_values=True)
        inner = inner & framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
    return Image.fromarray(np.where(above & ~inner, 255, 0).astype(np.uint8))
