"""What picture files say of themselves before anything is decoded; no file is read whole."""

import struct
from pathlib import Path
from typing import Final, NamedTuple

from PIL import Image, UnidentifiedImageError

from model.preprocess import FORMATS
from schemas.errors import DecodeFailed, TooLarge, UnreadableFile, UnsupportedFormat

# What Pillow's decoders raise on corrupt content.
DECODER_ERRORS: Final = (OSError, SyntaxError, ValueError, LookupError, TypeError, OverflowError, EOFError, struct.error)

MASK_MODES: Final = ("1", "L", "LA", "P", "RGB", "RGBA")
"""Pillow's names for the kinds of pictures that are read as masks, by their luminance."""

_EXIF_ORIENTATION: Final = 0x0112
_QUARTER_TURNS: Final = (5, 6, 7, 8)


class Header(NamedTuple):
    """A picture file's (width, height) as stored, the same in original pixels (EXIF orientation applied), and Pillow's mode."""

    stored_px: tuple[int, int]
    original_px: tuple[int, int]
    mode: str


def read_header(path: Path) -> Header:
    """Open a picture without decoding it. Pillow may warn about its size or its metadata.

    Raises:
        UnreadableFile, UnsupportedFormat, TooLarge, DecodeFailed
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            width_px, height_px = image.size
            upright = (height_px, width_px) if _quarter_turned(image) else (width_px, height_px)
            return Header((width_px, height_px), upright, image.mode)
    except UnidentifiedImageError as error:
        raise UnsupportedFormat(f"not a picture in an accepted format ({', '.join(FORMATS)}), or damaged") from error
    except (Image.DecompressionBombError, MemoryError) as error:
        raise TooLarge(str(error) or "not enough memory to open it") from error
    except DECODER_ERRORS as error:
        if isinstance(error, OSError) and error.strerror:
            raise UnreadableFile(f"cannot be read: {error.strerror}") from error
        raise DecodeFailed(f"its header is damaged: {error}") from error


def _quarter_turned(image: Image.Image) -> bool:
    # Pillow turns a TIFF upright by itself, and its size is the upright one from the start.
    if image.format == "TIFF":
        return False
    # Pillow decodes a whole PNG to look for EXIF after its pixels; where none comes before them, we take it that there is none.
    if image.format == "PNG" and "exif" not in image.info:
        return False
    return image.getexif().get(_EXIF_ORIENTATION) in _QUARTER_TURNS
