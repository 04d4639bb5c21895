"""A perceptual hash: pictures that look alike have hashes that differ in few of 256 bits. Information, never a verdict.

The hash is PDQ (Meta, 2019, "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm"), made by the
package pdqhash from the square that the network gets, so that no picture is decoded a second time. PDQ reduces every
picture to 64 x 64 by itself; doing that beforehand makes the hash quick and nearly the same whatever the square's side is.
It survives recompression and resizing; not crops, mirroring or turning.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.errors import EnvironmentMissing

BITS: Final = 256
LEAST_QUALITY: Final = 50
"""Hashes below say little: the picture is nearly plain, and many others would come near. PDQ's own advice."""
SAME_PICTURE_BITS: Final = 31
"""Hashes within this distance are taken for one picture: PDQ's own advice."""

_SIDE_PX: Final = 64


@dataclass(frozen=True)
class PictureHash:
    """What a picture looks like.

    Attributes:
        bits: 32 bytes, the first bit of the hash first.
        quality: 0 to 100, how much there is in the picture to tell it from others.
    """

    bits: bytes
    quality: int


def require_hashing() -> None:
    """Fail now rather than at the first picture.

    Raises:
        EnvironmentMissing: pdqhash is not installed.
    """
    try:
        import pdqhash  # noqa: F401
    except ImportError as error:
        raise EnvironmentMissing("perceptual hashes need pdqhash: pip install 'tamperwatch[similar]'") from error


def picture_hash(pixels: NDArray[np.uint8]) -> PictureHash:
    """The hash of one picture.

    Args:
        pixels: [S, S, 3] RGB, network pixels (`model.preprocess.Prepared`).

    Raises:
        EnvironmentMissing: pdqhash is not installed.
    """
    require_hashing()
    import pdqhash

    small = Image.fromarray(pixels).resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BOX)
    bits, quality = pdqhash.compute(np.array(small))
    return PictureHash(np.packbits(bits.astype(np.uint8)).tobytes(), int(quality))
