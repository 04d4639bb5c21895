"""The curves of a run, drawn from its log."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from model.selection import mean_f1

LOSSES = ("total", "mask", "dice", "score", "match")
SIZE_INCHES, DOTS_PER_INCH = (15.0, 8.2), 100
SMOOTHING_SHARE, LEAST_WINDOW = 0.03, 9  # of the moving mean: of the run, in steps
MOST_SETS_NAMED = 12
_INK, _FAINT = "#202124", "#b9bdc1"
_MAIN = "#be185d"
_MARGINS = {"left": 0.04, "right": 0.985, "top": 0.89, "bottom": 0.065, "wspace": 0.17, "hspace": 0.3}

Entries = Sequence[Mapping[str, Any]]


def curves(entries: Entries, title: str) -> bytes:
    """Losses, learning rate, validation F1 by set, image AUC, false-alarm area and speed over steps, as a PNG.

    Args:
        entries: lines of the log; those without a step are ignored.
        title: one line above all.
    """
    steps = [entry for entry in entries if "total" in entry]
    validations = [entry for entry in entries if any(name.startswith("f1_") for name in entry)]
    figure = Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    figure.suptitle(title, color=_INK, fontsize=13, x=0.035, y=0.975, ha="left")
    axes = figure.subplots(2, 3, gridspec_kw=_MARGINS)
    _draw_losses(axes[0, 0], steps)
    _draw_steps(axes[0, 1], steps, "lr", "learning rate of the heads", smooth=False)
    _draw_steps(axes[0, 2], steps, "pictures_per_s", "training speed, pictures/s", smooth=True)
    _draw_f1(axes[1, 0], validations)
    _draw_validation(axes[1, 1], validations, "image_auc", "validation: image AUC", lowest=0.5)
    _draw_validation(axes[1, 2], validations, "fa_area", "validation: marked area of authentic pictures", lowest=0.0)
    axes[1, 2].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
    last = max((entry["step"] for entry in steps), default=1)
    for axis in axes.flat:
        _plain(axis, last)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Mean over up to `window` values around each, fewer at the ends."""
    sums = np.concatenate(([0.0], np.cumsum(np.asarray(values, dtype=np.float64))))
    half = window // 2
    starts = np.maximum(0, np.arange(len(values)) - half)
    ends = np.minimum(len(values), np.arange(len(values)) + half + 1)
    means: list[float] = ((sums[ends] - sums[starts]) / (ends - starts)).tolist()
    return means


def _window(count: int) -> int:
    return max(LEAST_WINDOW, round(SMOOTHING_SHARE * count))


def _draw_losses(axis: Axes, steps: Entries) -> None:
    axis.set_title("loss terms, moving mean", loc="left", fontsize=11)
    for name in LOSSES:
        rows = [entry for entry in steps if name in entry]
        if not any(entry[name] for entry in rows):
            continue
        colour, width = (_MAIN, 2.2) if name == "total" else (None, 1.3)
        values = smoothed([entry[name] for entry in rows], _window(len(rows)))
        axis.plot([entry["step"] for entry in rows], values, label=name, color=colour, linewidth=width)
    axis.set_ylim(bottom=0)
    _legend(axis)


def _draw_steps(axis: Axes, steps: Entries, name: str, title: str, *, smooth: bool) -> None:
    axis.set_title(title, loc="left", fontsize=11)
    rows = [entry for entry in steps if name in entry]
    places, values = [entry["step"] for entry in rows], [entry[name] for entry in rows]
    if smooth:
        axis.plot(places, values, color=_FAINT, linewidth=0.6)
        values = smoothed(values, _window(len(values)))
    axis.plot(places, values, color=_MAIN, linewidth=1.8)
    axis.set_ylim(bottom=0)


def _draw_f1(axis: Axes, validations: Entries) -> None:
    """Every set as a thin line, their mean as a thick one."""
    axis.set_title("validation: pixel F1 at 0.5, by set and mean", loc="left", fontsize=11)
    names = sorted({name for entry in validations for name in entry if name.startswith("f1_")})
    for place, name in enumerate(names):
        rows = [entry for entry in validations if name in entry]
        label = name.removeprefix("f1_") if place < MOST_SETS_NAMED else None
        values = [entry[name] for entry in rows]
        axis.plot([entry["step"] for entry in rows], values, label=label, linewidth=1.1, marker=".", markersize=4, alpha=0.75)
    places, values = [entry["step"] for entry in validations], [mean_f1(entry) or 0.0 for entry in validations]
    axis.plot(places, values, label="mean", color=_INK, linewidth=2.6, marker="o", markersize=4, clip_on=False)
    _name_last(axis, places, values, "{:.3f}")
    axis.set_ylim(0, 1)
    _legend(axis)


def _draw_validation(axis: Axes, validations: Entries, name: str, title: str, *, lowest: float) -> None:
    axis.set_title(title, loc="left", fontsize=11)
    rows = [entry for entry in validations if name in entry]
    places, values = [entry["step"] for entry in rows], [entry[name] for entry in rows]
    axis.plot(places, values, color=_MAIN, linewidth=2, marker="o", markersize=4, clip_on=False)
    _name_last(axis, places, values, "{:.2%}" if name == "fa_area" else "{:.3f}")
    axis.set_ylim(min([lowest, *values]), 1.0 if name == "image_auc" else max([0.02, *(1.15 * value for value in values)]))


def _name_last(axis: Axes, places: Sequence[float], values: Sequence[float], text: str) -> None:
    """The last value as a number beside its dot."""
    if values:
        where = (places[-1], values[-1])
        axis.annotate(text.format(values[-1]), where, (-4, 8), textcoords="offset points", ha="right", color=_INK, fontsize=10)


def _legend(axis: Axes) -> None:
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8, frameon=False, ncols=2, loc="best", labelcolor=_INK)


def _plain(axis: Axes, last_step: int) -> None:
    axis.set_xlim(0, 1.02 * max(1, last_step))
    axis.set_xlabel("step", fontsize=9, color=_INK)
    axis.grid(color="#e8eaed", linewidth=0.8)
    axis.tick_params(labelsize=9, colors=_INK, length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_color(_FAINT)
