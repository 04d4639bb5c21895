"""Candidate and live model on the same held-out pictures, by the protocol every figure of ours comes from (`model.evaluation`).

Moderators draw boxes, not masks. F1 on their pictures is therefore held against the teacher's pseudo-mask of the boxes, cut at
one half: agreement with a teacher, not truth. It is fit for comparing two students, and blind to what the teacher gets wrong;
so two figures stand beside it that need no teacher, `model.pointing`: how much of the alarm lies inside the boxes, and how
many boxes are found. Pictures with true masks (of a base set) are held against these, and their scores say so.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.card import Card
from model.compress import PROFILES
from model.evaluation import measure
from model.evaluation_report import Outcome
from model.predictor import Predictor
from model.preprocess import PictureLimits, prepare
from model.sweeps import AS_IS, variants
from scheduler.hold_out_files import HeldOutPicture, HoldOut
from scheduler.scores import PictureScores, StudentScores

TIMED_PICTURES = 16
ROUNDS = 7

Progress = Callable[[int, int], None]


def compared(
    candidate: Path,
    live: Path,
    hold_out: HoldOut,
    *,
    threads: int = 0,
    limits: PictureLimits | None = None,
    progress: Progress | None = None,
) -> tuple[StudentScores, StudentScores]:
    """Measure two student folders on the CPU engine; no torch.

    Args:
        candidate, live: folders with card and OpenVINO files.
        hold_out: from `laid_out`.
        threads: of the engine; 0 leaves it to OpenVINO.
        limits: byte and pixel limits of a picture.
        progress: called with (pictures done, pictures in all), both students together; what it raises ends the measurement.

    Returns:
        Scores of the candidate and of the live model.

    Raises:
        ModelInvalid: a student's files are missing or damaged.
        ModelFailed: a network raised.
    """
    students = [Predictor.load(folder, "openvino", threads=threads) for folder in (candidate, live)]
    total = 2 * len(hold_out.pictures)
    scores = []
    for number, student in enumerate(students):
        done_before = number * len(hold_out.pictures)
        report = None if progress is None else _shifted(progress, done_before, total)
        scores.append(measured(student, hold_out, limits=limits, progress=report))
    readable = {picture.sha256 for picture in scores[0].pictures}
    images = [each.item.image for each in hold_out.pictures if each.entry.sha256 in readable]
    times_ms = paces_ms(students, images, limits=limits)
    ours, theirs = (each.model_copy(update={"ms_per_picture": ms}) for each, ms in zip(scores, times_ms, strict=True))
    return ours, theirs


def measured(
    student: Predictor, hold_out: HoldOut, *, limits: PictureLimits | None = None, progress: Progress | None = None
) -> StudentScores:
    """One student's scores, in the hold-out's order; the time a picture is still to be measured.

    Args: as `compared`.
    """
    failures = dict(hold_out.failures)
    outcomes: dict[Path, list[Outcome]] = {}
    if hold_out.pictures:
        items = [picture.item for picture in hold_out.pictures]
        measurement = measure(student, items, variants(tuple(PROFILES)), progress, limits=limits)
        for outcome in measurement.outcomes:
            outcomes.setdefault(outcome.image, []).append(outcome)
        failures |= {Path(failure.image).name: failure.message for failure in measurement.failures}
    return StudentScores(
        version=student.card.version,
        weights_sha256=student.card.files["openvino_bin"].sha256,
        weights_bytes=student.card.files["openvino_bin"].bytes,
        parity=_parity(student.card),
        ms_per_picture=0.0,
        pictures=tuple(_scores(each, outcomes[each.item.image]) for each in hold_out.pictures if each.item.image in outcomes),
        failures=failures,
    )


def paces_ms(students: Sequence[Predictor], images: Sequence[Path], *, limits: PictureLimits | None = None) -> list[float]:
    """Milliseconds a picture of each student's network, in turns on the same pictures, so that a busy machine slows all alike.

    Args:
        images: readable ones, of which the first few are taken; a blank one where there are none.

    Returns:
        The fastest round of each student: what else the machine does only ever adds.
    """
    inputs = [_inputs(images, student.input_size, limits or PictureLimits()) for student in students]
    rounds: list[list[float]] = [[] for _ in students]
    for number in range(ROUNDS + 1):
        for student, pictures, times in zip(students, inputs, rounds, strict=True):
            started_s = time.perf_counter()
            student.predict(pictures)
            if number:  # the first round warms up
                times.append(1000 * (time.perf_counter() - started_s) / len(pictures))
    return [min(times) for times in rounds]


def _inputs(images: Sequence[Path], input_size: int, limits: PictureLimits) -> list[NDArray[np.uint8]]:
    """Network pixels of the first few pictures."""
    pictures = [prepare(image.read_bytes(), input_size, limits).pixels for image in images[:TIMED_PICTURES]]
    return pictures or [np.zeros((input_size, input_size, 3), np.uint8)]


def _scores(picture: HeldOutPicture, outcomes: Sequence[Outcome]) -> PictureScores:
    entry = picture.entry
    clean = next(outcome for outcome in outcomes if outcome.variant == AS_IS)
    return PictureScores(
        sha256=entry.sha256,
        tampered=entry.tampered,
        cluster=entry.cluster,
        source_id=entry.source_id,
        annotators=entry.annotators,
        truth=picture.truth,
        f1={outcome.variant: outcome.f1 for outcome in outcomes if outcome.f1 is not None},
        alarm_area={outcome.variant: outcome.alarm_area for outcome in outcomes},
        inside=clean.pointing.inside if clean.pointing else None,
        found=clean.pointing.found if clean.pointing else None,
        score=clean.score,
        verdict=clean.verdict,
    )


def _parity(card: Card) -> float | None:
    """The larger of the two differences that publishing wrote into the card."""
    stated = card.training.get("parity_with_torch")
    values = [float(value) for value in stated.values()] if isinstance(stated, dict) else []
    # Not max(): it may pass over a nan.
    return float(np.max(values)) if values else None


def _shifted(progress: Progress, done_before: int, total: int) -> Progress:
    return lambda done, _: progress(done_before + done, total)
