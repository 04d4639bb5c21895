from dataclasses import replace

import pytest
import torch

from model.manifest import Manifest, ManifestRow
from model.selection import CLEARLY_BETTER, LEAST_PICTURES_A_LABEL, Best, better, clearly_better, mean_f1, tuning_figure

GOOD, POOR = {"f1_a": 0.5, "f1_b": 0.7, "image_auc": 0.8}, {"f1_a": 0.1, "image_auc": 0.5}


@pytest.fixture
def rows(drawn: Manifest) -> list[ManifestRow]:
    """As many pictures of each label as it takes."""
    return [replace(drawn.rows[0], tampered=bool(index % 2)) for index in range(2 * LEAST_PICTURES_A_LABEL)]


def best_of(figures: dict[str, float]) -> Best:
    return Best(step=3, tuning=tuning_figure(figures) or 0.0, figures=figures, average={})


def test_the_tuning_figure_weighs_place_and_picture_alike() -> None:
    assert mean_f1(GOOD) == pytest.approx(0.6)
    assert tuning_figure(GOOD) == pytest.approx(0.7)
    assert tuning_figure({"f1_a": 0.5}) is None
    assert tuning_figure({"image_auc": 0.5}) is None


def test_the_best_so_far_keeps_its_own_copy_of_the_weights(rows: list[ManifestRow]) -> None:
    average = torch.nn.Linear(1, 1)
    kept = average.weight.clone()
    best = better(None, 3, GOOD, rows, average)
    with torch.no_grad():
        average.weight.add_(1.0)
    assert best is not None
    assert (best["step"], best["tuning"]) == (3, pytest.approx(0.7))
    assert torch.equal(best["average"]["weight"], kept)


def test_neither_a_worse_nor_an_equal_validation_takes_its_place(rows: list[ManifestRow]) -> None:
    best = better(None, 3, GOOD, rows, torch.nn.Linear(1, 1))
    assert better(best, 6, POOR, rows, torch.nn.Linear(1, 1)) is best
    assert better(best, 6, GOOD, rows, torch.nn.Linear(1, 1)) is best


def test_too_few_pictures_of_a_label_say_nothing(rows: list[ManifestRow]) -> None:
    assert better(None, 3, GOOD, rows[1:], torch.nn.Linear(1, 1)) is None


def test_only_a_clear_difference_counts() -> None:
    best = best_of(GOOD)
    assert clearly_better(best, POOR) is best
    assert clearly_better(best, GOOD | {"image_auc": GOOD["image_auc"] - 1.9 * CLEARLY_BETTER}) is None
    assert clearly_better(best, {}) is None
    assert clearly_better(None, GOOD) is None
