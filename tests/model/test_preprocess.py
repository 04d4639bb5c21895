"""Hostile bytes to the network's square: every odd picture decodes right, every broken one fails by name and cheaply."""

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from model import preprocess
from model.preprocess import PictureLimits, decode, prepare, stretch
from model.render import full_size_mask
from schemas.errors import DecodeFailed, EmptyPicture, PictureError, TooLarge, UnsupportedFormat
from tests import hostile
from tests.hostile import BROKEN, HEIGHT_PX, PICTURES, QUADRANTS, WIDTH_PX, Broken, Sound, drawn, encoded

# Where each quadrant of the drawn picture lands when a viewer applies an EXIF orientation, worked out by hand.
TURNED = {
    1: ("top left", "top right", "bottom left", "bottom right"),
    2: ("top right", "top left", "bottom right", "bottom left"),
    3: ("bottom right", "bottom left", "top right", "top left"),
    4: ("bottom left", "bottom right", "top left", "top right"),
    5: ("top left", "bottom left", "top right", "bottom right"),
    6: ("bottom left", "top left", "bottom right", "top right"),
    7: ("bottom right", "top right", "bottom left", "top left"),
    8: ("top right", "bottom right", "top left", "bottom left"),
}
WHITE = (255, 255, 255)
LIMITS = PictureLimits(max_pixels=2_000_000)


def corners(pixels: np.ndarray) -> list[tuple[int, ...]]:
    """The colours in the middle of the four quadrants: top left, top right, bottom left, bottom right."""
    height, width = pixels.shape[:2]
    return [tuple(pixels[y, x].tolist()) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]


def assert_near(found: list[tuple[int, ...]], wanted: list[tuple[int, ...]], within: int) -> None:
    assert np.abs(np.array(found) - np.array(wanted)).max() <= within, (found, wanted)


@pytest.mark.parametrize("case", PICTURES, ids=lambda case: case.name)
def test_a_sound_picture_is_prepared_in_its_own_size(case: Sound) -> None:
    data = case.make()

    prepared = prepare(data, 32)
    whole = decode(data)

    assert (prepared.width_px, prepared.height_px) == case.size == whole.size
    assert prepared.pixels.shape == (32, 32, 3)
    assert prepared.pixels.dtype == np.uint8
    assert whole.mode == "RGB"
    assert prepared.format in (*preprocess.FORMATS, "MPO")


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.name)
@pytest.mark.parametrize("read", [lambda data: prepare(data, 32), decode], ids=["prepare", "decode"])
def test_a_broken_file_fails_by_name(case: Broken, read: Callable[[bytes], object]) -> None:
    with pytest.raises(PictureError) as failed:
        read(case.make())

    assert failed.value.code == case.code
    assert failed.value.permanent
    assert 10 < len(failed.value.message) < 200
    assert "\n" not in failed.value.message


def test_prepared_pixels_are_the_picture() -> None:
    prepared = prepare(hostile.png(), 64)

    assert prepared.format == "PNG"
    assert corners(prepared.pixels) == list(QUADRANTS.values())


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation: int, file_format: str) -> None:
    data = hostile.oriented(orientation, file_format)

    whole, prepared = np.asarray(decode(data)), prepare(data, 48)

    wanted = [QUADRANTS[place] for place in TURNED[orientation]]
    assert whole.shape[:2] == ((HEIGHT_PX, WIDTH_PX) if orientation < 5 else (WIDTH_PX, HEIGHT_PX))
    assert_near(corners(whole), wanted, within=6)
    assert_near(corners(prepared.pixels), wanted, within=6)


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
def test_an_orientation_out_of_range_is_none(value: int) -> None:
    whole = decode(hostile.oriented(value))

    assert whole.size == (WIDTH_PX, HEIGHT_PX)
    assert_near(corners(np.asarray(whole)), list(QUADRANTS.values()), within=6)


