from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model import data as data_module
from model.config import TrainConfig
from model.data import TrainingSet, ValidationSet
from model.manifest import Manifest
from model.pseudo_masks import PseudoMasks, build_pseudo_masks
from model.teacher import GrabCutTeacher
from schemas.errors import InvalidInput


@pytest.fixture
def masks(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> PseudoMasks:
    return build_pseudo_masks(drawn, GrabCutTeacher(), tmp_path / "masks", tiny_training, lambda *_: None)


def training_set(drawn: Manifest, masks: PseudoMasks, config: TrainConfig, **changes: float) -> TrainingSet:
    return TrainingSet(drawn, masks, replace(config, **changes), 200)  # type: ignore[arg-type]


def test_samples_have_the_nets_shapes(drawn: Manifest, masks: PseudoMasks, tiny_training: TrainConfig) -> None:
    data = training_set(drawn, masks, tiny_training)
    for index in range(30):
        sample = data[index]
        assert (sample.pixels.shape, sample.pixels.dtype) == ((64, 64, 3), torch.uint8)
        assert (sample.soft_mask.shape, sample.soft_mask.dtype) == ((16, 16), torch.uint8)
        assert float(sample.label) in (0.0, 1.0)
        assert (sample.match.shape, sample.match.dtype) == ((8, 8), torch.int64)
        assert -2 <= int(sample.match.min()) <= int(sample.match.max()) < 64
        assert bool(sample.soft_mask.any()) == bool(sample.label)


def test_a_sample_depends_on_seed_and_index_alone(drawn: Manifest, masks: PseudoMasks, tiny_training: TrainConfig) -> None:
    first, second = training_set(drawn, masks, tiny_training), training_set(drawn, masks, tiny_training)
    first[3]
    assert torch.equal(first[7].pixels, second[7].pixels)
    assert not torch.equal(first[7].pixels, first[8].pixels)
    assert not torch.equal(first[7].pixels, training_set(drawn, masks, tiny_training, seed=1)[7].pixels)


@pytest.mark.parametrize(("real", "synthetic", "tampered"), [(1.0, 0.0, 1.0), (0.0, 1.0, 1.0), (0.0, 0.0, 0.0)])
def test_the_shares_are_kept(
    drawn: Manifest, masks: PseudoMasks, tiny_training: TrainConfig, real: float, synthetic: float, tampered: float
) -> None:
    data = training_set(drawn, masks, tiny_training, real_share=real, synthetic_share=synthetic)
    labels = [float(data[index].label) for index in range(40)]
    assert np.mean(labels) == pytest.approx(tampered, abs=0.1)


def test_the_soft_mask_lies_on_the_manipulated_part(drawn: Manifest, masks: PseudoMasks, tiny_training: TrainConfig) -> None:
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


def test_validation_scenes_never_train(drawn: Manifest, masks: PseudoMasks) -> None:
    validation = {row.image for row in drawn.split("validation")}
    assert not validation & masks.files.keys()
    assert set(masks.files) == {row.image for row in drawn.split("training") if row.tampered}


def test_dropped_pseudo_masks_do_not_train(drawn: Manifest, masks: PseudoMasks, tiny_training: TrainConfig) -> None:
    kept = sorted(masks.files)[:1]
    data = TrainingSet(drawn, replace(masks, files={name: masks.files[name] for name in kept}), tiny_training, 10)
    assert [row.image for rows in data._tampered.values() for row in rows] == kept


def test_the_weight_of_a_pseudo_mask_reaches_its_samples(drawn: Manifest, masks: PseudoMasks, tiny_training: TrainConfig) -> None:
    doubted = replace(masks, weights=dict.fromkeys(masks.files, 0.25))
    data = training_set(drawn, doubted, tiny_training, real_share=0.5, synthetic_share=0.5)
    samples = [data[index] for index in range(30)]
    known = [bool((sample.match > -2).all()) for sample in samples]
    assert {float(sample.weight) for sample, exact in zip(samples, known, strict=True) if exact} == {1.0}
    assert {float(sample.weight) for sample, exact in zip(samples, known, strict=True) if not exact} == {0.25}


@pytest.mark.parametrize("kind", ["copy_move_share", "removal_share", "edit_share"])
def test_each_kind_of_manipulation_is_drawn(drawn: Manifest, masks: PseudoMasks, tiny_training: TrainConfig, kind: str) -> None:
    shares = {"copy_move_share": 0.0, "removal_share": 0.0, "edit_share": 0.0} | {kind: 1.0}
    data = training_set(drawn, masks, tiny_training, real_share=0.0, synthetic_share=1.0, **shares)
    samples = [data[index] for index in range(20)]
    assert sum(float(sample.label) for sample in samples) > 10
    copied = [bool((sample.match >= 0).any()) for sample in samples]
    assert any(copied) is (kind != "edit_share")


def test_decoded_pictures_are_kept_while_there_is_room(
    drawn: Manifest, masks: PseudoMasks, tiny_training: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Path] = []
    decode = data_module._decoded
    monkeypatch.setattr(data_module, "_decoded", lambda path: calls.append(path) or decode(path))
    data = training_set(drawn, masks, tiny_training)
    name = drawn.rows[0].image
    assert data._picture(name) is data._picture(name)
    assert len(calls) == 1
    data._room_bytes = 0
    data._decoded.clear()
    assert data._picture(name) is not data._picture(name)
    assert len(calls) == 3


def test_set_weights_move_the_draw(drawn: Manifest, masks: PseudoMasks, tiny_training: TrainConfig) -> None:
    data = TrainingSet(drawn, masks, replace(tiny_training, set_weights={"plates": 0.0}), 10)
    rng = np.random.default_rng(0)
    assert Counter(data._row(data._tampered, rng).set_name for _ in range(50)) == {"discs": 50}


def test_training_without_authentic_pictures_is_refused(drawn: Manifest, masks: PseudoMasks, tiny_training: TrainConfig) -> None:
    tampered = replace(drawn, rows=tuple(row for row in drawn.rows if row.tampered))
    with pytest.raises(InvalidInput, match="authentic"):
        TrainingSet(tampered, masks, tiny_training, 10)


def test_an_index_past_the_end_ends_iteration(drawn: Manifest, masks: PseudoMasks, tiny_training: TrainConfig) -> None:
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


def test_an_authentic_picture_that_people_doubt_weighs_less(
    drawn: Manifest, masks: PseudoMasks, tiny_training: TrainConfig
) -> None:
    doubted = replace(drawn, rows=tuple(row if row.tampered else replace(row, weight=0.5) for row in drawn.rows))
    data = training_set(doubted, masks, tiny_training, real_share=0.0, synthetic_share=0.0)
    weights = [float(data[index].weight) for index in range(20)]
    assert set(weights) <= {0.5, 1.0}  # 1 where it is cut from a manipulated picture
    assert weights.count(0.5) > 10
