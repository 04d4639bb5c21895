import numpy as np
import pytest
from PIL import Image, ImageDraw

from model.teacher import GrabCutTeacher
from schemas.errors import InvalidInput
from schemas.geometry import PixelBox


@pytest.fixture(scope="module")
def scene() -> tuple[Image.Image, np.ndarray, PixelBox]:
    """A textured disc on a textured ground, its true mask, and its tight box."""
    rng = np.random.default_rng(5)
    image = Image.fromarray(rng.integers(40, 110, (300, 400, 3), dtype=np.uint8))
    mask = Image.new("L", image.size)
    box = (150, 90, 270, 210)
    ImageDraw.Draw(image).ellipse((150, 90, 269, 209), fill=(220, 180, 40))
    ImageDraw.Draw(mask).ellipse((150, 90, 269, 209), fill=255)
    noisy = np.clip(np.asarray(image, int) + rng.integers(-20, 21, (300, 400, 3)), 0, 255).astype(np.uint8)
    return Image.fromarray(noisy), np.asarray(mask) > 127, PixelBox.of(*box)


def iou(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / (found | truth).sum())


@pytest.mark.parametrize("margin", [0.0, 0.1, 0.25, 0.5])
def test_grabcut_finds_a_drawn_object_in_a_loose_box(scene: tuple[Image.Image, np.ndarray, PixelBox], margin: float) -> None:
    image, truth, box = scene
    made = GrabCutTeacher().pseudo_mask(image, [box.loosened(margin, *image.size)])
    assert made.soft.shape == truth.shape
    assert iou(made.soft > 127, truth) > 0.95


def test_a_tight_box_agrees_more_than_a_loose_one(scene: tuple[Image.Image, np.ndarray, PixelBox]) -> None:
    image, _, box = scene
    tight = GrabCutTeacher().pseudo_mask(image, [box]).quality
    loose = GrabCutTeacher().pseudo_mask(image, [box.loosened(0.5, *image.size)]).quality
    assert tight > 0.95
    assert loose == pytest.approx(0.25, abs=0.05)


def test_belief_is_low_inside_the_box_beside_the_object_and_zero_outside(scene: tuple[Image.Image, np.ndarray, PixelBox]) -> None:
    image, _, box = scene
    soft = GrabCutTeacher(outside_label=0.2).pseudo_mask(image, [box]).soft
    assert soft[95, 155] == pytest.approx(0.2 * 255, abs=3)
    assert soft[150, 210] == 255
    assert soft[20, 20] == 0


def test_a_box_without_an_object_is_taken_whole() -> None:
    plain = Image.new("RGB", (100, 80), (90, 90, 90))
    made = GrabCutTeacher().pseudo_mask(plain, [PixelBox.of(20, 20, 60, 50)])
    assert made.quality == 0
    assert made.soft[30:40, 30:50].min() == 255


def test_a_box_around_everything_leaves_the_box() -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    made = GrabCutTeacher().pseudo_mask(image, [PixelBox.of(0, 0, 60, 40)])
    assert made.soft.min() == 255


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3, 2)])
def test_the_smallest_pictures_get_a_mask(size: tuple[int, int]) -> None:
    made = GrabCutTeacher().pseudo_mask(Image.new("RGB", size), [PixelBox.of(0, 0, 1, 1)])
    assert made.soft.shape == size[::-1]
    assert made.soft[0, 0] > 0


def test_the_same_box_gives_the_same_mask(scene: tuple[Image.Image, np.ndarray, PixelBox]) -> None:
    image, _, box = scene
    first, second = (GrabCutTeacher().pseudo_mask(image, [box.loosened(0.3, *image.size)]).soft for _ in range(2))
    assert np.array_equal(first, second)


def test_boxes_that_do_not_fit_are_refused() -> None:
    image = Image.new("RGB", (30, 20))
    with pytest.raises(InvalidInput, match="at least one box"):
        GrabCutTeacher().pseudo_mask(image, [])
    with pytest.raises(InvalidInput, match="outside the picture of 30x20"):
        GrabCutTeacher().pseudo_mask(image, [PixelBox.of(0, 0, 31, 20)])
