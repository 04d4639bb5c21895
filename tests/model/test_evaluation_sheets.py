"""The worst first, and each sheet with picture, truth and prediction side by side."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.card import Calibration, Card
from model.config import StudentConfig
from model.evaluation_report import Outcome
from model.evaluation_sheets import sheet, worst_false_alarms, worst_localized
from model.predictor import Predictor
from model.preprocess import PictureLimits
from schemas.errors import UnreadableFile

GREEN = (0, 200, 120)


def outcome(name: str | Path, f1: float | None = None, area: float = 0.0, logit: float = 0.0, variant: str = "none") -> Outcome:
    return Outcome(Path(name), "drawn", f1 is not None, variant, f1, f1, None, area, logit, 0.5, "pass")


@pytest.fixture
def predictor() -> Predictor:
    """Marks the left half of everything."""

    def engine(pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        prob = np.zeros((len(pictures), 8, 8), np.float32)
        prob[:, :, :4] = 1
        return prob, np.zeros(len(pictures), np.float32)

    engine.name = "half"  # type: ignore[attr-defined]
    calibration = Calibration(
        temperature=1, bias=0, review_threshold=0.3, flag_threshold=0.9, review_false_alarm_rate=0.05, flag_false_alarm_rate=0.01
    )
    card = Card(
        name="half",
        version="half-1",
        created="2030-01-01",
        student=StudentConfig(input_size=32),
        files={},
        calibration=calibration,
        licence="test",
    )
    return Predictor(card, engine)  # type: ignore[arg-type]


def test_lowest_f1_first_and_of_equals_who_marks_most() -> None:
    outcomes = [
        outcome("good", f1=0.9),
        outcome("elsewhere", f1=0.0, area=0.3),
        outcome("nothing", f1=0.0),
        outcome("authentic", logit=9),
        outcome("compressed", f1=0.0, area=0.9, variant="wechat"),
    ]

    assert [each.image.name for each in worst_localized(outcomes)] == ["elsewhere", "nothing", "good"]
    assert [each.image.name for each in worst_localized(outcomes, 1)] == ["elsewhere"]


def test_highest_authentic_score_first() -> None:
    outcomes = [outcome("calm", logit=-2), outcome("loud", logit=3), outcome("forged", f1=0.1, logit=9)]

    assert [each.image.name for each in worst_false_alarms(outcomes)] == ["loud", "calm"]
    assert worst_false_alarms(outcomes, 1)[0].image.name == "loud"


def test_a_tampered_picture_has_three_tiles(tmp_path: Path, predictor: Predictor) -> None:
    picture, mask = tmp_path / "a\nb.png", tmp_path / "m.png"
    Image.new("RGB", (480, 360), (10, 20, 200)).save(picture)
    truth = Image.new("L", (480, 360))
    truth.paste(255, (240, 0, 480, 360))
    truth.save(mask)

    paper = np.asarray(sheet(predictor, [(outcome(picture, f1=0.0), mask)] * 3, PictureLimits()))

    assert paper.shape == (64 + 2 * (180 + 46) + 24, 2 * (3 * 246 + 18) + 24, 3)
    middle, plain = 64 + 90, np.array([10, 20, 200])
    as_it_is, true, said = (paper[middle, 24 + number * 246 : 24 + number * 246 + 240].astype(int) for number in range(3))
    assert (as_it_is == plain).all()
    assert (true[:110] == plain).all()
    assert np.abs(true[130:] - (0.45 * plain + 0.55 * np.array(GREEN))).max() <= 1
    assert (said[160:] == plain).all()
    assert np.abs(said[:80] - plain).max(axis=1).min() > 30


def test_an_authentic_picture_has_two_tiles_and_needs_no_mask(tmp_path: Path, predictor: Predictor) -> None:
    Image.new("RGB", (90, 300), (10, 200, 20)).save(tmp_path / "tall.png")

    paper = sheet(predictor, [(outcome(tmp_path / "tall.png", area=0.5), None)] * 4, PictureLimits())

    assert paper.size == (3 * (2 * 246 + 18) + 24, 64 + 2 * (180 + 46) + 24)
    assert paper.getpixel((24 + 120, 64 + 90)) == (10, 200, 20)
    assert paper.getpixel((24 + 5, 64 + 90)) == (228, 229, 230)


def test_a_picture_that_is_gone_says_so(tmp_path: Path, predictor: Predictor) -> None:
    with pytest.raises(UnreadableFile):
        sheet(predictor, [(outcome(tmp_path / "gone.png"), None)], PictureLimits())
