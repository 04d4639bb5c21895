"""Bytes from outside to the network's input, and nothing decoded before its limits are checked. Pillow and numpy only.

Frames: *stored* pixels are what the file holds; *original* pixels are the stored ones with the EXIF orientation
applied, the frame of every mask, box and size we report; *network* pixels are the square of side `input_size` that
the original is stretched to. The inverse of the stretch is `model.render.full_size_mask`.
"""

import io
import re
import struct
import warnings
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from model.budget import PixelBudget
from model.jpeg_scans import has_more_scans, in_several_scans
from schemas.errors import DecodeFailed, EmptyPicture, TooLarge, UnsupportedFormat

FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
# How files of these formats begin; BMP's two letters begin too many other things.
_SIGNATURES: Final = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|RIFF....WEBP|II[*+]\0|MM\0[*+]", re.DOTALL)
_SIGNATURE_BYTES: Final = 16
_MOST_PIXELS: Final = 178_956_970  # twice PIL.Image.MAX_IMAGE_PIXELS
_EXIF_ORIENTATION: Final = 0x0112
# What brings stored pixels of each EXIF orientation upright; 5 to 8 swap width and height.
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS: Final = (5, 6, 7, 8)
# Of one JPEG; encoders make about ten. As many as libtiff lets the JPEGs inside a TIFF have.
_MOST_SCANS: Final = 100
_TIFF_TILE_WIDTH: Final = 322
_TIFF_TILE_HEIGHT: Final = 323
# What Pillow's decoders raise on corrupt content, found by fuzzing; anything else would be a defect of ours.
_DECODER_ERRORS: Final = (OSError, SyntaxError, ValueError, LookupError, TypeError, OverflowError, EOFError, struct.error)

# All threads of a process together. The dearest decoders (WebP, float TIFF) take 17 bytes a pixel while they work.
_DECODING: Final = PixelBudget(80_000_000)
# A JPEG in several scans keeps the coefficients of all its pixels, 6 bytes each, however small it is decoded.
_COEFFICIENTS: Final = 6 / 17
_PILLOW: Final = re.compile(r"PIL\.")
_IGNORED_WARNINGS: Final = (
    ("ignore", None, UserWarning, _PILLOW, 0),
    ("ignore", None, Image.DecompressionBombWarning, _PILLOW, 0),
)


@dataclass(frozen=True)
class PictureLimits:
    """What a picture may cost before it is refused.

    Pillow refuses more than `_MOST_PIXELS` by itself, so `max_pixels` beyond that has no effect.
    """

    max_bytes: int = 50_000_000
    max_pixels: int = 80_000_000


@dataclass(frozen=True)
class Prepared:
    """One picture ready for the network.

    Attributes:
        pixels: [S, S, 3] uint8 RGB, network pixels.
        width_px: original width.
        height_px: original height.
        format: the decoder that read it, for instance "JPEG".
    """

    pixels: NDArray[np.uint8]
    width_px: int
    height_px: int
    format: str


def prepare(data: bytes, input_size: int, limits: PictureLimits | None = None) -> Prepared:
    """Decode and stretch a picture to the network's square.

    JPEGs are decoded at the smallest of libjpeg's scales (1, 1/2, 1/4, 1/8) that still covers the square, which takes
    from a half of the CPU time (at 1/2) to a seventh (at 1/8). Training, calibration and evaluation read pictures in this
    way too. Beside a full decode, a student's score moved by 0.01 on average and by less than 0.1 on any of 200 photographs,
    its map by 0.006 (student-2 at 320 px, `python -m benchmarks.decode`). At the shipped student's 512 px five of 900 were
    large enough to be scaled; they moved by 0.016 and 0.017. tests/model/test_scaled_decode.py keeps to 0.1 and 0.02.

    Args:
        data: the file's bytes, as received.
        input_size: side of the network's input, in pixels.
        limits: byte and pixel limits, checked on the header before anything is decoded.

    Raises:
        EmptyPicture, UnsupportedFormat, TooLarge, DecodeFailed
    """
    image = _opened(data, limits or PictureLimits())
    width_px, height_px = image.size  # before `draft` reduces it
    image.draft("RGB", (input_size, input_size))
    kept = _COEFFICIENTS * width_px * height_px if _in_several_scans(image, data) else 0
    with _DECODING.hold(max(image.width * image.height, int(kept))):
        pixels, file_format = stretch(_decoded(image), input_size), image.format or ""
        if _orientation(image) in _SIDEWAYS:
            width_px, height_px = height_px, width_px
        del image  # its decoder's buffers are the largest part, and the next thread may begin below
    return Prepared(pixels, width_px, height_px, file_format)


