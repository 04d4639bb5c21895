"""From a raw image logit to a probability, and from a probability to a verdict.

probability = sigmoid(score_logit / temperature + bias), the two numbers fitted on validation scenes (J. Platt,
"Probabilistic Outputs for Support Vector Machines", 1999). A picture gets a verdict if it scores *strictly above* the
verdict's threshold, which is set so that an authentic picture *not among those it was set on* does so with at most the
stated chance (`threshold_for`). The probability holds for the validation pictures' own share of tampered ones.
"""

import math
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.card import Calibration
from model.cross_fit import Folds
from schemas.errors import InvalidInput

VerdictWord = Literal["pass", "review", "flag"]

REVIEW_FALSE_ALARM_RATE: Final = 0.05
FLAG_FALSE_ALARM_RATE: Final = 0.01

# A logit that says nothing, or the wrong thing, is flattened (temperature 100) but never turned round.
_MIN_SLOPE: Final = 0.01
# Weight of the pull towards (slope 1, bias 0), in pictures' worth of loss: it decides only where the data are separable.
_PRIOR_WEIGHT: Final = 0.1
_MAX_STEPS: Final = 100

Vector = NDArray[np.float64]


def score(score_logit: float, calibration: Calibration) -> float:
    """Calibrated probability, 0..1, that the picture was manipulated."""
    return _probability(score_logit, calibration.temperature, calibration.bias)


def verdict(score: float, calibration: Calibration) -> VerdictWord:
    """What a moderator should do: look first (`flag`), look when there is time (`review`), or nothing (`pass`).

    Args:
        score: a calibrated probability, from `score`.
        calibration: the thresholds; a score equal to one is not above it.
    """
    if score > calibration.flag_threshold:
        return "flag"
    return "review" if score > calibration.review_threshold else "pass"


def calibrate(
    score_logits: ArrayLike,
    tampered: ArrayLike,
    review_false_alarm_rate: float = REVIEW_FALSE_ALARM_RATE,
    flag_false_alarm_rate: float = FLAG_FALSE_ALARM_RATE,
) -> Calibration:
    """Fit probability and thresholds on validation pictures.

    Args:
        score_logits: [N] raw image logits.
        tampered: [N] true where the picture was manipulated.
        review_false_alarm_rate: largest chance of a new authentic picture to score above the review threshold.
        flag_false_alarm_rate: the same for the flag threshold; at most the review rate.

    Raises:
        InvalidInput: not both kinds of picture, a logit that is not finite, or rates out of order.
    """
    logits, truth = np.asarray(score_logits, dtype=np.float64), np.asarray(tampered, dtype=np.bool_)
    if truth.all() or not truth.any():
        raise InvalidInput(f"calibration needs tampered and authentic pictures; got {truth.sum()} and {(~truth).sum()}")
    if not np.isfinite(logits).all():
        raise InvalidInput("calibration got a score logit that is not a finite number; the student's training diverged")
    if not 0 <= flag_false_alarm_rate <= review_false_alarm_rate < 1:
        raise InvalidInput("false-alarm rates must satisfy 0 <= flag <= review < 1")
    slope, bias = fit_platt(logits, truth)
    temperature = 1 / slope
    authentic = [_probability(logit, temperature, bias) for logit in logits[~truth].tolist()]
    return Calibration(
        temperature=temperature,
        bias=bias,
        review_threshold=threshold_for(authentic, review_false_alarm_rate),
        flag_threshold=threshold_for(authentic, flag_false_alarm_rate),
        review_false_alarm_rate=review_false_alarm_rate,
        flag_false_alarm_rate=flag_false_alarm_rate,
    )


def held_out(score_logits: ArrayLike, tampered: ArrayLike, folds: Folds) -> list[Calibration]:
    """For each picture the calibration fitted without its fold, at the default rates.

    Args:
        score_logits: [N] raw image logits.
        tampered: [N] true where the picture was manipulated.
        folds: [N] from `model.cross_fit.assign_folds`.

    Raises:
        InvalidInput: as `calibrate`.
    """
    logits, truth = np.asarray(score_logits, dtype=np.float64), np.asarray(tampered, dtype=np.bool_)
    fits = {fold: calibrate(logits[folds != fold], truth[folds != fold]) for fold in np.unique(folds).tolist()}
    return [fits[fold] for fold in folds.tolist()]


