"""What a simulated fortnight shows: a table, two verdicts, and a plot of F1 night by night."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.fortnight_nights import NightFigures, Truth
from model.plot_style import AUTHENTIC, DASHES, INK, QUIET, TAMPERED, plain, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

F1_MARGIN: Final = 0.02
AREA_MARGIN: Final = 0.01
"""As the promotion rule's for simulated deliveries and for false-alarm area."""

PROMOTED: Final = "promoted"
_HEADS: Final = (
    *("night", "live F1", "start", "later", "candidate", "live AUC", "candidate"),
    *("live", "candidate", "n", "steps", "wall s", "CPU s"),
)
_SIZE_INCHES: Final = (9.0, 8.0)


def live_by_morning(figures: Sequence[NightFigures]) -> list[Truth]:
    """The live model before the first night, and after each."""
    after = [each.candidate if each.state == PROMOTED and each.candidate else each.live for each in figures]
    return [figures[0].live, *after] if figures else []


def worst_steps(mornings: Sequence[Truth]) -> tuple[float, float]:
    """The largest loss of F1 and the largest rise of the false-alarm area from one morning to the next, 0 where there is none."""
    pairs = list(itertools.pairwise(mornings))
    lost = max((before.f1 - after.f1 for before, after in pairs), default=0.0)
    rise = max((after.false_area - before.false_area for before, after in pairs), default=0.0)
    return max(0.0, lost), max(0.0, rise)


def print_table(figures: Sequence[NightFigures]) -> None:
    """One line a night, then whether the live model ever got worse, and what the nights cost."""
    if not figures:
        return
    print(f"\n{'':<8}{'against true masks':<64}{'own hold-out':<26}")
    print("".join(f"{head:>10}" for head in _HEADS) + "  result")
    for each in figures:
        cells = (
            each.night,
            f"{each.live.f1:.3f}",
            f"{each.live.f1_start:.3f}",
            f"{each.live.f1_later:.3f}",
            f"{each.candidate.f1:.3f}" if each.candidate else "-",
            _three(each.live.auc),
            _three(each.candidate.auc) if each.candidate else "-",
            _three(each.hold_out_live),
            _three(each.hold_out_candidate),
            each.hold_out_pictures,
            each.steps,
            f"{each.wall_s:.0f}",
            f"{each.cpu_s:.0f}",
        )
        print("".join(f"{cell:>10}" for cell in cells) + f"  {each.state}")
    _print_verdicts(figures)


def _print_verdicts(figures: Sequence[NightFigures]) -> None:
    mornings = live_by_morning(figures)
    first, last = mornings[0], mornings[-1]
    lost, rise = worst_steps(mornings)
    promoted = sum(each.state == PROMOTED for each in figures)
    trained = [each for each in figures if each.candidate]
    print(f"\n{len(figures)} nights, {len(trained)} candidates, {promoted} went live; F1 {first.f1:.3f} to {last.f1:.3f}", end="")
    print(f" (start sets {first.f1_start:.3f} to {last.f1_start:.3f}, later sets {first.f1_later:.3f} to {last.f1_later:.3f})")
    print(f"image AUC {_three(first.auc)} to {_three(last.auc)}; ", end="")
    print(f"largest loss of F1 in a night {lost:.3f}, {_said(lost, F1_MARGIN)}; ", end="")
    print(f"largest rise of the false-alarm area {rise:.2%}, {_said(rise, AREA_MARGIN)}")
    if not trained:
        return
    walls, cpus = ([getattr(each, name) for each in trained] for name in ("wall_s", "cpu_s"))
    print(f"a night that trained: {_mean(walls):.0f} s of wall time, {_mean(cpus):.0f} s of CPU", end="")
    print(f" (longest {max(walls):.0f} and {max(cpus):.0f})")


def plot(figures: Sequence[NightFigures], target: Path) -> None:
    """Night by night: F1 against true masks, F1 on the run's own hold-out, both of live model and candidate, and CPU time."""
    from matplotlib.figure import Figure

    page = Figure(figsize=_SIZE_INCHES, facecolor="white", layout="constrained")
    page.suptitle("A simulated fortnight: the live model by morning, and each night's candidate", x=0.02, ha="left", color=INK)
    true, own, cost = page.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1))
    _draw_true_masks(true, figures)
    _draw_hold_out(own, figures)
    cost.bar([each.night for each in figures], [each.cpu_s for each in figures], width=0.6, color=QUIET)
    cost.set_ylabel("CPU, s a run", color=INK)
    cost.set_xlabel("night", color=INK)
    cost.set_xticks(range(len(figures) + 1))
    for axes in (true, own, cost):
        axes.set_ylim(bottom=0)
        plain(axes, "y")
    target.write_bytes(png(page))


def _draw_true_masks(axes: "Axes", figures: Sequence[NightFigures]) -> None:
    mornings = live_by_morning(figures)
    days = range(len(mornings))
    axes.step(days, [each.f1 for each in mornings], where="post", color=INK, linewidth=2, label="live, all sets")
    axes.step(days, [each.f1_start for each in mornings], where="post", color=QUIET, linestyle=DASHES, label="live, start sets")
    axes.step(days, [each.f1_later for each in mornings], where="post", color=QUIET, linestyle=":", label="live, later sets")
    _draw_candidates(axes, [(each, each.candidate.f1) for each in figures if each.candidate])
    axes.set_ylabel("F1, true masks", color=INK)
    axes.legend(frameon=False, fontsize=8, ncols=5, loc="lower left")


def _draw_hold_out(axes: "Axes", figures: Sequence[NightFigures]) -> None:
    """As the promotion rule saw it: against the teacher's masks of held-out boxes."""
    lived = [(each.night, each.hold_out_live) for each in figures if each.hold_out_live is not None]
    if lived:
        axes.plot(*zip(*lived, strict=True), "o", color=INK, markersize=5, label="live, that night")
    _draw_candidates(axes, [(each, each.hold_out_candidate) for each in figures if each.hold_out_candidate is not None])
    axes.set_ylabel("F1, its own hold-out", color=INK)
    if lived:
        axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower left")


def _draw_candidates(axes: "Axes", found: Sequence[tuple[NightFigures, float]]) -> None:
    for state, marker, colour in ((PROMOTED, "^", AUTHENTIC), ("rejected", "x", TAMPERED)):
        these = [(each.night, f1) for each, f1 in found if each.state == state]
        if these:
            axes.plot(*zip(*these, strict=True), marker, color=colour, markersize=8, label=f"candidate, {state}")


def _said(found: float, margin: float) -> str:
    return f"{'within' if found <= margin else 'MORE than'} the margin of {margin:g}"


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
