"""What a hot swap costs a worker under load: throughput before, during and after, failed jobs, mixed results.

    python -m benchmarks.swap [--rounds 3] [--window 30] [--pictures DIR] [--megapixels 1.0] [--json FILE]

The queue of an embedded stack with one worker is kept filled. Each round makes a version live that the worker has not seen,
stored in the blob store as a night stores one: weights that answer differently and the shipped ones under another name, in turns.
The window called "during" begins at the promotion, so the worker's noticing, fetching, loading and warming up all lie in it. Some
pictures come round many times as new jobs, and a result is called mixed where its score or its mask is not what its version said
of the same picture mostly. Needs torch, to make the other weights.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks.ours import bench_settings
from benchmarks.pictures import SAMPLES, write_jpegs
from benchmarks.swap_load import WAITING, Busy, Tally
from benchmarks.swap_versions import twin_of_shipped
from cli.stack import EmbeddedStack
from storage import registry

PICTURES: Final = 24
WHO: Final = "benchmark"


@dataclass(frozen=True)
class Round:
    """One swap; rates in pictures a second.

    Attributes:
        dip: share of the rate before that was lost in the window that begins with the promotion.
        lasting: the same of the window after that: what the new version costs, or how unsteady the machine is.
        longest_gap_s: between two results, in that window.
        taken_over_s: from the promotion to the first result of the new version.
    """

    version: str
    before: float
    during: float
    after: float
    longest_gap_s: float
    taken_over_s: float

    @property
    def dip(self) -> float:
        return _lost(self.during, self.before)

    @property
    def lasting(self) -> float:
        return _lost(self.after, self.before)


def _lost(rate: float, before: float) -> float:
    return 1 - rate / before if before else float("nan")


def main() -> None:
    """Measure and print."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="tamperwatch-swap-") as name:
        folder = Path(name)
        paths = write_jpegs(options.pictures, folder / "pictures", PICTURES, options.megapixels)
        rounds, tally = swapped(folder, paths, options.rounds, options.window)
    print_summary(rounds, tally, options.window)
    if options.json:
        found = {"rounds": [asdict(each) | {"dip": each.dip, "lasting": each.lasting} for each in rounds], "tally": asdict(tally)}
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def swapped(
    folder: Path, paths: Sequence[Path], rounds: int, window_s: float, waiting: int = WAITING
) -> tuple[list[Round], Tally]:
    """Swap so many times under load, then let the worker finish."""
    settings = bench_settings()
    settings.engine.model_cache = str(folder / "cache")
    with EmbeddedStack(folder / "stack", settings) as stack:
        versions = [twin_of_shipped(stack, folder / f"version-{number}", number) for number in range(1, rounds + 1)]
        busy = Busy(stack, paths, waiting)
        busy.until_warm()
        found = []
        for version in versions:
            found.append(_swap(busy, version, window_s))
            _print_round(found[-1])
        busy.drain()
        return found, busy.tally()


def _swap(busy: Busy, version: str, window_s: float) -> Round:
    before = busy.window(window_s)
    with busy.stack.database.write() as session:
        registry.promote(session, version, WHO, "a swap under load")
    during, after = busy.window(window_s), busy.window(window_s)
    return Round(
        version,
        before=busy.rate(before),
        during=busy.rate(during),
        after=busy.rate(after),
        longest_gap_s=busy.longest_gap_s(during),
        taken_over_s=busy.first_of_s(version) - during.start_s,
    )


def print_summary(rounds: Sequence[Round], tally: Tally, window_s: float) -> None:
    """The dip, and what became of the jobs."""
    print()
    for words, lost in (("the promotion", [each.dip for each in rounds]), ("that", [each.lasting for each in rounds])):
        span = f"{min(lost):+.1%} to {max(lost):+.1%}"
        print(f"throughput lost in the {window_s:g} s after {words}: median {statistics.median(lost):+.1%} ({span})")
    print(f"jobs {tally.jobs}, failed {tally.failed}, without exactly one result {tally.not_one}, mixed results {tally.mixed}")
    print(f"pictures that two versions answered differently: {tally.told_apart} of {tally.pictures}")


def _print_round(each: Round) -> None:
    rates = f"before {each.before:.2f}, during {each.during:.2f}, after {each.after:.2f} img/s"
    print(f"{each.version}: {rates}, dip {each.dip:+.1%}, lasting {each.lasting:+.1%}; ", end="")
    print(f"first result after {each.taken_over_s:.1f} s, longest gap {each.longest_gap_s:.2f} s", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="swaps")
    parser.add_argument("--window", type=float, default=30.0, help="seconds; three of them a swap")
    parser.add_argument("--pictures", type=Path, default=SAMPLES, help="folder of photographs; the samples if left out")
    parser.add_argument("--megapixels", type=float, default=1.0)
    parser.add_argument("--json", type=Path, help="also write everything measured to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
