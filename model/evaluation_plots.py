"""An evaluation as pictures: where a student finds the region, and where it falls off. matplotlib, as PNG.

Scores and calibration are drawn in `model.score_plots`.
"""

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from model.card import Calibration
from model.evaluation_report import Interval, Outcome, Report, SweepPoint, VariantFigures
from model.plot_style import AUTHENTIC, DASHES, INK, TAMPERED, across, page, plain, png, upright
from model.score_plots import reliability, roc, score_histograms
from model.sweeps import AS_IS

Variants = TypeVar("Variants", bound=VariantFigures)

_SWEEP_LABELS: Final = {"jpeg": "JPEG quality (4:2:0)", "resize": "factor of both sides"}
# What is drawn of each variant: its figure, a label, a colour.
_PROFILE_PANELS: Final = (
    ("f1", "pixel F1, tampered", TAMPERED),
    ("fa_area", "marked area, authentic", AUTHENTIC),
    ("fa_rate", "flagged, authentic", AUTHENTIC),
)
_SWEEP_ROWS: Final = (_PROFILE_PANELS[0], ("image_auc", "score AUC", INK), *_PROFILE_PANELS[1:])


def plots(report: Report, outcomes: Sequence[Outcome], calibration: Calibration) -> Iterator[tuple[str, bytes]]:
    """Draw what there is data for.

    Args:
        report: the summary.
        outcomes: what it sums up.
        calibration: whose thresholds gave the verdicts.

    Yields:
        (name without ending, PNG bytes).
    """
    clean = [outcome for outcome in outcomes if outcome.variant == AS_IS]
    if report.overall.n_tampered:
        yield "f1-by-set", _f1_by_set(report)
    if len(report.profile_figures) > 1:
        yield "profiles", _profiles(report)
    if report.sweeps:
        yield "sweeps", _sweeps(report)
    if clean:
        yield "scores", score_histograms(report, clean, calibration)
    if report.image_auc is not None:
        yield "reliability", reliability(report, clean)
        yield "roc", roc(report, clean)


def _f1_by_set(report: Report) -> bytes:
    """One dot a set, best at the top, with its interval; all pictures together above them."""
    rows = sorted(((name, each) for name, each in report.sets.items() if each.n_tampered), key=lambda row: row[1].f1 or 0.0)
    rows.append(("all pictures", report.overall))
    figure = page(report, "Is the manipulated region found?", (8.0, 2.1 + 0.36 * len(rows)))
    axes = figure.subplots()
    for place, (_, each) in enumerate(rows):
        value = each.f1 or 0.0
        across(axes, place, value, each.intervals["f1"], INK if each is report.overall else TAMPERED)
        axes.annotate(f"{value:.2f}", (1.02, place), xycoords=("axes fraction", "data"), va="center", color=INK)
    axes.axvline(report.overall.f1 or 0.0, color=INK, linewidth=0.8, linestyle=DASHES, zorder=1)
    # A set's name is the user's: a dollar sign in it begins no formula.
    axes.set_yticks(range(len(rows)), [f"{name}  ({each.n_tampered})" for name, each in rows], parse_math=False)
    axes.get_yticklabels()[-1].set_fontweight("bold")
    axes.set(xlim=(0, 1), ylim=(-0.6, len(rows) - 0.4))
    axes.set_xlabel("pixel F1 at 0.5, mean over the tampered pictures of a set (how many), 95 % interval")
    plain(axes, "x")
    return png(figure)


