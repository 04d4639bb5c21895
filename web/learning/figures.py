"""Two versions side by side in figures: what the promotion rule found, and what their cards say of validation."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from web.wording import NETWORK_NAMES

_SVG_HALF = 60.0
_HELD_OUT = (
    ("false_area", "false-alarm area"),
    ("false_flags", "authentic pictures flagged"),
    ("missed", "manipulated pictures passed"),
    ("calibration_error", "calibration error"),
    ("ms_per_picture", "milliseconds a picture"),
)
# Checks whose candidate must gain, and those where less is better (`scheduler.comparisons`): their loss lies above zero.
_LIMIT_ABOVE_ZERO = frozenset({"f1", "false area", "false area delivered", "brier", "false flags", "missed", "worst group area"})
_LABELS = {
    "f1": "pixel F1",
    "boxes found": "boxes found",
    "inside boxes": "share of the alarm inside boxes",
    "false area": "false-alarm area, authentic",
    "false area delivered": "false-alarm area, delivered",
    "brier": "Brier score (calibration)",
    "false flags": "authentic pictures flagged",
    "missed": "manipulated pictures passed",
    "worst group f1": "pixel F1, worst source or annotator",
    "worst group area": "false-alarm area, worst source or annotator",
    "speed": "milliseconds a picture",
    "size": "bytes of weights",
}
_SMALL = 5e-4  # below it four decimals say too little
_OVERALL = (("f1", "pixel F1", True), ("iou", "IoU", True), ("auc", "pixel AUC", True), ("fa_area", "false-alarm area", False))
_WHOLE = (
    ("set_mean_f1", "mean F1 of the sets", True),
    ("image_auc", "image AUC", True),
    ("image_f1", "image F1", True),
    ("balanced_accuracy", "balanced accuracy", True),
    ("ece", "calibration error", False),
)


@dataclass(frozen=True)
class Bar:
    """A difference and its interval on a scale of its own; x of 0 .. 120, zero in the middle."""

    low: float
    high: float
    at: float
    limit: float | None


@dataclass(frozen=True)
class CheckRow:
    """One finding of the promotion rule; `label` is what was compared, empty where nothing was."""

    name: str
    label: str
    passed: bool
    sentence: str
    live: str
    candidate: str
    difference: str
    interval: str
    bar: Bar | None


@dataclass(frozen=True)
class FigureRow:
    """One figure of both cards; `better` is None where they are level, or one is missing."""

    name: str
    old: str
    new: str
    difference: str
    better: bool | None


def check_rows(checks: object) -> list[CheckRow]:
    """The `checks` of a run's stored decision; what is no check is left out."""
    found = [each for each in checks if isinstance(each, dict)] if isinstance(checks, list) else []
    return [_check_row(each) for each in found]


