"""The sample pictures are what their manifest and ORIGINS.md say they are."""

import csv
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
COLUMNS = ["set", "image", "mask", "label", "kind", "scene"]


def rows() -> list[dict[str, str]]:
    with (SAMPLES / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


TAMPERED = [row for row in rows() if row["label"] == "tampered"]
AUTHENTIC = [row for row in rows() if row["label"] == "authentic"]
by_image = pytest.mark.parametrize("row", TAMPERED, ids=lambda row: Path(row["image"]).stem)


def upright(path: Path) -> npt.NDArray[np.float64]:
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"), dtype=np.float64)


def mask_of(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.asarray(image)


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_samples", SAMPLES / "make_samples.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made_again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    load_script().write_samples(folder)
    return folder


def test_manifest_has_both_labels_and_all_three_kinds() -> None:
    assert list(rows()[0]) == COLUMNS
    assert {row["set"] for row in rows()} == {"samples"}
    assert len(AUTHENTIC) >= 6 and len(TAMPERED) == 6
    assert sorted(row["kind"] for row in TAMPERED) == ["copymove", "copymove", "removal", "removal", "splice", "splice"]


def test_manifest_names_every_picture_and_mask_once() -> None:
    listed = sorted(row["image"] for row in rows()) + sorted(row["mask"] for row in TAMPERED)
    found = sorted(f"pictures/{p.name}" for p in (SAMPLES / "pictures").iterdir())
    assert listed == found + sorted(f"masks/{p.name}" for p in (SAMPLES / "masks").iterdir())


def test_authentic_rows_have_no_mask_or_kind() -> None:
    assert {(row["mask"], row["kind"]) for row in AUTHENTIC} == {("", "")}


def test_every_forgery_has_its_original_among_the_samples() -> None:
    assert {row["scene"] for row in TAMPERED} <= {row["scene"] for row in AUTHENTIC}


def test_origins_name_author_and_licence_of_every_picture() -> None:
    table = [line for line in (SAMPLES / "ORIGINS.md").read_text().splitlines() if line.startswith("| `")]
    for row in rows():
        name = Path(row["image"]).name
        lines = [line for line in table if line.startswith(f"| `{name}` |")]
        assert len(lines) == 1, name
        if row["label"] == "authentic":
            assert any(licence in lines[0] for licence in ("CC0", "public domain", "CC BY 2.0")), name


def test_folder_stays_small() -> None:
    files = [path for path in SAMPLES.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert max(path.stat().st_size for path in files) <= 300_000
    assert sum(path.stat().st_size for path in files) <= 3_000_000


def test_formats_include_png_webp_and_an_exif_rotated_jpeg() -> None:
    formats = set()
    for row in rows():
        with Image.open(SAMPLES / row["image"]) as image:
            formats.add(image.format)
            turned = image.getexif().get(0x0112, 1)
        assert (turned == 6) == (row["image"] == "pictures/raccoon.jpg")
    assert formats == {"JPEG", "PNG", "WEBP"}


@by_image
def test_mask_is_binary_and_as_large_as_the_picture(row: dict[str, str]) -> None:
    mask = mask_of(SAMPLES / row["mask"])
    assert mask.shape == upright(SAMPLES / row["image"]).shape[:2]
    assert set(np.unique(mask)) == {0, 255}
    assert 0.01 <= float((mask > 127).mean()) <= 0.40


@by_image
def test_picture_differs_from_its_original_inside_the_mask_only(row: dict[str, str]) -> None:
    original = next(other for other in AUTHENTIC if other["scene"] == row["scene"])
    change = np.abs(upright(SAMPLES / row["image"]) - upright(SAMPLES / original["image"])).max(axis=2)
    inside = mask_of(SAMPLES / row["mask"]) > 127
    # Saving again costs a few levels, more on sharp colour edges; a forged part is another picture.
    assert float(np.median(change[~inside])) <= 6
    assert float((change[~inside] > 60).mean()) < 0.005
    assert float(change[inside].mean()) > 4 * float(change[~inside].mean())


@pytest.mark.slow
def test_script_makes_the_same_manifest_and_masks_again(made_again: Path) -> None:
    assert (made_again / "manifest.csv").read_bytes() == (SAMPLES / "manifest.csv").read_bytes()
    for row in TAMPERED:
        assert np.array_equal(mask_of(made_again / row["mask"]), mask_of(SAMPLES / row["mask"])), row["mask"]


@pytest.mark.slow
def test_script_makes_the_same_pictures_again(made_again: Path) -> None:
    for row in TAMPERED:
        # Codecs of another release may round differently: less than one level on average.
        change = np.abs(upright(made_again / row["image"]) - upright(SAMPLES / row["image"]))
        assert float(change.mean()) < 1.0, row["image"]
