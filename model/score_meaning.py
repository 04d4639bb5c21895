"""What a score meant in validation: of so many pictures that scored alike, so many were manipulated. Pure.

The figures come from a student's card. Cards since this module hold a table over bins of scores; of older ones the shares of each
verdict are known, which say the same more coarsely. Both are held out: no picture was judged by a calibration that saw its scene.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

RELIABILITY: Final = "reliability"
_BINS: Final = 10
# Fewer pictures say little; neighbouring bins are taken in until there are so many.
_ENOUGH: Final = 20


@dataclass(frozen=True)
class Meaning:
    """What became of the validation pictures like this one.

    Attributes:
        pictures: how many there were.
        manipulated: how many of them were manipulated.
        low, high: the range of scores they had; None where they are those of the same verdict instead.
    """

    pictures: int
    manipulated: int
    low: float | None = None
    high: float | None = None

    @property
    def in_100(self) -> int:
        """The manipulated ones of a hundred like it."""
        return round(100 * self.manipulated / self.pictures)


def reliability_table(outcomes: Iterable[tuple[float, bool]]) -> list[dict[str, Any]]:
    """Validation pictures counted by score, for the card.

    Args:
        outcomes: of each picture its held-out probability and whether it was manipulated.

    Returns:
        One entry for each tenth of the scale: `from`, `to`, `pictures` and `manipulated`.
    """
    counts = [[0, 0] for _ in range(_BINS)]
    for score, tampered in outcomes:
        entry = counts[min(int(score * _BINS), _BINS - 1)]
        entry[0] += 1
        entry[1] += tampered
    return [
        {"from": number / _BINS, "to": (number + 1) / _BINS, "pictures": pictures, "manipulated": manipulated}
        for number, (pictures, manipulated) in enumerate(counts)
    ]


def meaning(metrics: Mapping[str, Any], score: float, verdict: str) -> Meaning | None:
    """What a score meant in validation, as exactly as the card can tell; None where it tells nothing.

    Args:
        metrics: of the card of the student that gave the score.
        verdict: that went with it.
    """
    table = metrics.get(RELIABILITY)
    found = _by_score(table, score) if isinstance(table, list) and len(table) == _BINS else None
    return found or _by_verdict(metrics.get("overall") or {}, verdict)


def _by_score(table: Sequence[Mapping[str, Any]], score: float) -> Meaning | None:
    first = last = min(int(score * _BINS), _BINS - 1)
    while sum(each["pictures"] for each in table[first : last + 1]) < _ENOUGH and (first > 0 or last < _BINS - 1):
        first, last = max(first - 1, 0), min(last + 1, _BINS - 1)
    taken = table[first : last + 1]
    pictures = sum(each["pictures"] for each in taken)
    if not pictures:
        return None
    return Meaning(pictures, sum(each["manipulated"] for each in taken), taken[0]["from"], taken[-1]["to"])


def _by_verdict(overall: Mapping[str, Any], verdict: str) -> Meaning | None:
    tampered, authentic = overall.get("n_tampered") or 0, overall.get("n_authentic") or 0
    names = ("tampered_flag_rate", "tampered_review_rate", "fa_rate", "review_rate")
    rates = [overall.get(name) for name in names]
    if not tampered or not authentic or any(rate is None for rate in rates):
        return None
    flagged, looked, flagged_wrongly, looked_wrongly = (float(rate or 0) for rate in rates)
    shares = {
        "flag": (flagged, flagged_wrongly),
        "review": (looked, looked_wrongly),
        "pass": (1 - flagged - looked, 1 - flagged_wrongly - looked_wrongly),
    }
    of_tampered, of_authentic = shares[verdict]
    manipulated = round(of_tampered * tampered)
    pictures = manipulated + round(of_authentic * authentic)
    return Meaning(pictures, manipulated) if pictures else None
