import io

import numpy as np
import pytest
from PIL import Image

from model.compress import PROFILES, Profile, deliver, limited, random_chain, recompressed


@pytest.fixture
def photo() -> Image.Image:
    rng = np.random.default_rng(1)
    coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    return coarse.resize((1200, 900), Image.Resampling.BICUBIC)


def test_the_profiles_are_the_protocol() -> None:
    assert {name: (profile.long_side_px, profile.quality) for name, profile in PROFILES.items()} == {
        "facebook": (960, 75),
        "weibo": (690, 80),
        "wechat": (800, 60),
        "whatsapp": (800, 65),
    }


@pytest.mark.parametrize("name", PROFILES)
def test_delivery_limits_the_long_side_and_keeps_the_shape(photo: Image.Image, name: str) -> None:
    delivered = deliver(photo, PROFILES[name])
    assert max(delivered.size) == PROFILES[name].long_side_px
    assert delivered.width / delivered.height == pytest.approx(4 / 3, rel=0.01)
    assert delivered.mode == "RGB"


def test_a_small_picture_is_not_enlarged() -> None:
    assert deliver(Image.new("L", (50, 20)), PROFILES["weibo"]).size == (50, 20)


def test_a_line_of_pixels_survives() -> None:
    assert deliver(Image.new("RGB", (5000, 1)), PROFILES["weibo"]).size == (690, 1)


def test_delivery_really_compresses(photo: Image.Image) -> None:
    rough = np.abs(np.asarray(deliver(photo, Profile(1200, 20)), float) - np.asarray(photo, float)).mean()
    fine = np.abs(np.asarray(deliver(photo, Profile(1200, 95)), float) - np.asarray(photo, float)).mean()
    assert rough > 2 * fine > 0


def test_delivery_equals_a_420_jpeg_without_metadata(photo: Image.Image) -> None:
    photo.info["exif"] = b"Exif\0\0secret"
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=60, subsampling="4:2:0", exif=b"")
    assert np.array_equal(np.asarray(recompressed(photo, 60)), np.asarray(Image.open(buffer)))
    assert "exif" not in recompressed(photo, 60).info


def test_limited_leaves_a_picture_within_the_limit_alone(photo: Image.Image) -> None:
    assert limited(photo, 1200) is photo


def test_the_chain_follows_its_seed_and_varies(photo: Image.Image) -> None:
    small = photo.resize((200, 150))
    results = [np.asarray(random_chain(small, np.random.default_rng(seed))) for seed in range(12)]
    again = np.asarray(random_chain(small, np.random.default_rng(3)))
    assert np.array_equal(results[3], again)
    assert len({result.tobytes() for result in results}) > 6
    for result in results:
        assert 0.49 <= result.shape[0] / 150 <= 1.51
