import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from model.config import TrainConfig
from model.manifest import Manifest
from model.preprocess import decode
from model.teacher import GrabCutTeacher, TrueMaskTeacher, teacher_for
from schemas.errors import DecodeFailed, EnvironmentMissing, InvalidInput
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


def test_a_tight_box_gives_a_better_mask_than_a_loose_one(scene: tuple[Image.Image, np.ndarray, PixelBox]) -> None:
    image, _, box = scene
    tight = GrabCutTeacher().pseudo_mask(image, [box]).quality
    loose = GrabCutTeacher().pseudo_mask(image, [box.loosened(0.5, *image.size)]).quality
    assert tight > 0.95
    assert loose == pytest.approx(0.5, abs=0.05)  # a quarter of the box, and the same from a tighter box: sqrt(1/4 * 1)


def test_an_object_that_a_tighter_box_cuts_otherwise_is_trusted_less(scene: tuple[Image.Image, np.ndarray, PixelBox]) -> None:
    """The same extent, once as a disc and once as one half of a picture in two colours, which has no object of its own."""
    image, _, box = scene
    rng = np.random.default_rng(3)
    halves = rng.integers(100, 110, (300, 400, 3), dtype=np.uint8)
    halves[:, 200:] += 60
    stable = GrabCutTeacher().pseudo_mask(image, [box.loosened(0.1, *image.size)]).quality
    unstable = GrabCutTeacher().pseudo_mask(Image.fromarray(halves), [PixelBox.of(120, 60, 280, 220)]).quality
    assert unstable < 0.8 * stable


def test_quality_is_the_mean_over_boxes_and_an_empty_box_counts_as_nothing(
    scene: tuple[Image.Image, np.ndarray, PixelBox],
) -> None:
    image, _, box = scene
    plain = PixelBox.of(10, 10, 60, 50)
    patched = image.copy()
    patched.paste((70, 70, 70), (0, 0, 100, 80))
    one = GrabCutTeacher().pseudo_mask(patched, [box]).quality
    made = GrabCutTeacher().pseudo_mask(patched, [box, plain])
    assert made.quality == pytest.approx(one / 2, abs=0.05)
    assert made.soft[20:40, 20:50].min() == 255


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


def test_threads_do_not_change_a_mask(scene: tuple[Image.Image, np.ndarray, PixelBox]) -> None:
    image, _, box = scene
    teacher = GrabCutTeacher()
    boxes = [box.loosened(margin, *image.size) for margin in (0.0, 0.1, 0.2)]
    alone = [teacher.pseudo_mask(image, [each]) for each in boxes]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda each: teacher.pseudo_mask(image, [each]), boxes))
    for first, second in zip(alone, together, strict=True):
        assert np.array_equal(first.soft, second.soft)
        assert first.quality == second.quality


def test_the_true_mask_is_its_own_teacher(drawn: Manifest) -> None:
    row = next(row for row in drawn.rows if row.tampered)
    made = TrueMaskTeacher().mask_of(drawn.root, row, decode((drawn.root / row.image).read_bytes()))
    box = row.boxes[0]
    assert made.quality == 1.0
    assert set(np.unique(made.soft)) == {0, 255}
    assert made.soft[(box.y0 + box.y1) // 2, (box.x0 + box.x1) // 2] == 255
    assert made.soft[: box.y0].max() == 0


def test_a_true_mask_of_another_size_is_refused(drawn: Manifest) -> None:
    row = next(row for row in drawn.rows if row.tampered)
    with pytest.raises(DecodeFailed, match="120 x 90 pixels, the picture 10 x 10"):
        TrueMaskTeacher().mask_of(drawn.root, row, Image.new("RGB", (10, 10)))


def test_the_config_names_the_teacher() -> None:
    assert teacher_for(TrainConfig(outside_label=0.3)).name == "grabcut-320-4-0.1-0.3"
    assert teacher_for(TrainConfig(teacher="masks")).name == "true-masks"


def test_a_checkpoint_for_a_teacher_that_needs_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match='a SAM checkpoint is given, but the config says teacher = "grabcut"'):
        teacher_for(TrainConfig(), Path("sam.pth"))


@pytest.mark.slow
def test_without_its_package_sam_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "model.sam", raising=False)
    monkeypatch.setitem(sys.modules, "segment_anything", None)
    with pytest.raises(
        EnvironmentMissing, match=r"sam-vit-b needs the package segment_anything: pip install 'tamperwatch\[train\]'"
    ):
        teacher_for(TrainConfig(teacher="sam-vit-b"))


@pytest.mark.slow
def test_grabcut_loads_no_torch() -> None:
    code = (
        "import sys; from model.config import TrainConfig; from model.teacher import teacher_for; "
        "import model.pseudo_masks; teacher_for(TrainConfig()); print('torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
