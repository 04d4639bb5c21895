"""Which pictures come out alike. Distances are between packed hashes, as the store keeps them."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from model.compress import PROFILES, deliver
from model.picture_hash import BITS, LEAST_QUALITY, SAME_PICTURE_BITS, PictureHash, picture_hash, require_hashing
from model.preprocess import prepare, stretch
from schemas.errors import EnvironmentMissing

SAMPLES = Path(__file__).parents[2] / "samples" / "pictures"
SIDE_PX = 320


def hashed(image: Image.Image) -> PictureHash:
    return picture_hash(stretch(image, SIDE_PX))


def apart(one: PictureHash, other: PictureHash) -> int:
    bits = np.frombuffer(one.bits, np.uint8) ^ np.frombuffer(other.bits, np.uint8)
    return int(np.unpackbits(bits).sum())


@pytest.fixture(scope="module")
def pictures() -> dict[str, Image.Image]:
    return {name: Image.open(SAMPLES / f"{name}.jpg").convert("RGB") for name in ("astronaut", "coffee", "dahlia", "raccoon")}


def test_a_hash_has_256_bits_and_a_quality(pictures: dict[str, Image.Image]) -> None:
    for image in pictures.values():
        made = hashed(image)
        assert len(made.bits) * 8 == BITS and LEAST_QUALITY <= made.quality <= 100
        # PDQ's threshold is the median, so half of them are set.
        assert apart(made, PictureHash(bytes(32), 0)) == pytest.approx(128, abs=2)


@pytest.mark.parametrize("profile", PROFILES)
def test_deliveries_stay_near(pictures: dict[str, Image.Image], profile: str) -> None:
    for image in pictures.values():
        assert apart(hashed(image), hashed(deliver(image, PROFILES[profile]))) <= SAME_PICTURE_BITS / 2


def test_sizes_and_inputs_stay_near(pictures: dict[str, Image.Image]) -> None:
    for image in pictures.values():
        half = image.resize((image.width // 2, image.height // 2))
        assert apart(hashed(image), hashed(half)) <= SAME_PICTURE_BITS / 2
        assert apart(hashed(image), picture_hash(stretch(image, 512))) <= SAME_PICTURE_BITS / 2


def test_it_is_the_hash_that_others_compute(pictures: dict[str, Image.Image]) -> None:
    import pdqhash

    for image in pictures.values():
        bits, _ = pdqhash.compute(np.array(image))
        assert apart(hashed(image), PictureHash(np.packbits(bits.astype(np.uint8)).tobytes(), 100)) <= SAME_PICTURE_BITS


def test_other_pictures_are_far_and_mirrored_ones_too(pictures: dict[str, Image.Image]) -> None:
    hashes = {name: hashed(image) for name, image in pictures.items()}
    for name, one in hashes.items():
        assert all(apart(one, other) > 2 * SAME_PICTURE_BITS for rival, other in hashes.items() if rival != name)
        assert apart(one, hashed(ImageOps.mirror(pictures[name]))) > 2 * SAME_PICTURE_BITS


def test_a_plain_picture_has_no_quality() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (90, 60), "teal").save(buffer, "PNG")
    assert picture_hash(prepare(buffer.getvalue(), SIDE_PX).pixels).quality < LEAST_QUALITY


def test_without_pdqhash_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pdqhash", None)
    with pytest.raises(EnvironmentMissing, match=r"tamperwatch\[similar\]"):
        require_hashing()
