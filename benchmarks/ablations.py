"""What each part of a recipe is worth: the runs of an ablation side by side.

    python -m benchmarks.ablations RUNS [--base base] [--plot ablations.png]

RUNS holds the run folders of `tamperwatch train`, named VARIANT-SEED: base-1, base-2, nomem-1 and so on. One line a run, from its
student's card: pixel F1 on the validation scenes with its 95 % interval, image AUC, false-alarm area, and the share of F1 that is
left through the simulated network that takes most. Then the difference of each variant's F1 from the base's, by seed.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from model.card import CARD_NAME, Card
from model.plot_style import INK, QUIET, TAMPERED, across, plain, png
from schemas.errors import InvalidInput

STUDENT: Final = "student"
_ROW_INCHES: Final = 0.4


@dataclass(frozen=True)
class Run:
    """One run's figures on its validation scenes.

    Attributes:
        f1, low, high: pixel F1 and its 95 % interval.
        area: false-alarm area of authentic pictures, 0..1.
        kept: the least share of F1 that a simulated network leaves; nan where F1 is 0.
    """

    variant: str
    seed: int
    f1: float
    low: float
    high: float
    auc: float
    area: float
    kept: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--base", default="base", help="the variant that the others are held against")
    parser.add_argument("--plot", type=Path, help="PNG to write")
    options = parser.parse_args(arguments)
    try:
        runs = read_runs(options.runs)
    except InvalidInput as error:
        parser.error(error.message)
    print_table(runs, options.base)
    if options.plot:
        options.plot.write_bytes(plot(runs, options.base))


def read_runs(folder: Path) -> list[Run]:
    """The finished runs of a folder, by variant and seed.

    Raises:
        InvalidInput: there is none.
    """
    cards = sorted(folder.glob(f"*-*/{STUDENT}/{CARD_NAME}"))
    runs = [_run(path.parents[1].name, Card.load(path.parent).metrics) for path in cards if _named(path.parents[1].name)]
    if not runs:
        raise InvalidInput(f"{folder} holds no finished run named VARIANT-SEED, such as base-1")
    return sorted(runs, key=lambda run: (run.variant, run.seed))


def differences(runs: Sequence[Run], base: str) -> dict[str, list[float]]:
    """F1 of each variant minus the base's of the same seed, in the order of seeds."""
    against = {run.seed: run.f1 for run in runs if run.variant == base}
    found: dict[str, list[float]] = {}
    for run in runs:
        if run.variant != base and run.seed in against:
            found.setdefault(run.variant, []).append(run.f1 - against[run.seed])
    return found


def print_table(runs: Sequence[Run], base: str) -> None:
    """All runs, then the differences."""
    print(f"{'run':<14}{'F1':>7}  {'95 %':<16}{'image AUC':>9}{'false area':>12}{'F1 kept':>9}")
    for run in runs:
        name, interval = f"{run.variant}-{run.seed}", f"[{run.low:.3f}, {run.high:.3f}]"
        print(f"{name:<14}{run.f1:>7.3f}  {interval:<16}{run.auc:>9.3f}{run.area:>12.1%}{run.kept:>9.0%}")
    seeds = [run.f1 for run in runs if run.variant == base]
    if len(seeds) > 1:
        print(f"\nseeds of {base} alone differ by up to {max(seeds) - min(seeds):.3f}")
    for variant, values in sorted(differences(runs, base).items(), key=lambda item: sum(item[1]) / len(item[1])):
        print(f"{variant:<14}{sum(values) / len(values):>+7.3f}  ({', '.join(f'{value:+.3f}' for value in values)})")


def plot(runs: Sequence[Run], base: str) -> bytes:
    """A PNG: F1 of every run with its interval, seeds of a variant side by side, the base's range shaded."""
    from matplotlib.figure import Figure

    ordered = sorted({run.variant for run in runs}, key=lambda variant: (variant != base, _mean_f1(runs, variant)))
    page = Figure(figsize=(7.5, 1.2 + _ROW_INCHES * len(ordered)), facecolor="white", layout="constrained")
    axes = page.subplots()
    seeds = [run.f1 for run in runs if run.variant == base]
    if seeds:
        axes.axvspan(min(seeds), max(seeds), color=QUIET, alpha=0.25, linewidth=0)
    for row, variant in enumerate(ordered):
        these = [run for run in runs if run.variant == variant]
        for number, run in enumerate(these):
            height = row + 0.22 * (number - (len(these) - 1) / 2)
            across(axes, height, run.f1, (run.low, run.high), INK if variant == base else TAMPERED)
    axes.set_yticks(range(len(ordered)), ordered)
    axes.invert_yaxis()
    axes.set_xlabel("pixel F1 on validation scenes, 95 % intervals; a dot a seed, shaded: the base's seeds", color=INK)
    plain(axes, "x")
    return png(page)


def _mean_f1(runs: Sequence[Run], variant: str) -> float:
    found = [run.f1 for run in runs if run.variant == variant]
    return sum(found) / len(found)


def _named(name: str) -> bool:
    return name.rpartition("-")[2].isdigit()


def _run(name: str, metrics: dict[str, Any]) -> Run:
    variant, _, seed = name.rpartition("-")
    overall, through = metrics["overall"], metrics["profile_figures"]
    f1 = overall["f1"]
    kept = [figures["overall"]["f1"] / f1 for profile, figures in through.items() if profile != "none"] if f1 else []
    low, high = overall["intervals"]["f1"]
    return Run(variant, int(seed), f1, low, high, metrics["image_auc"], overall["fa_area"], min(kept, default=math.nan))


if __name__ == "__main__":
    main()
