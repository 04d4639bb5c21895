"""The promotion rule: a pure function of how candidate and live model did on the same held-out pictures.

A candidate is promoted when it is surely better in pixel F1 and, for everything else a moderator would notice, surely not worse
by more than a stated margin: the interval of the difference, from a paired bootstrap over clusters, decides, not the difference.
Sources and annotators are too small for that; there the difference itself is held against a wider margin. Whatever cannot
be judged rejects: too few pictures, other pictures, a figure that is no number, the same weights.

Making the candidate better on any picture never turns "promoted" into "rejected". That is why calibration is judged by the
Brier score: the calibration error over bins can rise when every score moves towards the truth, so it is told, not judged.
"""

import math
from collections.abc import Sequence

from model.metrics import expected_calibration_error
from model.sweeps import AS_IS
from scheduler import verdict_words
from scheduler.checks import Check, Decision
from scheduler.comparisons import Compared, area_as_is, compared_figures, difference, f1_of
from scheduler.groups import worst_group
from scheduler.scores import PictureScores, StudentScores
from scheduler.sufficiency import shortages
from schemas.learning_settings import PromotionSettings


def decide(candidate: StudentScores, live: StudentScores, settings: PromotionSettings, seed: int = 0) -> Decision:
    """Hold a candidate against the live model.

    Args:
        candidate, live: measured on the same pictures, in any order.
        settings: margins, least counts and the confidence of the intervals.
        seed: of the bootstrap.
    """
    ours = sorted(candidate.pictures, key=lambda picture: picture.sha256)
    theirs = sorted(live.pictures, key=lambda picture: picture.sha256)
    checks = [_same_pictures(candidate, live, ours, theirs), _another_model(candidate, live)]
    checks += [_all_numbers(candidate, live), _enough(ours, settings)]
    if all(check.passed for check in checks):
        checks.append(_better(ours, theirs, settings, seed))
        checks += [_not_worse(each, ours, theirs, settings, seed) for each in compared_figures(ours, settings)]
        checks += _no_group_worse(ours, theirs, settings)
        checks += _serving(candidate, live, settings)
    promote = all(check.passed for check in checks)
    return Decision(promote=promote, checks=tuple(checks), summary=verdict_words.summary(promote, checks))


def _same_pictures(
    candidate: StudentScores, live: StudentScores, ours: Sequence[PictureScores], theirs: Sequence[PictureScores]
) -> Check:
    same = [each.facts for each in ours] == [each.facts for each in theirs] and set(candidate.failures) == set(live.failures)
    once = len({each.sha256 for each in ours}) == len(ours)
    alike = all(each.complete and set(each.alarm_area) == set(ours[0].alarm_area) for each in ours)
    passed = same and once and alike
    said = "measured on the same pictures" if passed else "the two were not measured alike on the same pictures, each once"
    failed = f"; {len(live.failures)} could not be measured with either" if passed and live.failures else ""
    return Check(name="same pictures", passed=passed, sentence=said + failed)


def _another_model(candidate: StudentScores, live: StudentScores) -> Check:
    differ = candidate.weights_sha256 != live.weights_sha256
    said = "its weights differ from the live model's" if differ else f"it is the live model {live.version} itself"
    return Check(name="another model", passed=differ, sentence=said)


def _all_numbers(candidate: StudentScores, live: StudentScores) -> Check:
    """Parity may be missing for the live model, whose export is serving already."""
    bad = []
    for student, others in ((candidate, [candidate.parity, candidate.ms_per_picture]), (live, [live.ms_per_picture])):
        numbers = [number for picture in student.pictures for number in picture.numbers]
        count = sum(number is None or not math.isfinite(number) for number in (*numbers, *others))
        bad += [f"{count} figures of {student.version} are missing or not finite numbers"] if count else []
    return Check(name="all numbers", passed=not bad, sentence="; ".join(bad) or "all figures are finite numbers")


def _enough(pictures: Sequence[PictureScores], settings: PromotionSettings) -> Check:
    said = "; ".join(shortages(pictures, settings))
    return Check(name="enough pictures", passed=not said, sentence=said or f"{len(pictures)} held-out pictures are enough")


