from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.config import TrainConfig
from model.data import TrainingSet, ValidationSet
from model.manifest import Manifest
from model.pseudo_masks import build_pseudo_masks
from model.teacher import GrabCutTeacher, PseudoMask
from schemas.errors import InvalidInput
from schemas.geometry import PixelBox


@pytest.fixture
def masks(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> dict[str, Path]:
    return build_pseudo_masks(drawn, GrabCutTeacher(), tmp_path / "masks", tiny_training, lambda *_: None)[0]


def training_set(drawn: Manifest, masks: dict[str, Path], config: TrainConfig, **changes: float) -> TrainingSet:
    return TrainingSet(drawn, masks, replace(config, **changes), 200)  # type: ignore[arg-type]


def test_samples_have_the_nets_shapes(drawn: Manifest, masks: dict[str, Path], tiny_training: TrainConfig) -> None:
    data = training_set(drawn, masks, tiny_training)
    for index in range(30):
        sample = data[index]
        assert (sample.pixels.shape, sample.pixels.dtype) == ((64, 64, 3), torch.uint8)
        assert (sample.soft_mask.shape, sample.soft_mask.dtype) == ((16, 16), torch.uint8)
        assert float(sample.label) in (0.0, 1.0)
        assert bool(sample.soft_mask.any()) == bool(sample.label)


def test_a_sample_depends_on_seed_and_index_alone(drawn: Manifest, masks: dict[str, Path], tiny_training: TrainConfig) -> None:
    first, second = training_set(drawn, masks, tiny_training), training_set(drawn, masks, tiny_training)
    first[3]
    assert torch.equal(first[7].pixels, second[7].pixels)
    assert not torch.equal(first[7].pixels, first[8].pixels)
    assert not torch.equal(first[7].pixels, training_set(drawn, masks, tiny_training, seed=1)[7].pixels)


@pytest.mark.parametrize(("real", "synthetic", "tampered"), [(1.0, 0.0, 1.0), (0.0, 1.0, 1.0), (0.0, 0.0, 0.0)])
def test_the_shares_are_kept(
    drawn: Manifest, masks: dict[str, Path], tiny_training: TrainConfig, real: float, synthetic: float, tampered: float
) -> None:
    data = training_set(drawn, masks, tiny_training, real_share=real, synthetic_share=synthetic)
    labels = [float(data[index].label) for index in range(40)]
    assert np.mean(labels) == pytest.approx(tampered, abs=0.1)


def test_the_soft_mask_lies_on_the_manipulated_part(drawn: Manifest, masks: dict[str, Path], tiny_training: TrainConfig) -> None:
    """The disc is the only strongly red thing; after crop, turn and chain the mask must still cover it."""
    data = training_set(drawn, masks, tiny_training, real_share=1.0, synthetic_share=0.0)
    agreements = []
    for index in range(20):
        sample = data[index]
        pixels = sample.pixels.float()
        red = (pixels[..., 0] - pixels[..., 1]).reshape(16, 4, 16, 4).mean((1, 3)) > 80
        found = sample.soft_mask > 127
        agreements.append(float((red & found).sum() / (red | found).sum()))
    assert np.mean(agreements) > 0.8


def test_validation_scenes_never_train(drawn: Manifest, masks: dict[str, Path]) -> None:
    validation = {row.image for row in drawn.split("validation")}
    assert not validation & masks.keys()
    assert set(masks) == {row.image for row in drawn.split("training") if row.tampered}


def test_set_weights_move_the_draw(drawn: Manifest, masks: dict[str, Path], tiny_training: TrainConfig) -> None:
    data = TrainingSet(drawn, masks, replace(tiny_training, set_weights={"plates": 0.0}), 10)
    rng = np.random.default_rng(0)
    assert Counter(data._row(data._tampered, rng).set_name for _ in range(50)) == {"discs": 50}


def test_training_without_authentic_pictures_is_refused(
    drawn: Manifest, masks: dict[str, Path], tiny_training: TrainConfig
) -> None:
    tampered = replace(drawn, rows=tuple(row for row in drawn.rows if row.tampered))
    with pytest.raises(InvalidInput, match="authentic"):
        TrainingSet(tampered, masks, tiny_training, 10)


def test_an_index_past_the_end_ends_iteration(drawn: Manifest, masks: dict[str, Path], tiny_training: TrainConfig) -> None:
    with pytest.raises(IndexError):
        training_set(drawn, masks, tiny_training)[200]


def test_perfect_answers_get_perfect_figures(drawn: Manifest, tiny_training: TrainConfig) -> None:
    validation = ValidationSet(drawn, tiny_training)
    tampered = np.array([float(row.tampered) for row in validation.rows], dtype=np.float32)
    assert 0 < tampered.sum() < len(tampered)
    figures = validation.figures(validation.masks_net.astype(np.float32), tampered)
    assert figures.pop("fa_area") == 0
    assert set(figures.values()) == {1.0}
    wrong = validation.figures(1 - validation.masks_net.astype(np.float32), 1 - tampered)
    assert wrong["fa_area"] == 1
    assert wrong["image_auc"] == 0


class CountingTeacher:
    """Marks its boxes and counts its calls."""

    name = "counting"

    def __init__(self) -> None:
        self.boxes: list[PixelBox] = []

    def pseudo_mask(self, image, boxes):  # type: ignore[no-untyped-def]
        self.boxes += boxes
        return PseudoMask(np.full((image.height, image.width), 255, dtype=np.uint8), 0.5)


def test_the_teacher_is_asked_once_a_picture_with_loosened_boxes(
    drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path
) -> None:
    teacher, seen = CountingTeacher(), []
    files, quality = build_pseudo_masks(drawn, teacher, tmp_path, tiny_training, lambda done, count: seen.append((done, count)))
    _, again = build_pseudo_masks(drawn, teacher, tmp_path, tiny_training, lambda *_: None)
    assert quality == 0.5
    assert np.isnan(again)
    assert len(teacher.boxes) == len(files) == 6
    assert seen[-1] == (6, 6)
    tight = [box for row in drawn.split("training") for box in row.boxes]
    assert all(loose.area >= box.area for loose, box in zip(teacher.boxes, tight, strict=True))
    assert sum(box.area for box in teacher.boxes) > sum(box.area for box in tight)


def test_manipulated_pictures_without_a_box_are_named(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    boxless = replace(drawn, rows=tuple(replace(row, boxes=()) for row in drawn.rows))
    with pytest.raises(InvalidInput, match="6 manipulated pictures have no box"):
        build_pseudo_masks(boxless, GrabCutTeacher(), tmp_path, tiny_training, lambda *_: None)


def test_a_box_outside_the_decoded_picture_is_named(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    wide = replace(drawn, rows=tuple(replace(row, boxes=(PixelBox.of(0, 0, 121, 9),)) for row in drawn.rows))
    with pytest.raises(InvalidInput, match="outside 120x90"):
        build_pseudo_masks(wide, GrabCutTeacher(), tmp_path, tiny_training, lambda *_: None)
