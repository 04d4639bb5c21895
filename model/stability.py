"""A second look at pictures near a threshold: does their verdict survive a mild recompression?

A score that lies close to a threshold may end up on its other side after any save or upload. Such a picture is scored
again as one fixed recompression leaves it, and where the two verdicts differ, a moderator should decide: `review`.
The method and its constants are our choice.
"""

import math
from dataclasses import dataclass
from typing import Final

from model import calibration
from model.calibration import VerdictWord
from model.card import Calibration
from model.compress import Profile

SECOND_LOOK: Final = Profile(long_side_px=2048, quality=90)
"""What a picture goes through before its second look: JPEG quality 90, 4:2:0, at its own size.

Larger pictures are reduced first: the network sees far fewer pixels than this, and encoding stays cheap and small.
"""


@dataclass(frozen=True)
class Judgement:
    """What is said about one picture after one look or two.

    Attributes:
        score: calibrated probability of the picture as it is, 0..1.
        verdict: the final one; `review` where two looks disagree.
        second_score: calibrated probability after the recompression; None without a second look.
        stable: whether both looks lead to the same verdict; None without a second look.
    """

    score: float
    verdict: VerdictWord
    second_score: float | None = None
    stable: bool | None = None


def near_threshold(score: float, card_calibration: Calibration, band: float) -> bool:
    """Whether a score deserves a second look.

    Args:
        score: calibrated probability of the first look.
        card_calibration: its two thresholds.
        band: largest distance from a threshold that counts as near, in log-odds, ln(p / (1 - p)); 0 is never near. A
            recompression moves scores by similar steps of these everywhere, of the probability itself by ever smaller
            ones towards 0 and 1.
    """
    return any(low <= score <= high for low, high in near_bands(card_calibration, band))


def near_bands(card_calibration: Calibration, band: float) -> list[tuple[float, float]]:
    """The scores near a threshold: from one calibrated probability to another, both included; none for a band of 0.

    Args: as `near_threshold`.
    """
    thresholds = (card_calibration.review_threshold, card_calibration.flag_threshold)
    return [(_moved(threshold, -band), _moved(threshold, band)) for threshold in thresholds] if band > 0 else []


def judge(score: float, card_calibration: Calibration, second_score: float | None = None) -> Judgement:
    """The verdict after one look or two.

    Args:
        score: calibrated probability of the first look.
        card_calibration: the thresholds.
        second_score: the same of the second look, if one was taken.
    """
    first = calibration.verdict(score, card_calibration)
    if second_score is None:
        return Judgement(score, first)
    stable = calibration.verdict(second_score, card_calibration) == first
    return Judgement(score, first if stable else "review", second_score, stable)


def _moved(prob: float, log_odds: float) -> float:
    """The probability whose log-odds lie this much higher; 0 and 1 stay."""
    factor = math.exp(log_odds)
    return prob * factor / (prob * factor + 1 - prob)
