from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model import publish as publishing
from model.card import Card
from model.checkpoint import load_student
from model.config import TrainConfig
from model.distill import distill
from model.evaluation import measure
from model.evaluation_data import manifest_items
from model.evaluation_report import summary
from model.manifest import Manifest
from model.mask_fit import MaskFit
from model.predictor import Predictor
from model.publish import publish
from model.sweeps import variants
from model.teacher import GrabCutTeacher
from schemas.errors import InvalidInput, ModelInvalid

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(drawn: Manifest, tiny_training: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return distill(tiny_training, drawn, GrabCutTeacher(), tmp_path_factory.mktemp("run"), lambda _: None)


@pytest.fixture(scope="module")
def target(run: Path, drawn: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student published over an older one."""
    folder = tmp_path_factory.mktemp("students") / "tiny"
    folder.mkdir()
    (folder / "old.bin").write_text("old")
    stages: list[tuple[str, int, int]] = []
    publish(run, drawn, folder, lambda *stage: stages.append(stage))
    assert stages[0] == ("mask", 8, 8)
    assert stages[-1] == ("evaluate", 8, 8)
    return folder


def test_a_run_becomes_a_student_that_both_engines_serve(target: Path) -> None:
    card = Card.load(target)
    assert card.version == "tiny-" + card.files["safetensors"].sha256[:8]
    assert (card.licence, card.notes) == ("made by a test", ["drawn pictures"])
    assert card.training["pictures_seen"] == 12
    assert card.training["supervision"].startswith("coarse boxes through the teacher")
    assert load_student(target).config == card.student
    pictures = list(np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8))
    by_openvino = Predictor.load(target, "openvino").predict(pictures)
    for ours, theirs in zip(by_openvino, Predictor.load(target, "torch").predict(pictures), strict=True):
        assert np.abs(ours.mask_net.astype(int) - theirs.mask_net).max() <= 1
        assert ours.score_logit == pytest.approx(theirs.score_logit, abs=1e-3)


def test_the_cards_figures_can_be_repeated(target: Path, drawn: Manifest) -> None:
    metrics = Card.load(target).metrics
    again = summary(measure(Predictor.load(target), manifest_items(drawn, "validation"), variants(["weibo"])))

    for name in ("f1", "iou", "fa_area"):
        assert metrics["overall"][name] == again.model_dump(mode="json")["overall"][name]
    assert metrics["profiles"]["weibo"] == again.profiles["weibo"]
    assert metrics["image_auc"] == again.image_auc


def test_the_card_says_how_calibration_and_mask_were_fitted(target: Path) -> None:
    metrics = Card.load(target).metrics

    assert "without its scene" in metrics["calibration"]
    assert metrics["near_duplicates_of_training"] in range(9)
    fit = metrics["mask_fit"]
    assert (fit["n_tampered"], fit["n_authentic"], fit["largest_alarm_area"]) == (4, 4, 0.02)
    assert "moved" in fit["why"]
    student = load_student(target)
    assert student.mask_shift.item() == pytest.approx(fit["shift"], abs=1e-2)  # rounded to fp16
    assert student.mask_coupling.item() == pytest.approx(fit["coupling"], abs=1e-3)


def test_a_mask_that_is_worth_moving_is_moved_before_the_export(
    run: Path, drawn: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bold(mask_logits: np.ndarray, scores: np.ndarray, truth: np.ndarray, folds: np.ndarray) -> MaskFit:
        assert mask_logits.shape == truth.shape == (8, 16, 16)
        assert folds.shape == scores.shape == (8,)
        assert [bool(cells.any()) for cells in truth] == [item.tampered for item in manifest_items(drawn, "validation")]
        return MaskFit(40.0, 0.5, "moved: by a test", 0, 0, None, None, 0.02, 4, 4)

    monkeypatch.setattr(publishing, "fit_masks", bold)
    publish(run, drawn, tmp_path / "bold", lambda *_: None)

    pictures = list(np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8))
    for engine in ("openvino", "torch"):
        assert min(prediction.mask_net.min() for prediction in Predictor.load(tmp_path / "bold", engine).predict(pictures)) == 255


def test_a_student_that_is_there_is_replaced_whole(target: Path) -> None:
    assert sorted(path.name for path in target.iterdir()) == ["card.json", "student.bin", "student.safetensors", "student.xml"]
    assert [path.name for path in target.parent.iterdir()] == ["tiny"]


def test_another_manifest_is_refused(run: Path, drawn: Manifest, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="another manifest"):
        publish(run, replace(drawn, sha256="0" * 64), tmp_path / "s", lambda *_: None)


def test_a_file_too_large_to_ship_is_refused(run: Path, drawn: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "LARGEST_FILE_BYTES", 1000)
    with pytest.raises(ModelInvalid, match="too large"):
        publish(run, drawn, tmp_path / "s", lambda *_: None)
    assert not (tmp_path / "s").exists()