@pytest.mark.parametrize(
    "name", ["damaged-exif.jpg", "no-exif-at-all.jpg", "damaged-exif.png", "damaged-icc.jpg", "damaged-icc.png"]
)
def test_damaged_metadata_does_not_cost_the_picture(name: str) -> None:
    data = next(case for case in PICTURES if case.name == name).make()

    assert_near(corners(np.asarray(decode(data))), list(QUADRANTS.values()), within=6)


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    for data in (hostile.png(hostile.grey16()), encoded(hostile.grey16(), "TIFF")):
        row = np.asarray(decode(data))[0, :, 0].astype(int)

        assert row[0] == 0 and row[-1] == 255
        assert np.abs(row - np.linspace(0, 255, WIDTH_PX)).max() <= 0.51


def test_a_dark_sixteen_bit_picture_stays_dark() -> None:
    row = np.asarray(decode(hostile.png(hostile.grey16(0, 2570))))[0, :, 0]

    assert row.max() == 10


def test_sixteen_to_eight_bits_rounds_every_value_right() -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)

    eight = np.asarray(preprocess._eight_bit(Image.fromarray(every)))

    assert np.array_equal(eight, np.rint(every / 257))


def test_big_endian_sixteen_bits_are_the_same_picture() -> None:
    big = next(case for case in PICTURES if case.name == "grey16-big-endian.tif")

    assert np.array_equal(np.asarray(decode(big.make())), np.asarray(decode(hostile.png(hostile.grey16()))))


def test_a_float_picture_spans_its_own_range() -> None:
    row = np.asarray(decode(hostile.float_tiff()))[0, :, 0].astype(int)

    assert np.abs(row - np.linspace(0, 255, WIDTH_PX)).max() <= 1


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([np.nan, 0, 1], [0, 0, 255]),
        ([np.inf, 0, 1], [255, 0, 255]),
        ([-np.inf, 0, 1], [0, 0, 255]),
        ([np.nan, np.nan, np.nan], [0, 0, 0]),
        ([7, 7, 7], [0, 0, 0]),
        ([-3e38, 3e38, 3e38], [0, 255, 255]),
        ([1e-30, 0, 2e-30], [0, 0, 0]),
        ([0, 51, 255], [0, 51, 255]),
    ],
)
def test_a_float_picture_of_odd_values(values: list[float], wanted: list[int]) -> None:
    whole = decode(hostile.float_tiff(np.array([values], dtype=np.float32)))

    assert np.asarray(whole)[0, :, 0].tolist() == wanted


@pytest.mark.parametrize("name", ["rgba.png", "la.png", "palette.png", "rgba.webp", "rgba.tif", "see-through.gif"])
def test_transparency_lies_on_white(name: str) -> None:
    data = next(case for case in PICTURES if case.name == name).make()

    found = corners(np.asarray(decode(data)))

    assert found[1] == found[3] == WHITE
    assert found[0] != WHITE and found[2] != WHITE


def test_half_transparent_black_is_grey() -> None:
    whole = decode(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 128)), "PNG"))

    assert whole.getpixel((1, 1)) == (127, 127, 127)


def test_a_colour_key_is_transparent() -> None:
    found = corners(np.asarray(decode(hostile.png(drawn(), transparency=QUADRANTS["top right"]))))

    assert found == [QUADRANTS["top left"], WHITE, QUADRANTS["bottom left"], QUADRANTS["bottom right"]]


@pytest.mark.parametrize("make", [hostile.adobe_cmyk_jpeg, hostile.unmarked_cmyk_jpeg], ids=["adobe", "unmarked"])
def test_cmyk_is_not_inverted(make: Callable[[], bytes]) -> None:
    assert_near(corners(np.asarray(decode(make()))), list(QUADRANTS.values()), within=12)


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_is_taken(file_format: str) -> None:
    assert_near(corners(np.asarray(decode(hostile.animated(file_format)))), list(QUADRANTS.values()), within=2)


@pytest.mark.parametrize("name", ["interlaced.png", "top-down.bmp", "rle.bmp", "progressive.jpeg"])
def test_unusual_row_orders_are_understood(name: str) -> None:
    whole = np.asarray(decode(next(case for case in PICTURES if case.name == name).make()))

    if name == "rle.bmp":  # rows of the four colours in turn, the first one at the bottom
        assert [tuple(whole[HEIGHT_PX - 1 - row, 0].tolist()) for row in range(4)] == list(QUADRANTS.values())
    else:
        assert_near(corners(whole), list(QUADRANTS.values()), within=6)


