"""Night after night in figures: what live model and candidate measured on the hold-out, as points of a drawing.

The page draws them as SVG with classes of its own style sheet, so nothing here knows a colour.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from schemas.learning_tables import RetrainRun
from schemas.states import RetrainState
from storage.runs import short

WIDTH: Final = 640.0
HEIGHT: Final = 220.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 48.0, 12.0, 12.0, 28.0
_TICKS: Final = 4
_MOST_DATES: Final = 6


@dataclass(frozen=True)
class Night:
    """One run that measured a candidate; a figure that was not measured is None."""

    run: str
    at: datetime
    state: RetrainState
    live: str
    candidate: str
    f1: tuple[float | None, float | None]
    false_area: tuple[float | None, float | None]


@dataclass(frozen=True)
class Point:
    """One figure in its place, with what is said where the pointer rests on it."""

    x: float
    y: float
    words: str
    promoted: bool = False


@dataclass(frozen=True)
class Tick:
    """A line of the grid or a date below it."""

    at: float
    words: str


@dataclass(frozen=True)
class Chart:
    """A drawing of `WIDTH` x `HEIGHT`.

    Attributes:
        title: what is drawn.
        live, candidate: points from left to right.
        line: those of the live model joined, as SVG's `points`.
        rows: grid lines and their values; x0, x1 are their ends.
        dates: below.
    """

    title: str
    live: Sequence[Point]
    candidate: Sequence[Point]
    line: str
    rows: Sequence[Tick]
    dates: Sequence[Tick]
    x0: float = _LEFT
    x1: float = WIDTH - _RIGHT
    width: float = WIDTH
    height: float = HEIGHT


def nights_of(found: Sequence[RetrainRun]) -> list[Night]:
    """The runs that measured something, oldest first."""
    nights = [night for run in found if (night := _night(run)) is not None]
    return sorted(nights, key=lambda night: night.at)


def charts(nights: Sequence[Night]) -> list[Chart]:
    """Pixel F1 and false-alarm area; none where no night has both figures."""
    made = (
        _chart("Pixel F1 on the held-out pictures", [(night, *night.f1) for night in nights], 3),
        _chart("False-alarm area on authentic held-out pictures", [(night, *night.false_area) for night in nights], 4),
    )
    return [chart for chart in made if chart is not None]


def _night(run: RetrainRun) -> Night | None:
    measured = run.figures.get("measured")
    live, candidate = (measured.get(name) if isinstance(measured, dict) else None for name in ("live", "candidate"))
    if not isinstance(live, dict) or not isinstance(candidate, dict):
        return None
    return Night(
        run=short(run.id),
        at=run.created_at,
        state=run.state,
        live=str(live.get("version", "")),
        candidate=str(candidate.get("version", "")),
        f1=(_f1(live), _f1(candidate)),
        false_area=(_number(live.get("false_area")), _number(candidate.get("false_area"))),
    )


def _chart(title: str, measured: Sequence[tuple[Night, float | None, float | None]], digits: int) -> Chart | None:
    known = [(night, old, new) for night, old, new in measured if old is not None and new is not None]
    if not known:
        return None
    low, high = _range([value for _, old, new in known for value in (old, new)])

    def height(value: float) -> float:
        return round(_TOP + (HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low), 1)

    live, candidate, dates = [], [], []
    for place, (night, old, new) in enumerate(known):
        x, day = round(_LEFT + (WIDTH - _LEFT - _RIGHT) * (place + 0.5) / len(known), 1), f"{night.at:%Y-%m-%d}"
        live.append(Point(x, height(old), f"{day}: live {night.live} {old:.{digits}f}"))
        words = f"{day}: {night.candidate} {new:.{digits}f}, {night.state.value}"
        candidate.append(Point(x, height(new), words, night.state is RetrainState.PROMOTED))
        dates.append(Tick(x, f"{night.at:%d %b}"))
    steps = [low + (high - low) * step / _TICKS for step in range(_TICKS + 1)]
    return Chart(
        title=title,
        live=live,
        candidate=candidate,
        line=" ".join(f"{point.x},{point.y}" for point in live),
        rows=[Tick(height(value), f"{value:.{digits}f}") for value in steps],
        dates=dates[:: math.ceil(len(dates) / _MOST_DATES)],
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Not down to zero, where differences would vanish; never of no height."""
    low, high = min(values), max(values)
    room = max((high - low) * 0.15, abs(high) * 0.02, 1e-4)
    return max(0.0, low - room), high + room


def _f1(figures: dict[str, Any]) -> float | None:
    by_variant = figures.get("f1")
    return _number(by_variant.get("none")) if isinstance(by_variant, dict) else None


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None
