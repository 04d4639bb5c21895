"""The figures of a report, against values worked out by hand and against definitions too slow to ship."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model import metrics

MASKS = arrays(np.uint8, (5, 4))
TRUTHS = arrays(np.uint8, (5, 4), elements=st.sampled_from([0, 255]))
SCORES = st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 0.9]), st.booleans()), min_size=1, max_size=12)


def mask_of(*values: int) -> np.ndarray:
    return np.array([values], dtype=np.uint8)


def test_f1_and_iou_of_a_worked_example() -> None:
    mask_orig, truth_orig = mask_of(255, 200, 128, 127, 0, 0), mask_of(255, 255, 0, 255, 0, 0)

    # TP 2 (255, 200), FP 1 (128), FN 1 (127)
    assert metrics.pixel_f1(mask_orig, truth_orig) == pytest.approx(4 / 6)
    assert metrics.iou(mask_orig, truth_orig) == pytest.approx(2 / 4)


def test_half_is_not_above_half() -> None:
    assert metrics.alarm_area(mask_of(127, 128, 255, 0)) == 0.5
    # A true mask counts above 127.5 too: only its second pixel is manipulated.
    assert metrics.pixel_f1(mask_of(0, 255), mask_of(127, 128)) == 1.0


def test_an_all_black_prediction_scores_nothing() -> None:
    """The reason for never taking the better of a map and its inverse: that would give this one 0.4."""
    truth_orig = mask_of(255, 0, 0, 0)

    assert metrics.pixel_f1(np.zeros_like(truth_orig), truth_orig) == 0.0
    assert metrics.iou(np.zeros_like(truth_orig), truth_orig) == 0.0
    assert metrics.auc(np.zeros_like(truth_orig), truth_orig) == 0.5


def test_f1_of_an_all_white_prediction_follows_from_the_area() -> None:
    truth_orig = mask_of(255, 0, 0, 0)

    assert metrics.pixel_f1(np.full_like(truth_orig, 255), truth_orig) == pytest.approx(2 * 0.25 / 1.25)


def test_figures_without_a_true_region_are_undefined() -> None:
    empty, full = mask_of(0, 0), mask_of(255, 255)

    assert metrics.pixel_f1(full, empty) is None
    assert metrics.iou(empty, empty) is None
    assert metrics.auc(mask_of(1, 2), empty) is None
    assert metrics.auc(mask_of(1, 2), full) is None


def test_wrong_sizes_and_types_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        metrics.count_pixels(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8))
    with pytest.raises(ValueError, match="uint8"):
        metrics.count_pixels(np.zeros((2, 2), np.float32), np.zeros((2, 2), np.uint8))  # type: ignore[arg-type]


@given(MASKS, TRUTHS)
def test_auc_is_the_share_of_pairs_in_order(mask_orig: np.ndarray, truth_orig: np.ndarray) -> None:
    inside, outside = mask_orig[truth_orig > 0].astype(int), mask_orig[truth_orig == 0].astype(int)
    pairs = [(a > b) + (a == b) / 2 for a, b in itertools.product(inside, outside)]

    assert metrics.auc(mask_orig, truth_orig) == (pytest.approx(np.mean(pairs)) if pairs else None)


@given(MASKS, TRUTHS)
def test_f1_and_iou_agree_with_each_other_and_with_sets(mask_orig: np.ndarray, truth_orig: np.ndarray) -> None:
    counts = metrics.count_pixels(mask_orig, truth_orig)
    said, true = mask_orig > 127.5, truth_orig > 127.5

    assert counts.alarm_area == metrics.alarm_area(mask_orig) == pytest.approx(said.mean())
    if counts.iou is not None and counts.f1 is not None:
        assert counts.iou == pytest.approx((said & true).sum() / (said | true).sum())
        assert counts.f1 == pytest.approx(2 * counts.iou / (1 + counts.iou))


def test_counts_accept_a_boolean_truth() -> None:
    mask_orig, truth_orig = mask_of(10, 200, 90), mask_of(0, 255, 255)

    assert metrics.count_pixels(mask_orig, truth_orig > 127).f1 == metrics.count_pixels(mask_orig, truth_orig).f1


def test_mask_agreement() -> None:
    assert metrics.mask_agreement(mask_of(200, 200, 0), mask_of(0, 200, 200)) == pytest.approx(1 / 3)
    assert metrics.mask_agreement(mask_of(200, 0), mask_of(0, 0)) == 0.0
    assert metrics.mask_agreement(mask_of(127, 0), mask_of(0, 100)) == 1.0


def test_image_auc_counts_ties_half() -> None:
    assert metrics.image_auc([0.1, 0.4, 0.4, 0.8], [False, False, True, True]) == pytest.approx(3.5 / 4)
    assert metrics.image_auc([0.9, 0.1], [False, True]) == 0.0
    assert metrics.image_auc([0.5, 0.5], [False, True]) == 0.5
    assert metrics.image_auc([0.5, 0.5], [True, True]) is None


@given(SCORES)
def test_image_auc_mirrors_when_the_labels_swap(rows: list[tuple[float, bool]]) -> None:
    scores, tampered = [score for score, _ in rows], [label for _, label in rows]
    area, mirrored = metrics.image_auc(scores, tampered), metrics.image_auc(scores, [not label for label in tampered])

    assert (area is None and mirrored is None) or area == pytest.approx(1 - mirrored)


def test_image_f1_and_balanced_accuracy() -> None:
    flagged, tampered = [True, True, False, False, False], [True, False, True, False, False]

    assert metrics.image_f1(flagged, tampered) == pytest.approx(2 * 1 / (2 + 2))
    assert metrics.balanced_accuracy(flagged, tampered) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert metrics.image_f1([False], [False]) is None
    assert metrics.balanced_accuracy([True], [True]) is None


def test_calibration_error_weighs_bins_by_pictures() -> None:
    # Bin 0.2..0.3: stated .25 twice, true 1 of 2, gap .25; last bin: stated 1.0, true 1, gap 0.
    assert metrics.expected_calibration_error([0.25, 0.25, 1.0], [True, False, True]) == pytest.approx(2 / 3 * 0.25)
    assert metrics.expected_calibration_error([], []) is None


def test_mean_passes_over_what_is_undefined() -> None:
    assert metrics.mean_defined([1.0, None, 0.0]) == 0.5
    assert metrics.mean_defined([None]) is None


def test_bootstrap_of_a_mean_is_repeatable_and_near_the_normal_interval() -> None:
    values = np.random.default_rng(3).random(200).tolist()
    low, high = metrics.bootstrap_mean_interval(values) or (0.0, 0.0)
    expected = 1.96 * np.std(values) / np.sqrt(200)

    assert (low, high) == metrics.bootstrap_mean_interval(values)
    assert (low, high) != metrics.bootstrap_mean_interval(values, seed=1)
    assert low < np.mean(values) < high
    assert (high - low) / 2 == pytest.approx(expected, rel=0.1)
    assert metrics.bootstrap_mean_interval([0.5]) is None


def test_bootstrap_of_the_auc_keeps_both_kinds() -> None:
    scores, tampered = [0.1, 0.6, 0.3, 0.8, 0.7, 0.2], [False, False, False, True, True, True]
    low, high = metrics.bootstrap_auc_interval(scores, tampered, resamples=200) or (0.0, 0.0)

    assert 0 <= low < (metrics.image_auc(scores, tampered) or 0) < high <= 1
    assert metrics.bootstrap_auc_interval([0.1, 0.2, 0.3], [True, False, False]) is None


def test_share_interval_of_none_seen_is_not_certainty() -> None:
    low, high = metrics.share_interval(0, 20) or (1.0, 0.0)

    assert low == 0.0
    assert high == pytest.approx(0.1611, abs=1e-4)  # Wilson, 0 of 20
    assert metrics.share_interval(20, 20) == pytest.approx((1 - 0.1611, 1.0), abs=1e-4)
    assert metrics.share_interval(0, 0) is None