def _profiles(report: Report) -> bytes:
    """F1 and false alarms of each simulated delivery beside the pictures as they are."""
    names, shown = list(report.profile_figures), list(report.profile_figures.values())
    panels = [panel for panel in _PROFILE_PANELS if _defined(shown, panel[0])]
    size_inches = 1.9 + 3.2 * len(panels), 4.4
    figure = page(report, "What is left after a social network (simulated; above: share of the clean F1 kept)", size_inches)
    grid = figure.subplots(1, len(panels), squeeze=False)
    for axes, (name, label, colour) in zip(grid[0], panels, strict=True):
        for place, each in enumerate(shown):
            value, interval = _figure(each, name)
            upright(axes, place, value, interval, colour if place else INK)
            if name == "f1" and each.f1_kept is not None and place:
                top = interval[1] if interval else each.overall.f1
                axes.annotate(f"{each.f1_kept:.0%}", (place, top or 0.0), (0, 4), textcoords="offset points", ha="center")
        _clean_line(axes, report.profile_figures[AS_IS], name)
        axes.set_xticks(range(len(names)), ["as they are" if each == AS_IS else each for each in names], rotation=30)
        axes.set_xlim(-0.5, len(names) - 0.5)
        _scale(axes, name, label, shown)
    return png(figure)


def _sweeps(report: Report) -> bytes:
    """F1, AUC and false alarms along each sweep; the dashed line is of the pictures as they are."""
    clean = report.profile_figures[AS_IS]
    shown = [clean, *(point for points in report.sweeps.values() for point in points)]
    rows = [row for row in _SWEEP_ROWS if _defined(shown, row[0])]
    size_inches = 1.6 + 4.2 * len(report.sweeps), 1.6 + 2.1 * len(rows)
    figure = page(report, "How the figures change with quality and size", size_inches)
    grid = figure.subplots(len(rows), len(report.sweeps), sharex="col", sharey="row", squeeze=False)
    for column, (sweep, points) in enumerate(report.sweeps.items()):
        for axes, (name, label, colour) in zip(grid[:, column], rows, strict=True):
            _curve(axes, points, name, colour)
            _clean_line(axes, clean, name)
            axes.set_xticks([point.value for point in points])
            _scale(axes, name, "" if column else label, shown)
        grid[-1, column].set_xlabel(_SWEEP_LABELS[sweep])
    grid[0, 0].set_title("dashed: the pictures as they are; shaded: 95 % interval", loc="left", fontsize=9, color=INK)
    figure.align_ylabels()
    return png(figure)


def _curve(axes: Axes, points: Sequence[SweepPoint], name: str, colour: str) -> None:
    """One figure along a sweep, where it is defined."""
    defined = _defined(points, name)
    at, values = [point.value for point in defined], [_figure(point, name)[0] or 0.0 for point in defined]
    intervals = [_figure(point, name)[1] or (value, value) for point, value in zip(defined, values, strict=True)]
    low, high = [low for low, _ in intervals], [high for _, high in intervals]
    axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(at, values, "o-", color=colour, linewidth=1.8, markersize=4, clip_on=False)


def _clean_line(axes: Axes, clean: VariantFigures, name: str) -> None:
    value, _ = _figure(clean, name)
    if value is not None:
        axes.axhline(value, color=INK, linewidth=0.8, linestyle=DASHES, zorder=1)


def _scale(axes: Axes, name: str, label: str, shown: Sequence[VariantFigures]) -> None:
    """From 0 to a little above what is shown, the AUC from chance to 1; false alarms in per cent."""
    intervals = [interval for each in shown if (interval := _figure(each, name)[1]) is not None]
    highest = max((high for _, high in intervals), default=0.0) or 1.0
    axes.set_ylabel(label)
    axes.set_ylim(*((0.5, 1.0) if name == "image_auc" else (0.0, 1.12 * highest)))
    if name.startswith("fa_"):
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
    plain(axes, "y")


def _defined(shown: Sequence[Variants], name: str) -> list[Variants]:
    """Those that have this figure: without pictures of a kind nothing has it."""
    return [each for each in shown if _figure(each, name)[0] is not None]


def _figure(figures: VariantFigures, name: str) -> tuple[float | None, Interval | None]:
    """A figure by its name, with its interval."""
    if name == "image_auc":
        return figures.image_auc, figures.image_auc_interval
    value: float | None = getattr(figures.overall, name)
    return value, figures.overall.intervals[name]
