"""What the score of a picture as a whole is worth: histograms with the thresholds, reliability, ROC. matplotlib, as PNG."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from model import metrics
from model.card import Calibration
from model.evaluation_report import Outcome, Report
from model.plot_style import AUTHENTIC, DASHES, INK, QUIET, TAMPERED, page, plain, png, upright

_SCORE_BINS: Final = 25


def score_histograms(report: Report, clean: Sequence[Outcome], calibration: Calibration) -> bytes:
    """How each kind of picture scores, authentic above and tampered below the axis, and where the verdicts begin.

    Args:
        report: for the line below.
        clean: outcomes of the pictures as they are, at least one; so for the other plots here.
        calibration: whose thresholds gave the verdicts.
    """
    figure = page(report, "What the score says about each kind of picture", (8.0, 4.8))
    axes = figure.subplots()
    highest = max(_half(axes, clean, tampered=tampered) for tampered in (False, True))
    axes.axhline(0, color=INK, linewidth=0.8)
    for word, threshold, line in (("review", calibration.review_threshold, 1.01), ("flag", calibration.flag_threshold, 1.06)):
        axes.axvline(threshold, color=INK, linewidth=1, linestyle=DASHES)
        text, at = f"{word} above {threshold:.2f} ", (threshold, line)
        axes.annotate(text, at, xycoords=("data", "axes fraction"), ha="right", va="bottom", fontsize=9)
    axes.set(xlim=(0, 1), xlabel="calibrated probability of manipulation", ylabel="share of its kind")
    axes.set_ylim(-1.3 * highest, 1.3 * highest)
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0%}")
    plain(axes, "y")
    return png(figure)


def _half(axes: Axes, clean: Sequence[Outcome], *, tampered: bool) -> float:
    """The histogram of one kind; returns its highest share."""
    colour, sign, name = (TAMPERED, -1, "tampered") if tampered else (AUTHENTIC, 1, "authentic")
    scores = [outcome.score for outcome in clean if outcome.tampered is tampered]
    edges = np.linspace(0, 1, _SCORE_BINS + 1)
    shares = np.histogram(scores, edges)[0] / max(1, len(scores))
    axes.bar(edges[:-1], sign * shares, np.diff(edges), align="edge", color=colour, edgecolor="white", linewidth=0.6)
    place, anchor = ((0.01, 0.97), "top") if sign > 0 else ((0.01, 0.03), "bottom")
    axes.annotate(f"{name} ({len(scores)})", place, xycoords="axes fraction", color=colour, va=anchor, fontweight="bold")
    return float(shares.max())


def reliability(report: Report, clean: Sequence[Outcome]) -> bytes:
    """Stated probability against observed share, in the bins of the calibration error, with the pictures in each."""
    scores, truth = np.array([outcome.score for outcome in clean]), np.array([outcome.tampered for outcome in clean])
    bins = np.minimum((scores * metrics.ECE_BINS).astype(np.int64), metrics.ECE_BINS - 1)
    figure = page(report, "Does the probability mean what it says?", (6.4, 6.8))
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    top.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=DASHES)
    for number in np.unique(bins).tolist():
        inside = bins == number
        count, hits, middle = int(inside.sum()), int(truth[inside].sum()), (number + 0.5) / metrics.ECE_BINS
        upright(top, float(scores[inside].mean()), hits / count, metrics.share_interval(hits, count), TAMPERED)
        bottom.bar(middle, count, 0.9 / metrics.ECE_BINS, color=QUIET)
        bottom.annotate(str(count), (middle, count), (0, 2), textcoords="offset points", ha="center", fontsize=9)
    top.set_title(f"expected calibration error {report.ece:.3f}", loc="left", fontsize=10, color=INK)
    top.set(xlim=(0, 1), ylim=(0, 1), ylabel="observed share of tampered pictures, 95 % interval")
    bottom.set(xlabel="stated probability", ylabel="pictures")
    bottom.margins(y=0.3)
    plain(top, "both")
    plain(bottom, "y")
    return png(figure)


def roc(report: Report, clean: Sequence[Outcome]) -> bytes:
    """Tampered pictures caught against authentic ones caught over all thresholds, with the two that are set."""
    truth = np.array([outcome.tampered for outcome in clean])
    figure = page(report, "Tampered pictures caught, and authentic ones with them", (6.4, 6.6))
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=DASHES)
    axes.plot(*_rates(np.array([outcome.score_logit for outcome in clean]), truth), color=TAMPERED, linewidth=2)
    for words in (("flag",), ("flag", "review")):
        said = np.array([outcome.verdict in words for outcome in clean])
        at = float(said[~truth].mean()), float(said[truth].mean())
        axes.plot(*at, "o", color=INK, markersize=7, zorder=3)
        text = f"{' or '.join(words)}: {at[1]:.0%} of tampered, {at[0]:.1%} of authentic"
        background = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        axes.annotate(text, at, (12, -16), textcoords="offset points", color=INK, fontsize=9.5, bbox=background)
    interval = " (95 % {:.2f} to {:.2f})".format(*report.image_auc_interval) if report.image_auc_interval else ""
    axes.set_title(f"area under the curve {report.image_auc:.3f}{interval}", loc="left", fontsize=10, color=INK)
    axes.set(xlim=(-0.01, 1), ylim=(0, 1.01), xlabel="authentic pictures above the threshold")
    axes.set_ylabel("tampered pictures above the threshold")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    plain(axes, "both")
    return png(figure)


def _rates(logits: NDArray[np.float64], truth: NDArray[np.bool_]) -> tuple[list[float], list[float]]:
    """(share of authentic, share of tampered) at or above each threshold, from none to all."""
    thresholds = np.unique(logits)[::-1]
    authentic, tampered = ([0.0, *((logits[kind] >= at).mean() for at in thresholds)] for kind in (~truth, truth))
    return authentic, tampered
