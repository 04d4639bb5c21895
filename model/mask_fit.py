"""Two numbers that move the mask's logits with the picture's score: bolder where the whole picture looks manipulated.

mask_logits' = mask_logits + shift + coupling * (score_logit - reference_logit)

A moved mask marks the cells whose own logit exceeds -(shift + coupling * ...), so one picture enters the fit as two curves over
thresholds, of true and of all marked cells, and memory does not grow with the candidates tried. The method is ours. No torch.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.calibration import REVIEW_FALSE_ALARM_RATE, threshold_for
from model.cross_fit import Folds
from schemas.errors import InvalidInput

LARGEST_ALARM_AREA: Final = 0.02
"""Bound on the mean marked fraction of authentic pictures."""

LEAST_GAIN: Final = 0.005
"""Held-out gain of mean F1 below which the two numbers are not worth having."""

BOUND_SHARES: Final = (1.0, 0.85, 0.7)
"""Shares of the bound that fits aim at, in turn: the best within a bound tends to exceed it on pictures it has not seen."""

SHIFTS: Final = tuple(0.25 * step for step in range(-12, 13))
COUPLINGS: Final = tuple(0.1 * step for step in range(11))

# The least movement first: of equally good ones the first is taken.
_CANDIDATES: Final = sorted(product(SHIFTS, COUPLINGS), key=lambda pair: (pair[1], abs(pair[0]), pair[0]))

_FARTHEST_LOGIT: Final = 8.0
_LOGIT_STEP: Final = 0.025
_LEVELS: Final = round(2 * _FARTHEST_LOGIT / _LOGIT_STEP) + 1

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class MaskFit:
    """What the fit says; `shift` and `coupling` are zero where moving the mask is not worth it.

    Attributes:
        shift, coupling: for mask_logits + shift + coupling * score_logit: the reference logit is folded into the shift.
        why: the reason for these numbers, in words.
        f1, alarm_area: unmoved, at the network's grid; means over tampered and over authentic pictures.
        held_out_f1, held_out_alarm_area: moved, each picture by a fit without its fold; None where nothing can be held out.
        largest_alarm_area: the bound that every fit kept.
        n_tampered, n_authentic: pictures.
    """

    shift: float
    coupling: float
    why: str
    f1: float
    alarm_area: float
    held_out_f1: float | None
    held_out_alarm_area: float | None
    largest_alarm_area: float
    n_tampered: int
    n_authentic: int


@dataclass(frozen=True)
class _Sums:
    """F1 of tampered and alarm area of authentic pictures, summed, float64 [candidates, folds]; pictures of each, [folds]."""

    f1: Vector
    area: Vector
    n_tampered: NDArray[np.int64]
    n_authentic: NDArray[np.int64]

    def means(self, folds: NDArray[np.bool_]) -> tuple[Vector, Vector]:
        """Mean F1 and alarm area, [candidates] each, over the pictures of some folds (bool [folds])."""
        f1, area = self.f1[:, folds].sum(axis=1), self.area[:, folds].sum(axis=1)
        return f1 / self.n_tampered[folds].sum(), area / self.n_authentic[folds].sum()


def fit_masks(
    mask_logits: NDArray[np.floating[Any]],
    score_logits: Vector,
    true_masks: NDArray[np.floating[Any]],
    folds: Folds | None,
    largest_alarm_area: float = LARGEST_ALARM_AREA,
) -> MaskFit:
    """Maximise the mean F1 at 0.5 of tampered pictures while authentic ones keep within the alarm area.

    The best of a small grid over all pictures is returned if such fits, made without each picture's own fold, gain at least
    `LEAST_GAIN` on it and keep the bound there, if need be by aiming lower; or if the unmoved mask exceeds it and they mark less.

    Args:
        mask_logits: [N, M, M] before the sigmoid, any float type.
        score_logits: [N] raw image logits.
        true_masks: [N, M, M] manipulated fraction of each cell, 0..1; all zero for an authentic picture.
        folds: [N] from `model.cross_fit.assign_folds`; None where nothing can be held out, which returns zeros.
        largest_alarm_area: the bound, 0..1.

    Raises:
        InvalidInput: not both kinds of picture.
    """
    tampered = np.array([truth.any() for truth in true_masks], dtype=np.bool_)
    if tampered.all() or not tampered.any():
        raise InvalidInput(f"the mask's fit needs tampered and authentic pictures; got {tampered.sum()} and {(~tampered).sum()}")
    reference_logit = threshold_for(score_logits[~tampered], REVIEW_FALSE_ALARM_RATE)
    groups = np.zeros(len(tampered), dtype=np.int64) if folds is None else folds
    sums = _sums(mask_logits, score_logits - reference_logit, true_masks, groups)
    everything = np.ones(sums.f1.shape[1], dtype=np.bool_)
    f1, area = sums.means(everything)
    tried = [] if folds is None else [_tried(sums, share * largest_alarm_area, largest_alarm_area) for share in BOUND_SHARES]
    outcome = next((each for each in tried if each.worth), tried[0] if tried else _NOTHING_HELD_OUT)
    shift, coupling = _CANDIDATES[_best(f1, area, outcome.aim)] if outcome.worth else (0.0, 0.0)
    return MaskFit(
        shift=shift - coupling * reference_logit,
        coupling=coupling,
        why=outcome.why,
        f1=float(f1[0]),
        alarm_area=float(area[0]),
        held_out_f1=outcome.f1,
        held_out_alarm_area=outcome.area,
        largest_alarm_area=largest_alarm_area,
        n_tampered=int(tampered.sum()),
        n_authentic=int((~tampered).sum()),
    )


class _Outcome(NamedTuple):
    """Of fits that aim at an alarm area: F1 and area on held-out pictures, and whether to move the mask by them."""

    aim: float
    f1: float | None
    area: float | None
    worth: bool
    why: str


_NOTHING_HELD_OUT: Final = _Outcome(0.0, None, None, False, "not moved: too few scenes to hold any out")


def _tried(sums: _Sums, aim: float, bound: float) -> _Outcome:
    unmoved_f1, unmoved_area = (float(means[0]) for means in sums.means(np.ones(sums.f1.shape[1], dtype=np.bool_)))
    f1, area = _held_out(sums, aim)
    gain = f1 - unmoved_f1
    if area <= bound and gain >= LEAST_GAIN:
        worth, why = True, f"moved: mean F1 gains {gain:.3f} on held-out scenes"
    elif unmoved_area > bound and area < unmoved_area:
        change = f"alarm area {unmoved_area:.1%} becomes {area:.1%}"
        worth, why = True, f"moved: {change} on held-out scenes, mean F1 changes by {gain:+.3f}"
    else:
        worth, why = False, f"not moved: mean F1 changes by {gain:+.3f} on held-out scenes, at an alarm area of {area:.1%}"
    return _Outcome(aim, f1, area, worth, why)


def _held_out(sums: _Sums, bound: float) -> tuple[float, float]:
    """Mean F1 and alarm area, each fold by the best candidate of the others."""
    count = sums.f1.shape[1]
    f1 = area = 0.0
    for fold in range(count):
        chosen = _best(*sums.means(np.arange(count) != fold), bound)
        f1 += float(sums.f1[chosen, fold])
        area += float(sums.area[chosen, fold])
    return f1 / int(sums.n_tampered.sum()), area / int(sums.n_authentic.sum())


def _best(f1: Vector, area: Vector, bound: float) -> int:
    """The candidate with most F1 within the bound, of equals the least movement; the unmoved mask where none is within."""
    return int(np.where(area <= bound, f1, -1.0).argmax()) if (area <= bound).any() else 0


def _sums(mask_logits: NDArray[np.floating[Any]], excess: Vector, true_masks: NDArray[np.floating[Any]], folds: Folds) -> _Sums:
    """Picture by picture; `excess` [N] is the score logit above the reference."""
    count = int(folds.max()) + 1
    f1, area = np.zeros((len(_CANDIDATES), count)), np.zeros((len(_CANDIDATES), count))
    kinds = np.zeros((2, count), dtype=np.int64)
    shifts, couplings = np.array(_CANDIDATES).T
    for logits, truth, above, fold in zip(mask_logits, true_masks, excess.tolist(), folds.tolist(), strict=True):
        threshold = np.clip(-(shifts + couplings * above), -_FARTHEST_LOGIT, _FARTHEST_LOGIT)
        at = np.rint((threshold + _FARTHEST_LOGIT) / _LOGIT_STEP).astype(np.int64)
        marked, hit = _curves(logits.ravel(), truth.ravel())
        if truth.any():
            f1[:, fold] += 2 * hit[at] / (marked[at] + float(truth.sum()))
        else:
            area[:, fold] += marked[at] / truth.size
        kinds[int(truth.any()), fold] += 1
    return _Sums(f1, area, n_tampered=kinds[1], n_authentic=kinds[0])


def _curves(logits: NDArray[np.floating[Any]], truth: NDArray[np.floating[Any]]) -> tuple[Vector, Vector]:
    """Cells above each of the thresholds, and their manipulated part, float64 [thresholds] each, of one picture's [cells]."""
    steps = np.ceil((logits.astype(np.float64) + _FARTHEST_LOGIT) / _LOGIT_STEP)
    below = np.clip(steps, 0, _LEVELS).astype(np.int64)  # thresholds strictly below each cell's logit
    marked = np.bincount(below, minlength=_LEVELS + 1)
    hit = np.bincount(below, weights=truth.astype(np.float64), minlength=_LEVELS + 1)
    return marked[::-1].cumsum()[::-1][1:].astype(np.float64), hit[::-1].cumsum()[::-1][1:]
