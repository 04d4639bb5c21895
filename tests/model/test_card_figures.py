"""Figures for a card: verdicts by calibrations that have not seen the picture's scene, everything else as measured."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.calibration import calibrate
from model.card import Calibration, Card
from model.card_figures import HELD_OUT, IN_SAMPLE, calibrated_figures
from model.config import StudentConfig
from model.evaluation_data import EvaluationItem
from model.predictor import Predictor

UNUSED = Calibration(
    temperature=1, bias=9, review_threshold=0, flag_threshold=0, review_false_alarm_rate=1, flag_false_alarm_rate=1
)
CARD = Card(
    name="grey", version="grey-1", created="2030-01-01", student=StudentConfig(input_size=32), files={}, calibration=UNUSED,
    licence="test",
)  # fmt: skip


class BrightnessEngine:
    """Score logit = (brightness - 128) / 16, in every cell's probability, too, the left half alone."""

    name = "brightness"

    def __call__(self, pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        logits = (pictures.mean(axis=(1, 2, 3), dtype=np.float32) - 128) / 16
        prob = np.zeros((len(pictures), 8, 8), np.float32)
        prob[:, :, :4] = (logits > 0)[:, None, None]
        return prob, logits


def items_in(folder: Path, greys: list[tuple[int, bool]]) -> list[EvaluationItem]:
    mask = Image.new("L", (32, 32))
    mask.paste(255, (0, 0, 16, 32))
    mask.save(folder / "mask.png")
    items = []
    for index, (grey, tampered) in enumerate(greys):
        path = folder / f"{index}.png"
        Image.new("RGB", (32, 32), (grey, grey, grey)).save(path)
        items.append(EvaluationItem("drawn", path, folder / "mask.png" if tampered else None, tampered))
    return items


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(CARD, BrightnessEngine())


def test_a_picture_that_only_its_own_scene_prepares_for_is_a_false_alarm(tmp_path: Path, predictor: Predictor) -> None:
    """One authentic picture is brighter than all others. On all pictures the threshold sits on it; held out, below it."""
    greys = [(60 + 4 * index, False) for index in range(20)] + [(240, False)] + [(130 + 4 * index, True) for index in range(20)]
    items = items_in(tmp_path, greys)
    scenes = {item.image: item.image.name for item in items}
    steps: list[tuple[int, int]] = []

    calibration, metrics = calibrated_figures(predictor, items, scenes, lambda done, count: steps.append((done, count)))

    logits = [(grey - 128) / 16 for grey, _ in greys]
    assert calibration == calibrate(logits, [label for _, label in greys])
    assert calibration.flag_threshold == calibration.review_threshold > 0.9  # the bright one's score: never above itself
    assert metrics["overall"]["fa_rate"] == pytest.approx(1 / 21)
    assert metrics["calibration"] == HELD_OUT
    assert list(metrics["profiles"]) == ["none", "facebook", "weibo", "wechat", "whatsapp"]
    assert {"duration_s", "sweeps"}.isdisjoint(metrics)
    assert steps[-1] == (41, 41)


def test_figures_that_flatter_are_called_so(tmp_path: Path, predictor: Predictor) -> None:
    items = items_in(tmp_path, [(60, False), (90, False), (180, True), (200, True)])
    scenes = {item.image: str(item.tampered) for item in items}

    _, metrics = calibrated_figures(predictor, items, scenes, lambda *_: None)

    assert metrics["calibration"] == IN_SAMPLE
    assert metrics["overall"]["fa_rate"] == 0.0
    assert metrics["image_auc"] == 1.0
