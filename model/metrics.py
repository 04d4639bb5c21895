"""How a prediction is judged: per-picture pixel metrics, metrics over pictures, and their intervals.

Pixel metrics compare an 8-bit probability mask with a true mask at the picture's own size. "Above 0.5" always means a
value above 127.5, so every one of them, the AUC included, is exact from two 256-bin histograms: `PixelCounts`.
A prediction is never inverted and never stretched per picture. Undefined figures are `None`, never 0.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Mask = NDArray[np.uint8]

HALF_UINT8 = 127
"""The largest 8-bit value that is not above 0.5 (127.5)."""

ECE_BINS = 10
"""Equal-width bins of the expected calibration error: few, because a validation set has hundreds of pictures, not thousands."""

_LEVELS = 256
_Z_95 = 1.959963984540054


@dataclass(frozen=True)
class PixelCounts:
    """How often each 8-bit value was predicted, inside and outside the true mask: `inside`, `outside` int64 [256]."""

    inside: NDArray[np.int64]
    outside: NDArray[np.int64]

    @property
    def true_positive(self) -> int:
        return int(self.inside[HALF_UINT8 + 1 :].sum())

    @property
    def false_positive(self) -> int:
        return int(self.outside[HALF_UINT8 + 1 :].sum())

    @property
    def false_negative(self) -> int:
        return int(self.inside[: HALF_UINT8 + 1].sum())

    @property
    def f1(self) -> float | None:
        """2 TP / (2 TP + FP + FN); None if the true mask is empty, where F1 is not defined."""
        if not self.inside.any():
            return None
        return 2 * self.true_positive / (2 * self.true_positive + self.false_positive + self.false_negative)

    @property
    def iou(self) -> float | None:
        """TP / (TP + FP + FN); None if the true mask is empty."""
        if not self.inside.any():
            return None
        return self.true_positive / (self.true_positive + self.false_positive + self.false_negative)

    @property
    def auc(self) -> float | None:
        """Area under the ROC curve over pixels; None if the true mask is empty or covers everything."""
        return _auc_of_counts(self.inside, self.outside)

    @property
    def alarm_area(self) -> float:
        """Fraction of all pixels predicted above 0.5: on an authentic picture, its false-alarm area."""
        total = int(self.inside.sum() + self.outside.sum())
        return (self.true_positive + self.false_positive) / total


def count_pixels(mask_orig: Mask, truth_orig: NDArray[np.uint8] | NDArray[np.bool_]) -> PixelCounts:
    """Count predicted values inside and outside the true mask.

    Args:
        mask_orig: uint8 [H, W], predicted probability x 255, the picture's own pixels.
        truth_orig: uint8 [H, W], manipulated above 127.5; or bool [H, W].

    Raises:
        ValueError: the two differ in size, or the prediction is not uint8.
    """
    if mask_orig.dtype != np.uint8:
        raise ValueError(f"the predicted mask must be uint8 (probability x 255), not {mask_orig.dtype}")
    if mask_orig.shape != truth_orig.shape:
        raise ValueError(f"prediction {mask_orig.shape} and true mask {truth_orig.shape} differ in size")
    truth = truth_orig if truth_orig.dtype == np.bool_ else truth_orig > HALF_UINT8
    every = np.bincount(mask_orig.ravel(), minlength=_LEVELS)
    inside = np.bincount(mask_orig[truth], minlength=_LEVELS)
    return PixelCounts(inside=inside, outside=every - inside)


def pixel_f1(mask_orig: Mask, truth_orig: Mask) -> float | None:
    """F1 at 0.5 of one picture; arguments as for `count_pixels`. None if the true mask is empty."""
    return count_pixels(mask_orig, truth_orig).f1


def iou(mask_orig: Mask, truth_orig: Mask) -> float | None:
    """Intersection over union at 0.5 of one picture; arguments as for `count_pixels`. None if the true mask is empty."""
    return count_pixels(mask_orig, truth_orig).iou


def auc(mask_orig: Mask, truth_orig: Mask) -> float | None:
    """Pixel ROC AUC of one picture, exact over its 8-bit values; None unless the true mask has both kinds of pixel."""
    return count_pixels(mask_orig, truth_orig).auc


def alarm_area(mask: Mask) -> float:
    """Fraction of the pixels of a uint8 mask (any space) that lie above 0.5; on an authentic picture all of it is false alarm."""
    return int(np.count_nonzero(mask > HALF_UINT8)) / mask.size


def mask_agreement(mask_a_net: Mask, mask_b_net: Mask) -> float:
    """IoU of two predictions, both above 0.5; 1.0 if both are empty.

    Args:
        mask_a_net, mask_b_net: uint8 [M, M], probability x 255 at network resolution.
    """
    above_a, above_b = mask_a_net > HALF_UINT8, mask_b_net > HALF_UINT8
    union = np.count_nonzero(above_a | above_b)
    return int(np.count_nonzero(above_a & above_b)) / int(union) if union else 1.0


def image_auc(scores: ArrayLike, tampered: ArrayLike) -> float | None:
    """ROC AUC over pictures by the rank statistic: the chance that a tampered picture outscores an authentic one, ties half.

    Args:
        scores: [N] any increasing measure of suspicion.
        tampered: [N] true where the picture was manipulated.

    Returns:
        The AUC, or None without pictures of both kinds.
    """
    truth = np.asarray(tampered, dtype=np.bool_)
    values, ranks = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)
    of_tampered = np.bincount(ranks[truth], minlength=values.size)
    of_authentic = np.bincount(ranks[~truth], minlength=values.size)
    return _auc_of_counts(of_tampered, of_authentic)


def image_f1(flagged: ArrayLike, tampered: ArrayLike) -> float | None:
    """F1 of "flagged" as a detector of tampered pictures, both [N] bool; None without a tampered picture."""
    said, truth = np.asarray(flagged, dtype=np.bool_), np.asarray(tampered, dtype=np.bool_)
    if not truth.any():
        return None
    return 2 * int((said & truth).sum()) / int(said.sum() + truth.sum())


def balanced_accuracy(flagged: ArrayLike, tampered: ArrayLike) -> float | None:
    """Mean of the shares of tampered pictures flagged and authentic ones not, both [N] bool; None unless both kinds exist."""
    said, truth = np.asarray(flagged, dtype=np.bool_), np.asarray(tampered, dtype=np.bool_)
    if truth.all() or not truth.any():
        return None
    return float((said[truth].mean() + (~said[~truth]).mean()) / 2)


def expected_calibration_error(probabilities: ArrayLike, tampered: ArrayLike, bins: int = ECE_BINS) -> float | None:
    """Mean gap between stated probability and observed share over equal-width bins, weighted by pictures.

    Args:
        probabilities: [N] calibrated probability of manipulation.
        tampered: [N] true where the picture was manipulated.
        bins: number of equal-width bins over 0..1; 1.0 falls in the last.

    Returns:
        The error in 0..1, or None without pictures. Formula: Guo et al., "On Calibration of Modern Neural Networks", 2017.
    """
    prob, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(tampered, dtype=np.float64)
    if not prob.size:
        return None
    index = np.minimum((prob * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(index, weights=truth, minlength=bins) - np.bincount(index, weights=prob, minlength=bins)
    return float(np.abs(gaps).sum() / prob.size)


def mean_defined(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are not None; None if there are none."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def bootstrap_mean_interval(values: Sequence[float], resamples: int = 2000, seed: int = 0) -> tuple[float, float] | None:
    """95 % percentile bootstrap interval of a mean over pictures; None below two values. The seed makes it repeatable."""
    if len(values) < 2:
        return None
    array, rng = np.asarray(values, dtype=np.float64), np.random.default_rng(seed)
    means = [array[rng.integers(0, array.size, array.size)].mean() for _ in range(resamples)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def bootstrap_auc_interval(
    scores: ArrayLike, tampered: ArrayLike, resamples: int = 1000, seed: int = 0
) -> tuple[float, float] | None:
    """95 % percentile bootstrap interval of `image_auc`, the two kinds of picture resampled apart; None unless two of each."""
    values, truth, rng = np.asarray(scores, dtype=np.float64), np.asarray(tampered, dtype=np.bool_), np.random.default_rng(seed)
    groups = values[truth], values[~truth]
    if min(group.size for group in groups) < 2:
        return None
    labels = np.repeat([True, False], [group.size for group in groups])
    drawn = (np.concatenate([rng.choice(group, group.size) for group in groups]) for _ in range(resamples))
    low, high = np.percentile([area for sample in drawn if (area := image_auc(sample, labels)) is not None], [2.5, 97.5])
    return float(low), float(high)


def share_interval(count: int, total: int) -> tuple[float, float] | None:
    """95 % Wilson interval of a share: a bootstrap of no alarm in 20 pictures would claim 0 for certain. None of nothing."""
    if not total:
        return None
    share, shrink = count / total, 1 + _Z_95**2 / total
    centre = (share + _Z_95**2 / (2 * total)) / shrink
    half = _Z_95 * float(np.sqrt(share * (1 - share) / total + _Z_95**2 / (4 * total**2))) / shrink
    return (centre - half if count else 0.0), (centre + half if count < total else 1.0)


def _auc_of_counts(positives: NDArray[np.int64], negatives: NDArray[np.int64]) -> float | None:
    """Mann-Whitney statistic from counts per ascending value: pairs in the right order plus half the ties, over all pairs."""
    n_positive, n_negative = int(positives.sum()), int(negatives.sum())
    if not n_positive or not n_negative:
        return None
    below = np.cumsum(negatives) - negatives
    # 2 x wins stays an exact integer: at most 2 x (10^8 pixels)^2 < 2^63.
    doubled_wins = int((positives * (2 * below + negatives)).sum())
    return doubled_wins / (2 * n_positive * n_negative)
