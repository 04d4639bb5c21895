"""Masks at full size, overlays that leave authentic pixels alone, and the stored PNG."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from model.render import full_size_mask, mask_png, overlay, read_mask_png, thumbnail_jpeg
from schemas.errors import DecodeFailed


def grey(width_px: int, height_px: int, level: int = 90) -> Image.Image:
    return Image.new("RGB", (width_px, height_px), (level, level, level))


def test_full_size_mask_is_bilinear_between_cell_centres() -> None:
    mask_net = np.array([[0, 200]], dtype=np.uint8)

    mask_orig = np.asarray(full_size_mask(mask_net, width_px=8, height_px=3))

    assert mask_orig.shape == (3, 8)
    # Cell centres lie at 2 and 6 px; pixel centres at .5, 1.5, 2.5 ... so 2.5 is an eighth of the way from 0 to 200.
    assert mask_orig[1].tolist() == [0, 0, 25, 75, 125, 175, 200, 200]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 255))
def test_full_size_mask_keeps_a_constant(width_px: int, height_px: int, level: int) -> None:
    mask_orig = full_size_mask(np.full((7, 7), level, np.uint8), width_px, height_px)

    assert mask_orig.size == (width_px, height_px)
    assert mask_orig.mode == "L"
    assert mask_orig.getextrema() == (level, level)


def test_full_size_mask_is_not_transposed() -> None:
    mask_net = np.zeros((10, 10), np.uint8)
    mask_net[0, 9] = 255

    mask_orig = np.asarray(full_size_mask(mask_net, width_px=100, height_px=50))

    assert mask_orig[0, 99] == 255
    assert mask_orig[49, 0] == 0


def test_overlay_leaves_an_unsuspicious_picture_as_it_is() -> None:
    image = grey(60, 40)

    painted = overlay(image, Image.new("L", (60, 40), 64))

    assert painted.tobytes() == image.tobytes()
    assert painted is not image


def test_overlay_paints_only_where_the_mask_is() -> None:
    image, mask_orig = grey(60, 40), Image.new("L", (60, 40), 0)
    mask_orig.paste(255, (20, 10, 40, 30))

    painted = np.asarray(overlay(image, mask_orig)).astype(int)

    assert (painted[:, :20] == 90).all()
    red, green, blue = painted[20, 30]
    assert red > blue > green  # towards magenta
    assert painted[10, 30].tolist() == [255, 255, 255]  # the contour
    assert np.asarray(image).max() == 90  # the picture itself is untouched


def test_overlay_grows_opaquer_and_pinker_with_probability() -> None:
    image, ramp = grey(256, 1), Image.fromarray(np.arange(256, dtype=np.uint8)[None])

    change = np.abs(np.asarray(overlay(image, ramp)).astype(int) - 90)[0, 65:120].sum(axis=1)

    assert (np.diff(change) >= -1).all()  # -1: rounding of the blend
    assert change[-1] > change[0]


def test_a_region_over_the_whole_picture_has_no_contour() -> None:
    painted = np.asarray(overlay(grey(30, 20), Image.new("L", (30, 20), 255)))

    assert (painted == painted[0, 0]).all()
    assert painted[0, 0].tolist() != [255, 255, 255]


def test_overlay_refuses_a_mask_of_another_size() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        overlay(grey(10, 10), Image.new("L", (10, 11)))


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_mask_png_comes_back_exactly(mask_net: np.ndarray) -> None:
    back = read_mask_png(mask_png(mask_net))

    assert back.dtype == np.uint8
    assert np.array_equal(back, mask_net)


def test_a_smooth_mask_takes_no_more_bytes_than_pillow_needs() -> None:
    ramp = np.linspace(-3, 3, 112)
    noise = np.random.default_rng(1).normal(0, 2, (112, 112))
    mask_net = np.clip(255 * np.exp(-(ramp**2) - ramp[:, None] ** 2) + noise, 0, 255).astype(np.uint8)
    pillows = io.BytesIO()
    Image.fromarray(mask_net).save(pillows, "PNG", compress_level=1)

    assert len(mask_png(mask_net)) <= len(pillows.getvalue())


def test_a_damaged_stored_mask_is_named() -> None:
    data = mask_png(np.arange(240, dtype=np.uint8).reshape(12, 20))
    colour = io.BytesIO()
    grey(4, 4).save(colour, "PNG")

    with pytest.raises(DecodeFailed, match="damaged"):
        read_mask_png(data[:40])
    with pytest.raises(DecodeFailed, match="damaged"):
        read_mask_png(b"")
    with pytest.raises(DecodeFailed, match="mode RGB"):
        read_mask_png(colour.getvalue())


def test_thumbnail_is_a_small_jpeg_of_the_same_shape() -> None:
    image = grey(400, 200)

    with Image.open(io.BytesIO(thumbnail_jpeg(image, 100))) as small:
        assert (small.format, small.size) == ("JPEG", (100, 50))
    with Image.open(io.BytesIO(thumbnail_jpeg(grey(20, 10), 100))) as small:
        assert small.size == (20, 10)
    assert image.size == (400, 200)
