"""Two numbers that move the mask: found where they help held-out pictures, zero where they do not."""

import numpy as np
import pytest
from numpy.typing import NDArray

from model import mask_fit as room
from model.mask_fit import LEAST_GAIN, fit_masks
from schemas.errors import InvalidInput

SIDE = 12


def drawn(
    inside: float, outside: float, authentic: float, count: int = 40
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float32], NDArray[np.int64]]:
    """Masks, scores, truth and folds: tampered pictures with a marked quarter, then authentic ones with a suspicious eighth."""
    rng = np.random.default_rng(0)
    logits = np.full((2 * count, SIDE, SIDE), outside, np.float32) + rng.normal(0, 0.1, (2 * count, SIDE, SIDE)).astype(
        np.float32
    )
    truth = np.zeros_like(logits)
    truth[:count, :6, :6] = 1
    logits[:count, :6, :6] += inside - outside
    logits[count:, :3, :6] += authentic - outside
    scores = np.concatenate([rng.normal(3, 0.2, count), rng.normal(-3, 0.2, count)])
    return logits, scores, truth, np.tile(np.arange(5), 2 * count // 5)


def measured(
    logits: NDArray[np.float32], scores: NDArray[np.float64], truth: NDArray[np.float32], shift: float, coupling: float
) -> tuple[float, float]:
    """Mean F1 and alarm area by the definition, mask by mask."""
    moved = logits + shift + coupling * scores[:, None, None]
    f1, area = [], []
    for mask, true in zip(moved > 0, truth, strict=True):
        if true.any():
            f1.append(2 * (mask * true).sum() / (mask.sum() + true.sum()))
        else:
            area.append(mask.mean())
    return float(np.mean(f1)), float(np.mean(area))


def test_a_timid_mask_becomes_bolder_where_the_picture_looks_manipulated() -> None:
    """A shift alone would mark an eighth of each authentic picture as well."""
    logits, scores, truth, folds = drawn(inside=-1.0, outside=-6.0, authentic=-1.0)

    fit = fit_masks(logits, scores, truth, folds)

    assert fit.coupling > 0
    assert (fit.f1, fit.alarm_area) == measured(logits, scores, truth, 0, 0) == (0, 0)
    f1, area = measured(logits, scores, truth, fit.shift, fit.coupling)
    assert f1 > 0.95
    assert area <= fit.largest_alarm_area == 0.02
    assert fit.held_out_f1 == pytest.approx(f1, abs=0.02)
    assert fit.why.startswith("moved: mean F1 gains")
    assert (fit.n_tampered, fit.n_authentic) == (40, 40)


def test_a_mask_that_is_right_stays() -> None:
    logits, scores, truth, folds = drawn(inside=3.0, outside=-3.0, authentic=-3.0)

    fit = fit_masks(logits, scores, truth, folds)

    assert (fit.shift, fit.coupling, fit.f1, fit.held_out_f1) == (0, 0, 1, 1)
    assert fit.why.startswith("not moved: mean F1 changes by +0.000")


def test_too_large_an_alarm_area_is_mended_though_f1_falls() -> None:
    logits, scores, truth, folds = drawn(inside=1.0, outside=-3.0, authentic=1.0)
    scores[:] = 0.0

    fit = fit_masks(logits, scores, truth, folds)

    assert fit.alarm_area == pytest.approx(18 / 144)
    assert fit.shift < -0.5
    assert measured(logits, scores, truth, fit.shift, fit.coupling)[1] <= 0.02
    assert "alarm area 12.5% becomes" in fit.why


def test_fits_that_exceed_the_bound_on_held_out_pictures_aim_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks of one fold's authentic pictures grow almost three times as fast as those of the other."""
    logits, scores, truth, _ = drawn(inside=0.0, outside=-6.0, authentic=-6.0)
    folds, scores[:] = np.arange(80) % 2, 0.0
    logits[:40, :6, :6] = -1 - np.arange(36).reshape(6, 6) / 18  # each step up finds more
    ranks = np.arange(144).reshape(12, 12) / 144
    logits[40:] = np.where(folds[40:, None, None] == 0, -1 - 40 * ranks, -1 - 15 * ranks)

    fit = fit_masks(logits, scores, truth, folds, 0.04)
    monkeypatch.setattr(room, "BOUND_SHARES", (1.0,))
    straight = fit_masks(logits, scores, truth, folds, 0.04)

    assert straight.held_out_alarm_area is not None and fit.held_out_alarm_area is not None
    assert fit.held_out_alarm_area <= 0.04 < straight.held_out_alarm_area
    assert (fit.shift, straight.shift) == (1.5, 0.0)
    assert fit.why.startswith("moved: mean F1 gains") and straight.why.startswith("not moved")


def test_a_gain_that_is_not_there_on_held_out_pictures_is_not_taken() -> None:
    """Each fold asks for the opposite of the others."""
    logits, scores, truth, _ = drawn(inside=0.6, outside=-6.0, authentic=-6.0)
    folds = np.arange(80) % 2
    logits[(folds == 0) & (np.arange(80) < 40), :, :] = np.where(truth[0] > 0, 6.0, 0.3)  # wants a lower, the others keep theirs
    logits[(folds == 1) & (np.arange(80) < 40), :, :] = np.where(truth[0] > 0, 0.1, -6.0)
    scores[:] = 0.0

    fit = fit_masks(logits, scores, truth, folds)

    assert fit.held_out_f1 is not None and fit.held_out_f1 < fit.f1 + LEAST_GAIN
    assert (fit.shift, fit.coupling) == (0.0, 0.0)


def test_without_folds_nothing_is_moved() -> None:
    logits, scores, truth, _ = drawn(inside=-1.0, outside=-6.0, authentic=-1.0)

    fit = fit_masks(logits, scores, truth, None)

    assert (fit.shift, fit.coupling, fit.held_out_f1, fit.held_out_alarm_area) == (0.0, 0.0, None, None)
    assert "too few scenes" in fit.why


def test_half_floats_and_parts_of_cells_are_enough() -> None:
    logits, scores, truth, folds = drawn(inside=-1.0, outside=-6.0, authentic=-1.0)
    truth[:40, 6, :6] = 0.5

    fit = fit_masks(logits.astype(np.float16), scores, truth.astype(np.float16), folds)

    assert fit.coupling > 0
    assert fit.held_out_f1 == pytest.approx(2 * 36 / (36 + 39), abs=0.02)


@pytest.mark.parametrize("kind", [slice(0, 40), slice(40, 80)])
def test_one_kind_of_picture_is_refused(kind: slice) -> None:
    logits, scores, truth, folds = (part[kind] for part in drawn(0.0, 0.0, 0.0))

    with pytest.raises(InvalidInput, match="tampered and authentic pictures"):
        fit_masks(logits, scores, truth, folds)
