import warnings
from pathlib import Path

import pytest
from PIL import Image

from model.headers import Header, read_header
from model.preprocess import decode
from schemas.errors import DecodeFailed, PictureError, TooLarge, UnreadableFile, UnsupportedFormat
from tests import hostile


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_original_size_has_the_orientation_applied(tmp_path: Path, file_format: str, orientation: int) -> None:
    data = hostile.oriented(orientation, file_format, 60, 40)
    (tmp_path / "picture").write_bytes(data)
    found = read_header(tmp_path / "picture").original_px
    assert found == decode(data).size
    assert found == ((60, 40) if orientation < 5 else (40, 60))


def test_a_mask_is_taken_as_stored(tmp_path: Path) -> None:
    Image.new("1", (33, 22)).save(tmp_path / "mask.png")
    assert read_header(tmp_path / "mask.png") == Header((33, 22), (33, 22), "1")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", UnsupportedFormat),
        (b"no picture", UnsupportedFormat),
        (hostile.png()[:20], PictureError),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", PictureError),
        (hostile.png_of_size(16_000, 16_000), TooLarge),
        (hostile.png_of_size(0, 7), PictureError),
    ],
    ids=["empty", "text", "cut PNG", "cut JPEG", "bomb", "no pixels"],
)
def test_what_cannot_be_opened_has_a_named_error(tmp_path: Path, content: bytes, error: type[PictureError]) -> None:
    path = tmp_path / "picture"
    path.write_bytes(content)
    with pytest.raises(error):
        read_header(path)


def test_a_file_that_is_not_there_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="No such file"):
        read_header(tmp_path / "gone.png")
    with pytest.raises((UnreadableFile, DecodeFailed)):
        read_header(tmp_path / "a\0b.png")


@pytest.mark.parametrize("length", [2, 8, 14, 30])
def test_a_damaged_exif_block_does_not_hide_the_size(tmp_path: Path, length: int) -> None:
    block = b"II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0\xff\xff\xff\xff\xff\xff\xff\xff" + bytes(8)
    path = tmp_path / "picture.jpg"
    path.write_bytes(hostile.jpeg_with_exif(block[:length]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # callers do the same
        assert read_header(path).original_px == (hostile.WIDTH_PX, hostile.HEIGHT_PX)
