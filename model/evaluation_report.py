"""What an evaluation says: the figures of one run, and how they follow from the single pictures' outcomes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field

from model import metrics
from model.calibration import VerdictWord
from model.pointing import Pointing
from model.sweeps import AS_IS, SWEEPS, Variant

SIMULATED = "profiles are fixed simulations of our choice (long side / JPEG quality), not round trips through the platforms"
Interval = tuple[float, float]


@dataclass(frozen=True)
class Outcome:
    """How one picture came out under one variant.

    Attributes:
        variant: name of the variant, "none" for the picture as it is.
        f1, iou, auc: pixel metrics at the picture's own size; None for authentic pictures, the AUC also for a mask of everything.
        alarm_area: fraction of pixels above 0.5.
        score_logit: the network's raw logit.
        score: calibrated probability of manipulation.
        pointing: how well the mask points at the boxes people drew; None where there are none.
    """

    image: Path
    set_name: str
    tampered: bool
    variant: str
    f1: float | None
    iou: float | None
    auc: float | None
    alarm_area: float
    score_logit: float
    score: float
    verdict: VerdictWord
    pointing: Pointing | None = None


class Failure(BaseModel):
    """A picture that has no figures, and why."""

    image: str
    code: str
    message: str


class SetFigures(BaseModel):
    """Figures over some pictures: localization on the tampered ones, false alarms on the authentic ones.

    A figure over no pictures is null. Each key of `intervals` names a figure with its 95 % interval: percentile bootstrap
    over pictures for means, Wilson for shares.
    """

    n_tampered: int
    f1: float | None = Field(description="pixel F1 at 0.5, mean over tampered pictures")
    iou: float | None
    auc: float | None = Field(description="pixel ROC AUC, mean over tampered pictures")
    tampered_flag_rate: float | None = Field(description="share of tampered pictures with verdict flag")
    tampered_review_rate: float | None = Field(description="share of tampered pictures with verdict review")
    n_authentic: int
    fa_area: float | None = Field(description="mean fraction of an authentic picture above 0.5")
    fa_rate: float | None = Field(description="share of authentic pictures with verdict flag")
    review_rate: float | None = Field(description="share of authentic pictures with verdict review")
    intervals: dict[str, Interval | None]


class ImageFigures(BaseModel):
    """Figures of the score over tampered and authentic pictures; null where a kind is missing."""

    image_auc: float | None = Field(description="ROC AUC of the raw logits")
    image_auc_interval: Interval | None
    image_f1: float | None = Field(description="at the flag threshold")
    balanced_accuracy: float | None = Field(description="at the flag threshold")
    ece: float | None = Field(description=f"expected calibration error, {metrics.ECE_BINS} equal-width bins")


class VariantFigures(ImageFigures):
    """One variant over all sets."""

    overall: SetFigures
    f1_kept: float | None = Field(description="f1 as a share of the f1 of the same pictures as they are; null where that is 0")


class SweepPoint(VariantFigures):
    """One step of a sweep."""

    value: float = Field(description="JPEG quality, or the factor of both sides")


class Subject(BaseModel):
    """What was measured, on what."""

    model_version: str
    checkpoint_sha256: str | None
    engine: str
    input_size: int
    dataset_sha256: str = Field(description="over label, picture and mask bytes of every picture measured, in no order")
    n_pictures: int


class Report(ImageFigures, Subject):
    """One evaluation. `sets`, `overall` and the figures of the score are of the pictures as they are (variant none)."""

    sets: dict[str, SetFigures]
    overall: SetFigures
    set_mean_f1: float | None = Field(description="mean over sets of their f1, each set counting the same")
    profiles: dict[str, dict[str, float]] = Field(description="pixel F1 by profile and set")
    profile_figures: dict[str, VariantFigures]
    profiles_note: str = SIMULATED
    sweeps: dict[str, list[SweepPoint]] = Field(description="by sweep, jpeg or resize, in ascending steps")
    errors: list[Failure]
    duration_s: float


@dataclass(frozen=True)
class Measurement:
    """What a run of the protocol saw, before it is summed up.

    Attributes:
        subject: what was measured, on what.
        variants: what the pictures were put through beside being measured as they are.
        outcomes: one per picture and variant.
        failures: pictures without outcomes.
        duration_s: wall-clock time.
    """

    subject: Subject
    variants: tuple[Variant, ...]
    outcomes: list[Outcome]
    failures: list[Failure]
    duration_s: float


def summary(measurement: Measurement) -> Report:
    """All figures of a measurement."""
    names = [AS_IS, *(variant.name for variant in measurement.variants)]
    groups: dict[str, list[Outcome]] = {name: [] for name in names}
    for outcome in measurement.outcomes:
        groups[outcome.variant].append(outcome)
    clean = groups[AS_IS]
    sets = {name: set_figures(group) for name, group in by_set(clean).items()}
    overall = set_figures(clean)
    profiles = [AS_IS, *(variant.name for variant in measurement.variants if variant.kind == "profile")]
    return Report(
        **measurement.subject.model_dump(),
        **image_figures(clean).model_dump(),
        sets=sets,
        overall=overall,
        set_mean_f1=metrics.mean_defined(figures.f1 for figures in sets.values()),
        profiles={name: set_f1(groups[name]) for name in profiles},
        profile_figures={name: variant_figures(groups[name], overall.f1) for name in profiles},
        sweeps=_sweeps(measurement.variants, groups, overall.f1),
        errors=measurement.failures,
        duration_s=measurement.duration_s,
    )


def _sweeps(variants: Sequence[Variant], groups: dict[str, list[Outcome]], clean_f1: float | None) -> dict[str, list[SweepPoint]]:
    """Points by sweep, of the sweeps that were asked for."""
    points = {
        sweep: [
            SweepPoint(value=variant.value, **variant_figures(groups[variant.name], clean_f1).model_dump())
            for variant in variants
            if variant.kind == sweep
        ]
        for sweep in SWEEPS
    }
    return {sweep: steps for sweep, steps in points.items() if steps}


def set_figures(outcomes: Sequence[Outcome]) -> SetFigures:
    """Figures over outcomes of one variant."""
    tampered = [outcome for outcome in outcomes if outcome.tampered]
    authentic = [outcome for outcome in outcomes if not outcome.tampered]
    means: dict[str, list[float]] = {
        "f1": _defined(tampered, lambda outcome: outcome.f1),
        "iou": _defined(tampered, lambda outcome: outcome.iou),
        "auc": _defined(tampered, lambda outcome: outcome.auc),
        "fa_area": _defined(authentic, lambda outcome: outcome.alarm_area),
    }
    groups: dict[str, tuple[Sequence[Outcome], VerdictWord]] = {
        "tampered_flag_rate": (tampered, "flag"),
        "tampered_review_rate": (tampered, "review"),
        "fa_rate": (authentic, "flag"),
        "review_rate": (authentic, "review"),
    }
    shares = {name: (_count(group, word), len(group)) for name, (group, word) in groups.items()}
    figures = {name: metrics.mean_defined(values) for name, values in means.items()}
    figures |= {name: count / total if total else None for name, (count, total) in shares.items()}
    intervals = {name: metrics.bootstrap_mean_interval(values) for name, values in means.items()}
    intervals |= {name: metrics.share_interval(*share) for name, share in shares.items()}
    return SetFigures(n_tampered=len(tampered), n_authentic=len(authentic), intervals=intervals, **figures)


def image_figures(outcomes: Sequence[Outcome]) -> ImageFigures:
    """Figures of the score over outcomes of one variant.

    The AUC is of the raw logits: probabilities near 0 and 1 round to ties, and those of held-out pictures come from several
    calibrations, which do not rank pictures across each other.
    """
    logits, scores = [outcome.score_logit for outcome in outcomes], [outcome.score for outcome in outcomes]
    tampered = [outcome.tampered for outcome in outcomes]
    flagged = [outcome.verdict == "flag" for outcome in outcomes]
    return ImageFigures(
        image_auc=metrics.image_auc(logits, tampered),
        image_auc_interval=metrics.bootstrap_auc_interval(logits, tampered),
        image_f1=metrics.image_f1(flagged, tampered),
        balanced_accuracy=metrics.balanced_accuracy(flagged, tampered),
        ece=metrics.expected_calibration_error(scores, tampered),
    )


def by_set(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Outcomes by set, sets in order of first appearance."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.set_name, []).append(outcome)
    return groups


def set_f1(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Mean pixel F1 by set, of the sets with tampered pictures."""
    means = {name: metrics.mean_defined(outcome.f1 for outcome in group) for name, group in by_set(outcomes).items()}
    return {name: mean for name, mean in means.items() if mean is not None}


def variant_figures(outcomes: Sequence[Outcome], clean_f1: float | None) -> VariantFigures:
    """All sets together under one variant.

    Args:
        outcomes: of that variant.
        clean_f1: mean F1 of the same pictures as they are.
    """
    overall = set_figures(outcomes)
    kept = overall.f1 / clean_f1 if overall.f1 is not None and clean_f1 else None
    return VariantFigures(overall=overall, f1_kept=kept, **image_figures(outcomes).model_dump())


def _defined(outcomes: Sequence[Outcome], value: Callable[[Outcome], float | None]) -> list[float]:
    return [number for outcome in outcomes if (number := value(outcome)) is not None]


def _count(outcomes: Sequence[Outcome], word: VerdictWord) -> int:
    return sum(outcome.verdict == word for outcome in outcomes)
