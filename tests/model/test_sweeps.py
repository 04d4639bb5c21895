"""What names stand for, and what is done to a picture."""

import numpy as np
import pytest
from PIL import Image

from model.compress import PROFILES, deliver
from model.sweeps import SWEEPS, Variant, variants
from schemas.errors import InvalidInput


@pytest.fixture
def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 101, 3), dtype=np.uint8))


def test_profiles_come_first_and_once() -> None:
    assert [variant.name for variant in variants(["none", "wechat", "weibo", "wechat"], ["resize"])] == [
        *("wechat", "weibo"),
        *("resize-0.5", "resize-0.6", "resize-0.7", "resize-0.8", "resize-0.9", "resize-1"),
    ]
    assert [variant.name for variant in variants([], ["jpeg"])] == [
        f"jpeg-{quality}" for quality in (50, 60, 70, 80, 90, 95, 100)
    ]
    assert variants(["none"]) == ()


def test_every_variant_has_its_own_name() -> None:
    names = [variant.name for variant in variants(list(PROFILES), list(SWEEPS))]

    assert len(set(names)) == len(names) == len(PROFILES) + 7 + 6


@pytest.mark.parametrize(
    ("profiles", "sweeps", "message"),
    [
        (["none", "myspace"], [], "unknown profile myspace; there are: none, facebook"),
        ([], ["zoom", "jpeg"], "unknown sweep zoom; there are: jpeg, resize"),
    ],
)
def test_an_unknown_name_is_refused(profiles: list[str], sweeps: list[str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        variants(profiles, sweeps)


def test_a_profile_is_a_delivery(noise: Image.Image) -> None:
    changed = Variant("wechat", "profile").apply(noise)

    assert np.array_equal(np.asarray(changed), np.asarray(deliver(noise, PROFILES["wechat"])))


def test_jpeg_keeps_the_size_and_loses_more_at_lower_quality(noise: Image.Image) -> None:
    changed = [Variant("x", "jpeg", quality).apply(noise) for quality in (50, 100)]

    assert {image.size for image in changed} == {noise.size}
    low, high = (np.abs(np.asarray(image, np.float64) - np.asarray(noise)).mean() for image in changed)
    assert low > high > 0


def test_resize_changes_both_sides(noise: Image.Image) -> None:
    assert Variant("x", "resize", 0.5).apply(noise).size == (50, 30)
    assert np.array_equal(np.asarray(Variant("x", "resize", 1.0).apply(noise)), np.asarray(noise))