def figure_rows(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[tuple[str, list[FigureRow]]]:
    """Figures of two cards' `metrics` in groups: all pictures, each set, each simulated delivery.

    Args:
        old: of the version compared with; None shows the new one alone.
        new: of the version.
    """
    before = old or {}
    overall = [_figure(words, _in(before, "overall", key), _in(new, "overall", key), up) for key, words, up in _OVERALL]
    overall += [_figure(words, before.get(key), new.get(key), up) for key, words, up in _WHOLE]
    sets = [
        _figure(name, _in(before, "sets", name, "f1"), _in(new, "sets", name, "f1"), True, _interval(new, name))
        for name in _keys(new, "sets")
    ]
    profiles = [_figure(name, _mean_f1(before, name), _mean_f1(new, name), True) for name in _keys(new, "profiles")]
    groups = [("All validation pictures", overall), ("Pixel F1 by set", sets), ("Mean pixel F1 as delivered by", profiles)]
    kept = [(title, [row for row in rows if row.new]) for title, rows in groups]
    return [(title, rows) for title, rows in kept if rows]


def held_out_rows(live: Mapping[str, Any], candidate: Mapping[str, Any]) -> list[FigureRow]:
    """Means over the hold-out of a run, as `scheduler.judging` stored them."""
    profiles = _keys(candidate, "f1")
    rows = [
        _figure("pixel F1" if name == "none" else f"pixel F1, {name}", _in(live, "f1", name), _in(candidate, "f1", name), True)
        for name in profiles
    ]
    return rows + [_figure(words, live.get(key), candidate.get(key), False) for key, words in _HELD_OUT if key in candidate]


def label_of(name: str) -> str:
    """What a check compares, as the head of a row."""
    if name.startswith("f1 "):
        network = name.removeprefix("f1 ")
        return f"pixel F1 through {NETWORK_NAMES.get(network, network)}"
    return _LABELS.get(name, name)


def _check_row(check: Mapping[str, Any]) -> CheckRow:
    name = str(check.get("name", ""))
    difference, interval = _number(check.get("difference")), check.get("interval")
    span = [_number(each) for each in interval] if isinstance(interval, list | tuple) and len(interval) == 2 else []
    low, high = span if len(span) == 2 else (None, None)
    known = low is not None and high is not None
    return CheckRow(
        name=name,
        label=label_of(name) if _number(check.get("live")) is not None else "",
        passed=bool(check.get("passed")),
        sentence=str(check.get("sentence", "")),
        live=_text(check.get("live")),
        candidate=_text(check.get("candidate")),
        difference=_text(difference, signed=True),
        interval=f"{_text(low, signed=True)} … {_text(high, signed=True)}" if known else "",
        bar=_bar(low, high, difference, _limit(check)) if low is not None and high is not None else None,
    )


def _limit(check: Mapping[str, Any]) -> float | None:
    """Where on the scale of differences the rule draws its line: the least gain, or the largest loss."""
    margin = _number(check.get("margin"))
    return margin if margin is None or check.get("name") in _LIMIT_ABOVE_ZERO else -margin


def _bar(low: float, high: float, difference: float | None, limit: float | None) -> Bar:
    """Scaled so that the interval and the limit fit."""
    widest = max(abs(low), abs(high), abs(limit or 0.0), 1e-9) * 1.15

    def place(value: float) -> float:
        return round(_SVG_HALF * (1 + value / widest), 2)

    at = difference if difference is not None else (low + high) / 2
    return Bar(place(low), place(high), place(at), place(limit) if limit is not None else None)


def _figure(name: str, old: Any, new: Any, higher_is_better: bool, interval: str = "") -> FigureRow:
    before, after = _number(old), _number(new)
    if before is None or after is None:
        return FigureRow(name, _text(before), _text(after) + interval, "", None)
    moved = round(after - before, 4)
    return FigureRow(
        name,
        _text(before),
        _text(after) + interval,
        _text(moved, signed=True),
        (moved > 0) is higher_is_better if moved else None,
    )


def _interval(metrics: Mapping[str, Any], name: str) -> str:
    span = _in(metrics, "sets", name, "intervals", "f1")
    if not isinstance(span, list | tuple) or len(span) != 2:
        return ""
    return f" ({_text(span[0])}–{_text(span[1])})"


def _mean_f1(metrics: Mapping[str, Any], profile: str) -> float | None:
    """Of all sets under one delivery."""
    sets = _in(metrics, "profiles", profile)
    values = [value for each in sets.values() if (value := _number(each)) is not None] if isinstance(sets, dict) else []
    return sum(values) / len(values) if values else None


def _keys(metrics: Mapping[str, Any], name: str) -> Sequence[str]:
    found = metrics.get(name)
    return list(found) if isinstance(found, dict) else []


def _in(metrics: Mapping[str, Any], *path: str) -> Any:
    value: Any = metrics
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


def _plain(number: float) -> str:
    """Four decimals, fewer for what is large."""
    return f"{number:.4f}" if abs(number) < 10 else f"{number:.1f}" if abs(number) < 1000 else f"{number:,.0f}"


def _text(value: Any, signed: bool = False) -> str:
    number = _number(value)
    if number is None:
        return ""
    if 0 < abs(number) < _SMALL:
        text = f"{number:+.1e}" if signed else f"{number:.1e}"
    else:
        text = f"{number:+.4f}" if signed else _plain(number)
    return text.replace("-", "\N{MINUS SIGN}")