def decode(data: bytes, limits: PictureLimits | None = None) -> Image.Image:
    """The whole picture as RGB in original pixels.

    Raises:
        EmptyPicture, UnsupportedFormat, TooLarge, DecodeFailed
    """
    image = _opened(data, limits or PictureLimits())
    with _DECODING.hold(image.width * image.height):
        decoded = _decoded(image)
        del image
    return decoded


def pixels_of(data: bytes, limits: PictureLimits | None = None) -> int:
    """Width x height of a picture, by its header alone.

    Raises:
        PictureError: as `decode`, as far as the header tells.
    """
    with _opened(data, limits or PictureLimits()) as image:
        return image.width * image.height


def shows_as_stored(data: bytes, limits: PictureLimits | None = None) -> bool:
    """Whether any browser shows these bytes as `decode` does, by their header: one frame, ordinary colours, turned upright.

    Of JPEGs they heed the EXIF orientation; of other formats not all of them do.

    Raises:
        EmptyPicture, UnsupportedFormat, TooLarge, DecodeFailed
    """
    image = _opened(data, limits or PictureLimits())
    jpeg = image.format in ("JPEG", "MPO")
    still = jpeg or getattr(image, "n_frames", 1) == 1
    return still and (jpeg or _orientation(image) == 1) and image.mode in ("RGB", "L", "P", "RGBA", "1")