def _better(ours: Sequence[PictureScores], theirs: Sequence[PictureScores], settings: PromotionSettings, seed: int) -> Check:
    """Surely above zero, and by at least the least gain."""
    f1 = Compared("f1", "pixel F1", True, f1_of(AS_IS), 1, settings.least_gain)
    check, interval, n = difference(f1, ours, theirs, settings, seed)
    sure = interval is not None and interval.low > 0
    gained = check.difference is not None and check.difference >= settings.least_gain
    said = verdict_words.gain(check.live, check.candidate, check.difference, interval, n, settings, sure)
    return check.model_copy(update={"passed": sure and gained, "sentence": said})


def _not_worse(
    compared: Compared, ours: Sequence[PictureScores], theirs: Sequence[PictureScores], settings: PromotionSettings, seed: int
) -> Check:
    check, interval, n = difference(compared, ours, theirs, settings, seed)
    worst = None if interval is None else interval.low if compared.sign > 0 else -interval.high
    passed = worst is not None and worst >= -compared.margin
    said = verdict_words.change(compared.words, check.live, check.candidate, check.difference, interval, n, settings.confidence)
    said += "" if passed else f": {verdict_words.loss(check.difference, interval, n, compared.sign, compared.margin)}"
    if compared.name == "brier":
        said += _calibration_errors(ours, theirs)
    return check.model_copy(update={"passed": passed, "sentence": said})


def _calibration_errors(ours: Sequence[PictureScores], theirs: Sequence[PictureScores]) -> str:
    before, after = (
        expected_calibration_error([each.score for each in pictures], [each.tampered for each in pictures])
        for pictures in (theirs, ours)
    )
    return f" (calibration error {verdict_words.number(before)} to {verdict_words.number(after)}, not judged)"


def _no_group_worse(ours: Sequence[PictureScores], theirs: Sequence[PictureScores], settings: PromotionSettings) -> list[Check]:
    """The source or annotator that lost most, in F1 and in false-alarm area."""
    checks = []
    for name, words, tampered, sign in (
        ("worst group f1", "pixel F1", True, 1),
        ("worst group area", "false-alarm area", False, -1),
    ):
        figure = f1_of(AS_IS) if tampered else area_as_is
        pairs = [(mine, other) for mine, other in zip(ours, theirs, strict=True) if mine.tampered == tampered]
        group = worst_group(pairs, figure, sign, settings.group_least)
        if group is None:
            said = f"no source or annotator has {settings.group_least} held-out pictures to judge {words} by"
            checks.append(Check(name=name, passed=True, sentence=said))
            continue
        checks.append(
            Check(
                name=name,
                passed=sign * group.difference >= -settings.group_margin,
                sentence=verdict_words.group(words, group, settings.group_margin),
                candidate=group.candidate,
                live=group.live,
                difference=group.difference,
                margin=settings.group_margin,
            )
        )
    return checks


def _serving(candidate: StudentScores, live: StudentScores, settings: PromotionSettings) -> list[Check]:
    """What serving the candidate would cost."""
    parity = math.inf if candidate.parity is None else candidate.parity
    checks = [
        Check(
            name="parity",
            passed=parity <= settings.parity_limit,
            sentence=f"the export differs from torch by {parity:.1e}; the limit is {settings.parity_limit:.0e}",
            candidate=parity,
            margin=settings.parity_limit,
        )
    ]
    costs = (
        ("speed", "time a picture", candidate.ms_per_picture, live.ms_per_picture, settings.slower_ratio),
        ("size", "size of the weights", candidate.weights_bytes, live.weights_bytes, settings.larger_ratio),
    )
    for name, words, new, old, limit in costs:
        ratio = new / old if old > 0 else math.inf
        said = f"{words} is {ratio:.2f} times the live model's; the limit is {limit:g}"
        checks.append(Check(name=name, passed=ratio <= limit, sentence=said, candidate=new, live=old, margin=limit))
    return checks
