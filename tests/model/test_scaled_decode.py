"""The tolerance that `model.preprocess.prepare` states: how far score and map move because JPEGs are decoded scaled."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.decode import Compared, compare, scale_factor, spread
from model.card import Card, builtin_directory
from model.predictor import Predictor
from tests.hostile import encoded, png

SAMPLES = Path(__file__).parents[2] / "samples" / "pictures"
SCORE, MAP, MEAN_SCORE = 0.1, 0.02, 0.03
SIDE_PX = Card.load(builtin_directory()).student.input_size
TWICE_PX, FOUR_TIMES_PX = round(3.35 * SIDE_PX), round(6.25 * SIDE_PX)  # widths whose heights are decoded at a half, a quarter


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load(builtin_directory(), "openvino", threads=1)


def sample(name: str, width_px: int) -> bytes:
    """A sample as a camera would have stored it: enlarged, and with a sensor's noise, which scaled decoding averages away."""
    with Image.open(SAMPLES / name) as opened:
        image = opened.convert("RGB")
    image = image.resize((width_px, round(width_px * image.height / image.width)), Image.Resampling.LANCZOS)
    noise = np.random.default_rng(1).normal(0, 3, (image.height, image.width, 3))
    return encoded(Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)), "JPEG", quality=90)


def drawing(seed: int) -> bytes:
    """Soft shapes with a sharp pasted one, large enough to be decoded at half its size."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (1300, 1000), (120, 110, 100))
    draw = ImageDraw.Draw(image)
    for x, y, side in rng.integers((0, 0, 40), (1200, 900, 300), (60, 3)):
        draw.ellipse((x, y, x + side, y + side), fill=tuple(map(int, rng.integers(0, 255, 3))))
    image = image.filter(ImageFilter.GaussianBlur(3))
    ImageDraw.Draw(image).rectangle((400, 300, 700, 600), fill=(200, 30, 40))
    height_px = round(2.25 * SIDE_PX)
    image = image.resize((round(1.3 * height_px), height_px), Image.Resampling.LANCZOS)
    return encoded(image, "JPEG", quality=88)


PICTURES = {
    **{path.name: (path.name, TWICE_PX) for path in spread(sorted(SAMPLES.iterdir()), 5)},
    "dahlia.jpg, large": ("dahlia.jpg", FOUR_TIMES_PX),
}


@pytest.fixture(scope="module")
def compared(predictor: Predictor) -> dict[str, Compared]:
    data = {name: sample(*given) for name, given in PICTURES.items()} | {f"drawing {seed}": drawing(seed) for seed in range(3)}
    found = {name: compare(each, predictor) for name, each in data.items()}
    return {name: each for name, each in found.items() if each is not None}


@pytest.mark.slow
def test_scaled_decoding_stays_within_the_stated_tolerance(compared: dict[str, Compared]) -> None:
    assert len(compared) >= 8 and {each.factor for each in compared.values()} >= {2, 4}
    assert {name: each.score_change for name, each in compared.items() if each.score_change > SCORE} == {}
    assert {name: each.mask_change for name, each in compared.items() if each.mask_change > MAP} == {}
    assert np.mean([each.score_change for each in compared.values()]) <= MEAN_SCORE


@pytest.mark.parametrize(("side_px", "factor"), [(300, 1), (639, 1), (640, 2), (1279, 2), (1280, 4), (2560, 8), (4000, 8)])
def test_the_scale_still_covers_the_square(side_px: int, factor: int) -> None:
    assert scale_factor(encoded(Image.new("RGB", (side_px, side_px)), "JPEG"), 320) == factor


def test_what_is_no_jpeg_is_not_scaled(predictor: Predictor) -> None:
    assert scale_factor(png(Image.new("RGB", (1000, 1000))), 320) == scale_factor(b"nothing", 320) == 1
    assert compare(encoded(Image.new("RGB", (300, 300)), "JPEG"), predictor) is None


def test_pictures_are_spread_over_a_folder() -> None:
    paths = [Path(str(number)) for number in range(10)]
    assert spread(paths, 3) == [paths[0], paths[4], paths[9]]
    assert spread(paths, 20) == paths
    assert spread([], 3) == []
