import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.training_curves import curves, smoothed


def entry(step: int, **more: float) -> dict[str, Any]:
    return {"step": step, "total": 1.0 / step, "mask": 0.1, "lr": 1e-3, "pictures_per_s": 10.0, **more}


def pixels(png: bytes) -> Any:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_a_moving_mean_is_shorter_at_the_ends() -> None:
    assert smoothed([1.0, 2.0, 6.0, 2.0], 3) == pytest.approx([1.5, 3.0, 10 / 3, 4.0])
    assert smoothed([], 3) == []


def test_a_window_of_one_changes_nothing() -> None:
    assert smoothed([3.0, 1.0], 1) == pytest.approx([3.0, 1.0])


@pytest.mark.slow
def test_validations_change_the_picture() -> None:
    steps = [entry(step) for step in range(1, 30)]
    without = pixels(curves(steps, "run"))
    validated = {"f1_a": 0.5, "f1_b": 0.2, "image_auc": 0.8, "fa_area": 0.01}
    with_figures = pixels(curves([*steps, entry(30, **validated)], "run"))
    assert without.shape == with_figures.shape == (820, 1500, 3)
    half = without.shape[0] // 2
    assert (without[half:] != with_figures[half:]).any()


def test_a_log_without_steps_is_drawn_empty() -> None:
    assert pixels(curves([{"something": "else"}], "run")).std() > 0