def test_limits_are_checked_on_bytes_first() -> None:
    data = hostile.png()

    with pytest.raises(TooLarge, match="MAX_BYTES"):
        prepare(data, 32, PictureLimits(max_bytes=len(data) - 1))
    assert prepare(data, 32, PictureLimits(max_bytes=len(data))).width_px == WIDTH_PX


def test_limits_are_checked_on_pixels_exactly() -> None:
    data = hostile.png()

    with pytest.raises(TooLarge, match=f"{WIDTH_PX} x {HEIGHT_PX} = 2,400 pixels; the limit is 2,399"):
        prepare(data, 32, PictureLimits(max_pixels=WIDTH_PX * HEIGHT_PX - 1))
    assert prepare(data, 32, PictureLimits(max_pixels=WIDTH_PX * HEIGHT_PX)).width_px == WIDTH_PX


@pytest.mark.parametrize("case", [case for case in BROKEN if case.code == "too_large"], ids=lambda case: case.name)
def test_what_is_too_large_is_never_decoded(case: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: ImageFile.ImageFile) -> None:
        raise AssertionError("decoded before its size was checked")

    data = case.make()
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)

    with pytest.raises(TooLarge):
        prepare(data, 32)


def test_more_pixels_than_pillow_warns_about_are_ours_to_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)  # the drawn picture has 2400: Pillow warns, and refuses from 4000 on

    assert prepare(hostile.png(), 32).width_px == WIDTH_PX


def test_the_message_of_a_bomb_states_pillows_own_bound() -> None:
    assert 2 * (Image.MAX_IMAGE_PIXELS or 0) == preprocess._MOST_PIXELS
    with pytest.raises(TooLarge, match="178,956,970"):
        prepare(hostile.png_of_size(30_000, 30_000), 32)


MEMORY_SCRIPT = """
import resource, sys
from model.preprocess import decode, prepare
from schemas.errors import PictureError
from tests import hostile
prepare(hostile.png(), 32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for case in hostile.BROKEN:
    data = case.make()
    for read in (decode, lambda data: prepare(data, 32)):
        try:
            read(data)
        except PictureError:
            pass
        else:
            sys.exit(f"{case.name} was read")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_no_broken_file_costs_memory() -> None:
    """Peak memory of a process of its own, because libtiff and libwebp allocate where Python does not look."""
    shown = subprocess.run([sys.executable, "-c", MEMORY_SCRIPT], capture_output=True, text=True, check=True, cwd=_root())

    assert int(shown.stdout) < 150  # MB; text-bomb.png itself takes some while it is made


THREADS_SCRIPT = """
import resource
from concurrent.futures import ThreadPoolExecutor
from PIL import Image
from model import preprocess
from model.budget import PixelBudget
from tests.hostile import encoded
data = encoded(Image.new("RGBA", (2000, 1990), (3, 4, 5, 100)), "WEBP", lossless=True, method=0)
preprocess._DECODING = PixelBudget(4_000_000)
preprocess.prepare(data, 32)
alone = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with ThreadPoolExecutor(12) as pool:
    list(pool.map(lambda _: preprocess.prepare(data, 32), range(12)))
print(len(data), alone, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_many_bombs_at_once_cost_as_much_as_one() -> None:
    """Twelve threads with a file of a hundred bytes each that holds as many pixels as may be decoded at one time."""
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}  # as the embedded stack sets it, for smaller pictures
    command = [sys.executable, "-c", THREADS_SCRIPT]

    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=_root(), env=env)

    file_bytes, alone_kib, together_kib = map(int, shown.stdout.split())
    assert file_bytes < 100
    assert together_kib - alone_kib < 50 * 1024  # one of them takes 60 MB while it is decoded


def test_decoding_without_memory_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: ImageFile.ImageFile) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)

    with pytest.raises(TooLarge, match="not enough memory"):
        decode(hostile.jpeg())


