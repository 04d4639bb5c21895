"""How much of the engine's speed the whole pipeline delivers, what a picture costs beside it, and how fast the naive way is.

    python -m benchmarks.throughput [--pictures DIR] [--count 300] [--rounds 3] [--megapixels 1.0]

Measured in turn, over and over, in one run on one machine, with the shipped student:

engine    the bare OpenVINO engine on ready tensors: no files, no queue, no store; the best batch size counts
ceiling   the engine and the decoding of JPEG files, on the same cores, with nothing around them
pipeline  `EmbeddedStack` on the same files: Redis, Celery, fetch, decode, micro-batches, masks and scores in SQL
naive     one Celery task a picture, torch eager, batch 1; the better of one process with all cores and one per core

The rates of pipeline and naive count what was finished after the queue was filled and a fifth had passed. Answering from the
store and second looks are off, since nobody else here does either. "By CPU" compares CPU time a picture instead of pictures a
second, which other programs on the machine disturb less. Overhead is the worker's CPU time a picture less that of
the ceiling. Latency, from a job's row to its result, is measured at half the pipeline's rate of the same round.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.ceiling import Ceiling, Pace
from benchmarks.naive_run import naive_rate
from benchmarks.ours import Load, OurStack, bench_settings
from benchmarks.pictures import SAMPLES, write_jpegs
from cli.stack import EmbeddedStack
from workers.loaded import CPU_BATCH


@dataclass(frozen=True)
class Round:
    """All that was measured in one round; rates in pictures a second, CPU times in ms a picture."""

    engine: Pace
    ceiling: Pace
    decode_ms: float
    pipeline: Load
    naive: float
    latency_p95_s: float
    latency_limit_s: float

    @property
    def overhead_ms(self) -> float:
        return self.pipeline.cpu_ms - self.ceiling.cpu_ms


def main() -> None:
    """Measure and print."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="tamperwatch-bench-") as name:
        folder = Path(name)
        paths = write_jpegs(options.pictures, folder / "pictures", options.count, options.megapixels)
        size_kb = statistics.mean(path.stat().st_size for path in paths) / 1e3
        print(f"{len(paths)} JPEG files of {options.megapixels:g} megapixels, {size_kb:.0f} kB each, {os.cpu_count()} cores")
        ceiling, rounds = Ceiling(CPU_BATCH), list[Round]()
        for number in range(1, options.rounds + 1):
            rounds.append(measured(ceiling, paths, folder / str(number)))
            _print_round(number, rounds[-1])
    print_summary(rounds)
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in rounds], indent=1) + "\n", encoding="utf-8")


def measured(ceiling: Ceiling, paths: Sequence[Path], folder: Path) -> Round:
    """One round; `folder` does not exist yet."""
    settings, some = bench_settings(), paths[: max(40, len(paths) // 4)]
    engine, alone, decode_ms = ceiling.engine(), ceiling.engine_and_decode(paths), ceiling.decode_ms(some)
    with EmbeddedStack(folder / "stack", settings) as stack:
        ours = OurStack(stack)
        load = ours.under_load(paths)
        latencies_s = ours.latencies_s(some, load.rate / 2)
    naive = max(naive_rate(some, folder / f"naive-{count}", count) for count in ways())
    batch_s = CPU_BATCH / engine.rate
    limit_s = 2 * (settings.worker.max_wait_ms / 1000 + batch_s)
    return Round(engine, alone, decode_ms, load, naive, float(np.quantile(latencies_s, 0.95)), limit_s)


def ways() -> tuple[int, ...]:
    """Processes of a way that runs one picture at a time: one that takes all cores, or one a core."""
    cores = os.cpu_count() or 1
    return (1, cores) if cores > 1 else (1,)


def print_summary(rounds: Sequence[Round]) -> None:
    """Medians and ranges over the rounds."""
    print("\npictures a second")
    for name in ("engine", "ceiling", "pipeline", "naive"):
        _row(name, [_rate(each, name) for each in rounds], "7.1f")
    print("ratios within a round")
    for other in ("engine", "ceiling", "naive"):
        _row(f"pipeline / {other}", [_rate(each, "pipeline") / _rate(each, other) for each in rounds], "7.2f")
    # The same as pipeline / ceiling where nothing else runs, and still right where something does.
    _row("pipeline / ceiling by CPU", [each.ceiling.cpu_ms / each.pipeline.cpu_ms for each in rounds], "7.2f")
    print("ms of CPU a picture")
    _row("inference", [each.engine.cpu_ms for each in rounds], "7.2f")
    _row("decode", [each.decode_ms for each in rounds], "7.2f")
    _row("all else (overhead)", [each.overhead_ms for each in rounds], "7.2f")
    print("under load")
    _row("mean batch / largest", [each.pipeline.batch_share for each in rounds], "7.2f")
    _row("peak memory, MB", [each.pipeline.peak_mb for each in rounds], "7.0f")
    print("at half load")
    _row("p95 latency, s", [each.latency_p95_s for each in rounds], "7.3f")
    _row("of 2 x (deadline + batch)", [each.latency_p95_s / each.latency_limit_s for each in rounds], "7.2f")


def _print_round(number: int, measured: Round) -> None:
    rates = ", ".join(f"{name} {_rate(measured, name):.1f}" for name in ("engine", "ceiling", "pipeline", "naive"))
    print(f"round {number}: {rates} img/s; overhead {measured.overhead_ms:.2f} ms", flush=True)


def _rate(measured: Round, name: str) -> float:
    if name == "naive":
        return measured.naive
    rate: float = getattr(measured, name).rate
    return rate


def _row(name: str, values: Sequence[float], form: str) -> None:
    print(f"  {name:<26} median {statistics.median(values):{form}}   ({min(values):{form}} to {max(values):{form}})")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, default=SAMPLES, help="folder of photographs; the samples if left out")
    parser.add_argument("--count", type=int, default=300, help="pictures a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megapixels", type=float, default=1.0)
    parser.add_argument("--json", type=Path, help="also write everything measured to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
