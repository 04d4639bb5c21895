"""What all plots of an evaluation share: page, colours, a value with its interval. matplotlib, as PNG.

Figures are matplotlib's objects, never pyplot's, so nothing of them is the process's.
"""

import io
from typing import Final, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model.evaluation_report import Interval, Report

INK: Final = "#202124"
QUIET: Final = "#6e7176"
# Orange and blue stay apart under every common kind of colour blindness, and in grey.
TAMPERED: Final = "#d9480f"
AUTHENTIC: Final = "#1c6ea4"
DASHES: Final = (0, (4, 3))

_GRID: Final = "#e4e5e6"
_DPI: Final = 150


def page(report: Report, title: str, size_inches: tuple[float, float]) -> Figure:
    """An empty figure with its title, and with what was measured on what below."""
    figure = Figure(figsize=size_inches, facecolor="white")
    figure.set_layout_engine("constrained", h_pad=0.1, w_pad=0.1)
    figure.suptitle(title, x=0.02, ha="left", fontsize=13, fontweight="bold", color=INK)
    about = (
        f"{report.model_version} · {report.engine} · input {report.input_size} px · {report.n_pictures} pictures "
        f"({report.overall.n_tampered} tampered, {report.overall.n_authentic} authentic) · data {report.dataset_sha256[:12]}"
    )
    figure.supxlabel(about, x=0.02, ha="left", fontsize=7.5, color=QUIET)
    return figure


def plain(axes: Axes, grid: Literal["both", "x", "y"]) -> None:
    """No frame, quiet ticks, a grid only along the axis that is read."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GRID)
    axes.tick_params(colors=INK, length=0)
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color=_GRID, linewidth=0.8)


def across(axes: Axes, place: float, value: float, interval: Interval | None, colour: str) -> None:
    """A value along x at the height `place`, with its interval."""
    if interval is not None:
        axes.plot(interval, [place, place], color=colour, linewidth=2.2, alpha=0.45)
    axes.plot([value], [place], "o", color=colour, markersize=7, clip_on=False)


def upright(axes: Axes, place: float, value: float | None, interval: Interval | None, colour: str) -> None:
    """A value along y at `place`, with its interval; nothing where the value is not defined."""
    if value is None:
        return
    if interval is not None:
        axes.plot([place, place], interval, color=colour, linewidth=2.2, alpha=0.45)
    axes.plot([place], [value], "o", color=colour, markersize=7, clip_on=False, zorder=3)


def png(figure: Figure) -> bytes:
    """The figure's file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()