def test_the_name_says_nothing_and_the_bytes_everything() -> None:
    assert prepare(hostile.png(), 32).format == "PNG"
    with pytest.raises(EmptyPicture):
        prepare(b"", 32)
    with pytest.raises(UnsupportedFormat, match="JPEG, PNG, WEBP, GIF, BMP, TIFF"):
        prepare(b"GIF, or so it says", 32)


def test_jpeg_draft_is_near_the_full_decode() -> None:
    """A picture with structure at all scales: the reduced decode differs from the full one by under one level on average."""
    rng = np.random.default_rng(3)
    across, down = np.arange(1200)[None], np.arange(900)[:, None]
    waves = sum(np.sin(rng.uniform(0.01, 0.2) * across + rng.uniform(0.01, 0.2) * down) for _ in range(6))
    pixels = np.clip(128 + 18 * np.stack([waves, waves * 0.8, -waves], axis=2) + rng.normal(0, 6, (900, 1200, 3)), 0, 255)
    data = encoded(Image.fromarray(pixels.astype(np.uint8)), "JPEG", quality=90)

    reduced, full = prepare(data, 224).pixels.astype(int), stretch(decode(data), 224).astype(int)

    difference = np.abs(reduced - full)
    assert 0 < difference.mean() < 1.0
    assert np.percentile(difference, 99) <= 6


def test_jpeg_draft_decodes_fewer_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded_sizes: list[tuple[int, int]] = []
    as_rgb = preprocess._as_rgb

    def spied(image: Image.Image) -> Image.Image:
        decoded_sizes.append(image.size)
        return as_rgb(image)

    monkeypatch.setattr(preprocess, "_as_rgb", spied)
    prepared = prepare(hostile.oriented(6, width_px=1200, height_px=900), 224)

    assert decoded_sizes == [(300, 225)]
    assert (prepared.width_px, prepared.height_px) == (900, 1200)


@pytest.mark.parametrize(("width_px", "height_px"), [(61, 37), (333, 500), (1001, 63), (224, 224), (7, 5), (1, 300), (2999, 2)])
def test_the_stretch_and_its_inverse_keep_the_place(width_px: int, height_px: int) -> None:
    """A marked quarter comes back to where it was, to within the blur of two resizes."""
    side = 80
    marked = np.zeros((height_px, width_px, 3), np.uint8)
    marked[height_px // 2 :, : (width_px + 1) // 2] = 255

    mask_net = stretch(Image.fromarray(marked), side)[..., 0]
    mask_orig = np.asarray(full_size_mask(np.ascontiguousarray(mask_net), width_px, height_px))

    assert mask_orig.shape == (height_px, width_px)
    wrong = (mask_orig > 127) != (marked[..., 0] > 127)
    blur_px = np.array([height_px, width_px]) / side
    border = np.ceil(blur_px) + 1
    assert wrong.sum() <= border[0] * width_px + border[1] * height_px
    ys, xs = np.nonzero(wrong)
    from_edge = np.minimum(np.abs(ys - height_px // 2) / border[0], np.abs(xs - (width_px + 1) // 2) / border[1])
    assert (from_edge <= 1).all()


@given(width=st.integers(20, 400), height=st.integers(20, 400), across=st.floats(0.1, 0.9), down=st.floats(0.1, 0.9))
def test_a_marked_spot_comes_back_to_itself(width: int, height: int, across: float, down: float) -> None:
    """The centre of gravity of a spot moves by less than half a network pixel, in original pixels, or half a pixel."""
    side = 80
    x, y = int(across * width), int(down * height)
    spot = np.zeros((height, width), np.uint8)
    spot[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3] = 255

    mask_net = stretch(Image.fromarray(np.repeat(spot[..., None], 3, axis=2)), side)[..., 0]
    mask_orig = np.asarray(full_size_mask(np.ascontiguousarray(mask_net), width, height))

    for before, after, scale in zip(_centre(spot), _centre(mask_orig), (height / side, width / side), strict=True):
        assert abs(before - after) <= max(0.5, 0.5 * scale)


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([1, 3, 8, 64]))
def test_any_shape_becomes_a_square_and_goes_back(width: int, height: int, side: int) -> None:
    square = stretch(Image.new("RGB", (width, height), (10, 200, 30)), side)

    assert square.shape == (side, side, 3)
    assert np.abs(square.astype(int) - [10, 200, 30]).max() <= 1
    assert full_size_mask(np.full((side, side), 77, np.uint8), width, height).getextrema() == (77, 77)


SEEDS = [case.make() for case in PICTURES if not case.name.startswith("exif-")] + [hostile.oriented(6, "TIFF")]
MUTATIONS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=12)


@settings(max_examples=400)
@given(st.sampled_from(SEEDS), MUTATIONS, st.floats(0, 1), st.booleans())
def test_mutated_files_raise_nothing_but_picture_errors(
    data: bytes, mutations: list[tuple[float, int]], cut: float, header_only: bool
) -> None:
    mutated = bytearray(data)
    reach = min(len(mutated), 200) if header_only else len(mutated)
    for at, value in mutations:
        mutated[min(int(at * reach), len(mutated) - 1)] = value
    kept = bytes(mutated[: int(cut * len(mutated)) if cut < 0.3 else None])

    for read in (lambda: prepare(kept, 16, LIMITS).pixels.shape, lambda: decode(kept, LIMITS).mode):
        try:
            assert read() in ((16, 16, 3), "RGB")
        except PictureError as error:
            assert error.message


@given(st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"BM"]))
def test_arbitrary_bytes_raise_nothing_but_picture_errors(tail: bytes, start: bytes) -> None:
    with pytest.raises(PictureError):
        prepare(start + tail, 16, LIMITS)


