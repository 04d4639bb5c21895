"""The promotion rule's findings as sentences with numbers."""

import math
from collections.abc import Sequence
from typing import Final

from scheduler.bootstrap import Interval
from scheduler.checks import Check
from scheduler.groups import Group
from schemas.learning_settings import PromotionSettings

REASONS_TOLD: Final = 3
"""In a summary; the checks have all of them."""


MOST_TOLD: Final = 20
"""Times the pictures there are: beyond that, a number of pictures that would tell is a guess."""


def loss(difference: float | None, interval: Interval | None, n: int, sign: int, margin: float) -> str:
    """What makes a figure that must not become worse by more than a margin fail.

    Args:
        difference, interval: candidate minus live, over `n` pictures.
        sign: +1 where higher is better, -1 where lower is.
    """
    if difference is not None and sign * difference < -margin:
        return f"worse by more than {number(margin)}"
    return f"not sure enough to be no worse than by {number(margin)}{_would_tell(difference, interval, n, sign, margin)}"


def pictures_to_tell(difference: float, interval: Interval, n: int, sign: int, margin: float) -> int | None:
    """How many pictures would make a difference like this one sure; None where no number would, or far more than there are.

    An interval of a mean shrinks with the square root of the number of independent pictures.
    """
    room = sign * difference + margin
    reach = difference - interval.low if sign > 0 else interval.high - difference
    if room <= 0 or reach > room * math.sqrt(MOST_TOLD):
        return None
    wanted = n * (reach / room) ** 2
    step: int = 10 ** max(0, len(str(int(wanted))) - 2)
    return math.ceil(wanted / step) * step


def number(value: float | None) -> str:
    """Three decimals without the leading zero; "none" where there is no figure."""
    if value is None:
        return "none"
    text = f"{round(value, 3) + 0.0:.3f}"  # adding 0.0 turns -0.0 into 0.0
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def signed(value: float | None) -> str:
    """With its sign, also where it is above zero."""
    text = number(value)
    return text if value is None or text.startswith("-") else f"+{text}"


def change(
    words: str,
    live: float | None,
    candidate: float | None,
    difference: float | None,
    interval: Interval | None,
    n: int,
    confidence: float,
) -> str:
    """One figure before and after, with its interval."""
    span = f"{signed(interval.low)} to {signed(interval.high)}" if interval else "unknown"
    moved = f"{words} went from {number(live)} to {number(candidate)}"
    return f"on {n} held-out pictures {moved} ({signed(difference)}, {confidence * 100:g} % interval {span})"


def gain(
    live: float | None,
    candidate: float | None,
    difference: float | None,
    interval: Interval | None,
    n: int,
    settings: PromotionSettings,
    sure: bool,
) -> str:
    """The gain in F1, and whether it is one."""
    said = change("pixel F1", live, candidate, difference, interval, n, settings.confidence)
    if interval is not None and interval.high < 0:
        return f"{said}: surely worse"
    if not sure:
        return f"{said}: not sure enough to be better{_would_tell(difference, interval, n, 1, 0.0)}"
    if difference is not None and difference < settings.least_gain:
        return f"{said}: surely better, but by less than the least gain of {number(settings.least_gain)}"
    return f"{said}: better"


def group(words: str, worst: Group, margin: float) -> str:
    """The group that lost most."""
    said = f"{words} of {worst.name} ({worst.n} pictures) went from {number(worst.live)} to {number(worst.candidate)}"
    return f"{said} ({signed(worst.difference)}), the worst of all sources and annotators; the margin is {number(margin)}"


def summary(promote: bool, checks: Sequence[Check]) -> str:
    """One paragraph: the gain first, then whatever speaks against the candidate."""
    if promote:
        told = [check.sentence for check in checks if check.name == "f1"]
        return f"Promoted: {told[0]}. All {len(checks)} checks passed."
    against = [check.sentence for check in checks if not check.passed]
    more = len(against) - REASONS_TOLD
    told = [_capital(sentence) if index else sentence for index, sentence in enumerate(against[:REASONS_TOLD])]
    told += [f"{more} more {'check' if more == 1 else 'checks'} failed"] if more > 0 else []
    return f"Rejected: {'. '.join(told)}."


def _would_tell(difference: float | None, interval: Interval | None, n: int, sign: int, margin: float) -> str:
    wanted = None if difference is None or interval is None else pictures_to_tell(difference, interval, n, sign, margin)
    return "" if wanted is None else f"; some {wanted} such pictures would tell"


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
