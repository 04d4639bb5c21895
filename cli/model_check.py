"""A student folder put to the test before it is taken in: its card, its files, and both engines on a drawn picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.calibration import score
from model.card import Card
from model.predictor import Prediction, Predictor
from schemas.errors import ModelInvalid

WANTED = ("safetensors", "openvino_xml", "openvino_bin")
LARGEST_MASK_STEP = 1
"""Of 255: how far the same picture's mask may differ between a batch of one and of several, by rounding."""


@dataclass(frozen=True)
class Checked:
    """A student that passed.

    Attributes:
        card: of the student.
        parity: largest difference of a probability between the two engines on the drawn pictures; None where torch is missing.
    """

    card: Card
    parity: float | None


def check_student(folder: Path, parity_limit: float) -> Checked:
    """Load a student folder as a worker would, and run it.

    Args:
        folder: card.json and the files it names.
        parity_limit: how far the engines may differ, as a probability.

    Raises:
        ModelInvalid: a file is missing or damaged, or a network answers wrongly; the message says which.
    """
    card = Card.load(folder)
    for key in WANTED:
        card.verified_path(folder, key)
    pictures = drawn_pictures(card.student.input_size)
    found = _answers(Predictor.load(folder, "openvino", threads=1), pictures)
    if find_spec("torch") is None:
        return Checked(card, None)
    parity = _difference(found, _answers(Predictor.load(folder, "torch"), pictures), card)
    if parity > parity_limit:
        raise ModelInvalid(
            f"the exported network of {card.version} differs from torch by {parity:.1e}; the limit is {parity_limit:.0e}"
        )
    return Checked(card, parity)


def drawn_pictures(side_px: int) -> list[NDArray[np.uint8]]:
    """Two pictures that nobody photographed: a ramp with a pasted square, and noise; [S, S, 3] uint8 each."""
    rows, columns = np.mgrid[0:side_px, 0:side_px]
    ramp = np.stack([rows, columns, rows + columns], axis=-1) * 255 // (2 * side_px)
    ramp[side_px // 4 : side_px // 2, side_px // 4 : side_px // 2] = (220, 40, 90)
    noise = np.random.default_rng(0).integers(0, 256, (side_px, side_px, 3))
    return [ramp.astype(np.uint8), noise.astype(np.uint8)]


def _answers(predictor: Predictor, pictures: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
    """Of a batch; each picture alone must get the same.

    Raises:
        ModelInvalid: it does not, or an answer is no mask of the card's size or no number.
    """
    name, version = predictor.engine.name, predictor.card.version
    try:
        together = predictor.predict(pictures)
        alone = [predictor.predict([picture])[0] for picture in pictures]
    except (RuntimeError, ValueError) as error:
        raise ModelInvalid(f"{version} fails on a drawn picture ({name}): {error}") from error
    side = predictor.card.student.mask_size
    for one, other in zip(together, alone, strict=True):
        if one.mask_net.shape != (side, side) or not np.isfinite(one.score_logit):
            raise ModelInvalid(f"{version} ({name}) answers with no mask of {side} x {side}, or with no number")
        if _mask_step(one, other) > LARGEST_MASK_STEP:
            raise ModelInvalid(f"{version} ({name}) answers otherwise for a picture alone than in a batch")
    return together


def _difference(ours: Sequence[Prediction], theirs: Sequence[Prediction], card: Card) -> float:
    """The largest, of scores as probabilities and of masks; masks are stored in steps of 1/255, so one step is no difference."""
    scores = [
        abs(score(a.score_logit, card.calibration) - score(b.score_logit, card.calibration))
        for a, b in zip(ours, theirs, strict=True)
    ]
    masks = [max(0, _mask_step(a, b) - LARGEST_MASK_STEP) / 255 for a, b in zip(ours, theirs, strict=True)]
    return max(*scores, *masks)


def _mask_step(one: Prediction, other: Prediction) -> int:
    return int(np.abs(one.mask_net.astype(np.int16) - other.mask_net.astype(np.int16)).max())