def test_pillows_remarks_reach_no_thread() -> None:
    """Damaged metadata in sixteen threads at once: no warning becomes an exception, whatever else the threads do."""
    remarkable = [hostile.jpeg_with_exif(b"II*\0" + b"\xff" * 40), hostile.tiff_of_size(50, 50)[:-10] + b"\0" * 10]
    with warnings.catch_warnings(), ThreadPoolExecutor(16) as pool:
        warnings.simplefilter("error")
        outcomes = [pool.submit(_code_of, data) for data in remarkable * 100]

    assert {outcome.result() for outcome in outcomes} <= {"read", DecodeFailed.code}


def test_ignoring_pillow_hides_nobody_elses_warnings() -> None:
    for _ in range(3):
        prepare(hostile.jpeg(), 16)

    added = [entry for entry in warnings.filters if entry in preprocess._IGNORED_WARNINGS]
    assert len(added) == 2
    with pytest.warns(UserWarning, match="ours"):
        warnings.warn("ours", stacklevel=1)


def test_a_tiff_of_honest_tiles_is_read() -> None:
    pixels = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    tags = {256: (4, 60), 257: (4, 50), 258: (3, 8), 259: (3, 1), 262: (3, 1), 277: (3, 1), 322: (4, 64), 323: (4, 64)}
    data = hostile.tiff(tags | {324: (4, 8 + 2 + 12 * 10 + 4), 325: (4, pixels.size)}, pixels.tobytes())

    assert np.array_equal(np.asarray(decode(data))[..., 0], pixels[:50, :60])


def test_a_tiff_whose_tile_size_is_nonsense_is_refused() -> None:
    tags = {256: (4, 60), 257: (4, 50), 258: (3, 8), 259: (3, 1), 262: (3, 1), 277: (3, 1), 322: (4, 0), 323: (4, 0)}
    data = hostile.tiff(tags | {324: (4, 134), 325: (4, 100)}, bytes(100))

    with pytest.raises(PictureError):
        decode(data)


def _code_of(data: bytes) -> str:
    try:
        prepare(data, 16)
    except PictureError as error:
        return error.code
    return "read"


def _centre(mask: np.ndarray) -> tuple[float, float]:
    weights = mask.astype(float)
    return tuple(float((weights.sum(axis=1 - axis) * np.arange(mask.shape[axis])).sum() / weights.sum()) for axis in (0, 1))


def _root() -> Path:
    return Path(__file__).resolve().parents[2]
