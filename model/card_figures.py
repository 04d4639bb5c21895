"""Calibration of a student, and figures for its card that no picture's own calibration has flattered. No torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from model.calibration import calibrate, held_out, score, verdict
from model.card import Calibration
from model.compress import PROFILES
from model.cross_fit import FOLDS, assign_folds
from model.evaluation import measure
from model.evaluation_data import EvaluationItem
from model.evaluation_report import Outcome, summary
from model.predictor import Predictor
from model.score_meaning import RELIABILITY, reliability_table
from model.sweeps import AS_IS, variants

HELD_OUT: Final = (
    f"each picture is judged by a calibration fitted without its scene, in {FOLDS} folds of scenes; the calibration in this card "
    "is fitted on all of them"
)
IN_SAMPLE: Final = (
    "fitted and judged on the same pictures, because too few scenes could be held out: take these figures as too good"
)


def calibrated_figures(
    predictor: Predictor, items: Sequence[EvaluationItem], scenes: Mapping[Path, str], progress: Callable[[int, int], None]
) -> tuple[Calibration, dict[str, Any]]:
    """Measure a student on its validation pictures and calibrate it there.

    Verdicts, calibration error and all that follows from them are of calibrations that have not seen the picture's scene;
    localization and the AUC need no calibration.

    Args:
        predictor: the student; the calibration in its card is not used.
        items: validation pictures of both kinds.
        scenes: of each picture, by its path.
        progress: called with (pictures done, pictures in all).

    Returns:
        The calibration, fitted on all pictures, and the figures as the card keeps them.

    Raises:
        InvalidInput: not both kinds of picture, or masks that do not fit.
    """
    measurement = measure(predictor, items, variants(tuple(PROFILES)), progress)
    clean = [outcome for outcome in measurement.outcomes if outcome.variant == AS_IS]
    logits, tampered = [outcome.score_logit for outcome in clean], [outcome.tampered for outcome in clean]
    calibration = calibrate(logits, tampered)
    folds = assign_folds([scenes[outcome.image] for outcome in clean], tampered)
    judges = [calibration] * len(clean) if folds is None else held_out(logits, tampered, folds)
    by_image = {outcome.image: judge for outcome, judge in zip(clean, judges, strict=True)}
    outcomes = [_judged(outcome, by_image[outcome.image]) for outcome in measurement.outcomes]
    report = summary(replace(measurement, outcomes=outcomes))
    how = IN_SAMPLE if folds is None else HELD_OUT
    figures = {"calibration": how} | report.model_dump(mode="json", exclude={"duration_s", "sweeps"})
    judged = [(outcome.score, outcome.tampered) for outcome in outcomes if outcome.variant == AS_IS]
    return calibration, figures | {RELIABILITY: reliability_table(judged)}


def _judged(outcome: Outcome, calibration: Calibration) -> Outcome:
    probability = score(outcome.score_logit, calibration)
    return replace(outcome, score=probability, verdict=verdict(probability, calibration))
