import random

import pytest

from model.jpeg_scans import has_more_scans, in_several_scans
from tests import hostile


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2) + body


def frame(components: int, marker: int = 0xC0) -> bytes:
    return segment(marker, bytes((8, 0, 8, 0, 8, components)) + bytes((1, 0x11, 0)) * components)


def scan(components: int) -> bytes:
    return segment(0xDA, bytes((components,)) + bytes((1, 0)) * components + bytes((0, 63, 0))) + b"\x55\xff\x00\xff\xd3\x55"


START, END = b"\xff\xd8", b"\xff\xd9"


@pytest.mark.parametrize(
    ("data", "several"),
    [
        (START + frame(3) + scan(3) + END, False),
        (START + frame(3) + scan(1) + scan(1) + scan(1) + END, True),
        (START + frame(3) + scan(2) + scan(1) + END, True),
        (START + frame(1) + scan(1) + END, False),
        (START + frame(3, 0xC2) + scan(3) + END, True),
        (START + frame(1, 0xCA) + scan(1) + END, True),
        # A thumbnail's own markers lie inside a segment and say nothing of the picture.
        (START + segment(0xE1, START + frame(3, 0xC2) + scan(1) + END) + frame(3) + scan(3) + END, False),
        (START + b"junk\xff\xff\xff" + frame(3)[1:] + scan(1), True),
        (hostile.jpeg(), False),
        (hostile.jpeg(progressive=True), True),
        (hostile.encoded(hostile.drawn(), "MPO", save_all=True, append_images=[hostile.drawn()]), False),
        (b"", False),
        (START + END, False),
        (START + b"\xff\xc0", False),
        (START + frame(3)[:6], False),
        (START + frame(3) + b"\xff\xda", False),
        (hostile.png(), False),
    ],
)
def test_whether_a_decoder_keeps_the_whole_picture(data: bytes, several: bool) -> None:
    assert in_several_scans(data) is several


def test_scans_are_counted_up_to_the_end_of_the_picture() -> None:
    three = START + segment(0xE1, b"\xff\xda" * 50) + frame(3) + scan(1) * 3 + END
    for data in (three, three + b"\xff\xda" * 50):
        assert has_more_scans(data, 2)
        assert not has_more_scans(data, 3)


def test_any_bytes_are_read_to_their_end() -> None:
    dice = random.Random(5)
    for length in range(300):
        data = bytes(dice.choices((0xFF, 0xDA, 0xD9, 0xC0, 0xC2, 0xD8, 0, 1, 3, 9), k=length))
        assert has_more_scans(data, 0) in (True, False)
        assert has_more_scans(data, data.count(b"\xff\xda")) is False
        assert in_several_scans(data) in (True, False)