def stretch(image: Image.Image, input_size: int) -> NDArray[np.uint8]:
    """Antialiased bilinear resize of an RGB picture to [S, S, 3] uint8, both sides on their own scale."""
    square = image.resize((input_size, input_size), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(square, dtype=np.uint8)


def check_header(file: BinaryIO, size_bytes: int, limits: PictureLimits) -> None:
    """Hold a picture file against the limits by its size and its header, without reading the rest of it.

    What passes may still be truncated or corrupt: only decoding shows that.

    Args:
        file: at its beginning; it is left somewhere else.

    Raises:
        EmptyPicture, UnsupportedFormat, TooLarge, DecodeFailed
    """
    _header(file, size_bytes, limits)


def _opened(data: bytes, limits: PictureLimits) -> Image.Image:
    """Read the header only, and hold it against the limits."""
    image = _header(io.BytesIO(data), len(data), limits)
    if _in_several_scans(image, data) and has_more_scans(data, _MOST_SCANS):
        raise DecodeFailed(f"a JPEG of more than {_MOST_SCANS} scans: it could take hours to decode")
    return image


def _header(file: BinaryIO, size_bytes: int, limits: PictureLimits) -> Image.Image:
    if not size_bytes:
        raise EmptyPicture("the file is empty (0 bytes)")
    if size_bytes > limits.max_bytes:
        raise TooLarge(f"{size_bytes:,} bytes; the limit is {limits.max_bytes:,} (TAMPERWATCH_LIMITS__MAX_BYTES)")
    _ignore_metadata_warnings()
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        file.seek(0)
        if _SIGNATURES.match(file.read(_SIGNATURE_BYTES)):
            raise DecodeFailed("the header is cut off, damaged, or of a kind that is not read here") from error
        raise UnsupportedFormat(f"not a picture in an accepted format ({', '.join(FORMATS)})") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooLarge(f"more than {_MOST_PIXELS:,} pixels, which no setting allows") from error
    except MemoryError as error:
        raise TooLarge("not enough memory to open this picture") from error
    except _DECODER_ERRORS as error:
        raise DecodeFailed(f"the header is damaged: {error}") from error
    width_px, height_px = max(image.size, _tile_size(image), key=lambda size: size[0] * size[1])
    if width_px * height_px > limits.max_pixels:
        limit = f"the limit is {limits.max_pixels:,} (TAMPERWATCH_LIMITS__MAX_PIXELS)"
        raise TooLarge(f"{width_px} x {height_px} = {width_px * height_px:,} pixels; {limit}")
    return image


def _in_several_scans(image: Image.Image, data: bytes) -> bool:
    """Of a JPEG, or the first picture of an MPO."""
    return isinstance(image, JpegImagePlugin.JpegImageFile) and in_several_scans(data)


def _tile_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of a TIFF's tiles: they are decoded whole, and may be far larger than the picture."""
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    width_px, height_px = tags.get(_TIFF_TILE_WIDTH), tags.get(_TIFF_TILE_HEIGHT)
    return (width_px, height_px) if isinstance(width_px, int) and isinstance(height_px, int) else (0, 0)


def _decoded(image: Image.Image) -> Image.Image:
    """Decode the first frame, bring it to RGB, and turn it upright."""
    try:
        image.load()
        turn = _UPRIGHT.get(_orientation(image))
        return _as_rgb(image) if turn is None else _as_rgb(image).transpose(turn)
    except MemoryError as error:
        raise TooLarge("not enough memory to decode this picture") from error
    except _DECODER_ERRORS as error:
        raise DecodeFailed(f"the picture is truncated or corrupt: {error}") from error


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation that a decoded picture still needs: 1, as it is, to 8. A damaged EXIF block says nothing."""
    if image.format == "TIFF":
        return 1  # Pillow turns a TIFF upright while it decodes it, and `size` is the upright one from the start
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION)
    except _DECODER_ERRORS:
        return 1
    return orientation if isinstance(orientation, int) else 1


def _ignore_metadata_warnings() -> None:
    """Keep Pillow's remarks on damaged metadata out of the logs; what matters to us raises.

    Filters are the process's: taking them back would race with the other threads that decode. So they stay, and are
    set here rather than on import because whoever resets all filters must not bring the remarks back.
    """
    for ignored in _IGNORED_WARNINGS:
        if ignored not in warnings.filters:
            warnings.filterwarnings(ignored[0], category=ignored[2], module=ignored[3].pattern)


def _as_rgb(image: Image.Image) -> Image.Image:
    """RGB on white: what a viewer shows for CMYK, 16-bit, palette and transparent pictures."""
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bit(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layers = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", layers.size, "white")
        white.paste(layers, mask=layers)  # half the memory of `alpha_composite`, which needs a third and a fourth copy
        return white
    return image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scale a deeper grey picture to 8 bits, 16-bit ones by their full range, others by their own.

    Pillow's own conversion clips everything above 255.
    """
    # In place throughout: such pictures are large.
    if image.mode in ("I", "F"):
        return Image.fromarray(_spread(np.asarray(image, dtype=np.float32)))
    scaled = np.asarray(image).astype(np.uint32)
    scaled *= 255  # v / 257, rounded
    scaled += 32895
    scaled >>= 16
    return Image.fromarray(scaled.astype(np.uint8))


def _spread(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """[H, W] of any numbers to 0..255, from the smallest finite one to the largest; NaN counts as the smallest."""
    finite = np.isfinite(values)
    low, high = float(values.min(where=finite, initial=np.inf)), float(values.max(where=finite, initial=-np.inf))
    if low > high:
        return np.zeros(values.shape, dtype=np.uint8)
    scaled = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    scaled *= 0.5  # the span of two float32 need not be one
    scaled -= low / 2
    scaled *= 510 / max(high - low, 1e-12)
    return np.rint(scaled, out=scaled).astype(np.uint8)