def threshold_for(authentic_scores: ArrayLike, false_alarm_rate: float) -> float:
    """The threshold that a new authentic picture scores strictly above with at most this chance.

    The k-th highest of N scores, k = floor(rate (N + 1)): a further picture of the same kind is as likely to fall into any of
    the N + 1 gaps between them, so it lies above with chance k / (N + 1) (split conformal prediction; Vovk, Gammerman and
    Shafer, "Algorithmic Learning in a Random World", 2005). The share of the N themselves that lies above is (k - 1) / N: taking
    k = rate N + 1, which uses the rate up on them, was measured to exceed it on held-out scenes. With fewer than 1 / rate - 1
    scores the threshold is the highest one, and the chance 1 / (N + 1) is above the rate.

    Args:
        authentic_scores: [N] probabilities, or logits, of authentic pictures, N at least 1.
        false_alarm_rate: the chance, at least 0 and below 1.
    """
    descending = np.sort(np.asarray(authentic_scores, dtype=np.float64))[::-1]
    rank = math.floor(false_alarm_rate * (descending.size + 1) + 1e-9)  # in floats, 0.29 * 100 is a little less than 29
    return float(descending[max(rank, 1) - 1])


def fit_platt(score_logits: Vector, tampered: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and bias of the regularised logistic fit, by damped Newton steps; the slope stays at least 0.01.

    Minimises sum of cross-entropies + w/2 ((slope - 1)^2 + bias^2), which is convex; if the free minimum has a smaller slope
    than allowed, the constrained one lies on that bound and the bias is fitted alone.

    Args:
        score_logits: [N] finite raw logits.
        tampered: [N] bool.
    """
    design = np.stack([score_logits, np.ones_like(score_logits)], axis=1)
    truth, start = tampered.astype(np.float64), np.array([1.0, 0.0])
    slope, bias = _minimise(design, truth, start, free=np.array([True, True]))
    if slope < _MIN_SLOPE:
        slope, bias = _minimise(design, truth, np.array([_MIN_SLOPE, bias]), free=np.array([False, True]))
    return float(slope), float(bias)


def _minimise(design: Vector, truth: Vector, start: Vector, free: NDArray[np.bool_]) -> Vector:
    """Newton with step halving over the free ones of the two parameters (design [N, 2], truth [N], start [2], free [2])."""
    parameters, loss = start, _loss(start, design, truth)
    for _ in range(_MAX_STEPS):
        prob = _sigmoid(design @ parameters)
        gradient = design.T @ (prob - truth) + _PRIOR_WEIGHT * (parameters - [1.0, 0.0])
        hessian = (design * (prob * (1 - prob))[:, None]).T @ design + _PRIOR_WEIGHT * np.eye(2)
        step = np.zeros(2)
        step[free] = np.linalg.solve(hessian[np.ix_(free, free)], gradient[free])
        while (trial := _loss(parameters - step, design, truth)) > loss:
            step /= 2
        parameters, loss = parameters - step, trial
        if np.abs(step).max() < 1e-10:
            break
    return parameters


def _loss(parameters: Vector, design: Vector, truth: Vector) -> float:
    logits = design @ parameters
    pull = _PRIOR_WEIGHT / 2 * float(((parameters - [1.0, 0.0]) ** 2).sum())
    return float((np.logaddexp(0.0, logits) - truth * logits).sum()) + pull


def _sigmoid(logits: Vector) -> Vector:
    """The logistic function without overflow for large negative logits."""
    return np.exp(-np.logaddexp(0.0, -logits))


def _probability(score_logit: float, temperature: float, bias: float) -> float:
    """One picture's probability. The thresholds are set by this very function: numpy's exp may differ in the last bit."""
    logit = score_logit / temperature + bias
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))
