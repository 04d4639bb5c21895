"""In how many scans a JPEG comes, read from its markers: each takes the decoder once over the whole picture, however short it is.

Source: ITU-T T.81, annex B; what a decoder skips between markers is skipped here.
"""

import re
from collections.abc import Iterator
from typing import Final

_START_OF_SCAN: Final = 0xDA
_END_OF_IMAGE: Final = 0xD9
_FRAMES: Final = (0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_PROGRESSIVE_FRAMES: Final = (0xC2, 0xC6, 0xCA, 0xCE)
# In a scan's own data 0xFF is followed by 0 or by a restart marker.
_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_WITHOUT_LENGTH: Final = (0x01, 0xD8)


def in_several_scans(data: bytes) -> bool:
    """Whether a decoder must keep the coefficients of all pixels until the last scan. False as well for what is no JPEG."""
    components = 0
    for marker, position in _markers(data):
        if marker in _PROGRESSIVE_FRAMES:
            return True
        if marker in _FRAMES and position + 7 < len(data):
            components = data[position + 7]
        elif marker == _START_OF_SCAN and position + 2 < len(data):
            return data[position + 2] < components
    return False


def has_more_scans(data: bytes, most: int) -> bool:
    """Whether a decoder would meet more than `most` scans before the picture's end; what lies behind that does not count."""
    # Counting these two bytes is quick and never too low; a film that a phone put behind the picture may hold many.
    if data.count(bytes((0xFF, _START_OF_SCAN))) <= most:
        return False
    return sum(marker == _START_OF_SCAN for marker, _ in _markers(data)) > most


def _markers(data: bytes) -> Iterator[tuple[int, int]]:
    """Each marker up to the end of the image, and where its length begins."""
    position = 0
    while found := _MARKER.search(data, position):
        marker, position = data[found.end() - 1], found.end()
        if marker == _END_OF_IMAGE:
            return
        yield marker, position
        if marker not in _WITHOUT_LENGTH:
            position += int.from_bytes(data[position : position + 2])
