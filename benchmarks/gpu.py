"""What a GPU makes of this machine: pictures a second from files to masks, held against what the CPU's cores can decode.

    python -m benchmarks.gpu [--device cuda:0] [--pictures DIR] [--count 2000] [--rounds 3] [--json]

batches   pictures/s of the network by batch size, ready pictures gathered, sent, computed and brought back, one batch at a time
drift     what bfloat16 changes in masks and verdicts against float32, on pictures
decode    pictures/s of reading and decoding alone, one process a core
audit     pictures/s of reading, decoding, the micro-batcher and the device together, in one process as a worker runs them; no
          queue and no store. Its share of `decode` is what the device leaves of the machine's speed
busy      share of the audit's time in which the device computed, by the events of its own stream

Decode and audit are measured in turn, on the same files. Ends with status 3 where the device is not there; `--device cpu` runs
everything on the CPU, where audit and decode want the same cores.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.pictures import SAMPLES, write_jpegs
from model import calibration
from model.card import builtin_directory
from model.engines import Precision
from model.predictor import Predictor
from model.preprocess import prepare
from schemas.errors import TamperwatchError
from schemas.settings import EngineSettings, Settings
from workers.batch_size import LARGEST, Trial, best_batch, doublings
from workers.loaded import Loaded, timed

EXIT_NO_DEVICE: Final = 3
AIM: Final = 0.9
_DRIFT_BATCH: Final = 8


@dataclass(frozen=True)
class Answers:
    """Of N pictures: probabilities [N, M, M], and verdicts."""

    prob: NDArray[np.float32]
    verdicts: list[str]


@dataclass(frozen=True)
class Drift:
    """What bfloat16 changes: of probabilities, of pixels on the other side of 0.5, of verdicts."""

    pictures: int
    largest: float
    mean: float
    crossing_share: float
    verdict_flips: int


@dataclass(frozen=True)
class Round:
    """Pictures a second of decoding alone and of the audit beside it, and the share of time the device computed."""

    decode: float
    audit: float
    busy: float


@dataclass(frozen=True)
class Report:
    """All that was measured."""

    device: str
    model: str
    cores: int
    pictures: int
    max_batch: int
    lanes: int
    batches: dict[int, Trial]
    drift: Drift
    rounds: list[Round]

    @property
    def shares(self) -> list[float]:
        """Of each round, audit / decode."""
        return [each.audit / each.decode for each in self.rounds]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _options(arguments)
    try:
        predictor = Predictor.load(builtin_directory(), "torch", device=options.device, compiled=options.compiled)
        with tempfile.TemporaryDirectory(prefix="tamperwatch-gpu-") as name:
            paths = write_jpegs(options.pictures, Path(name), options.count, options.megapixels)
            report = measure(predictor, paths, options)
    except TamperwatchError as error:
        print(error.message, file=sys.stderr)
        sys.exit(EXIT_NO_DEVICE)
    if options.json:
        print(json.dumps(asdict(report) | {"decode_share": statistics.median(report.shares)}))
    else:
        show(report)


def measure(predictor: Predictor, paths: Sequence[Path], options: argparse.Namespace) -> Report:
    """Everything, on the device the predictor is on."""
    share = EngineSettings().memory_share
    batches = dict(doublings(lambda size: timed(predictor, size, options.seconds), share, options.largest))
    max_batch = best_batch(lambda size: batches[size], share, max(batches))
    model = Loaded(predictor, Settings(), max_batch)
    few = paths[: options.drift_pictures]
    drift = drift_between(answers(few, options.device, "float32"), answers(few, options.device, "bf16"))
    rounds = []
    for _ in range(options.rounds):
        decode = decode_rate(paths, predictor.input_size)
        audit, busy = audit_rate(model, predictor, paths)
        rounds.append(Round(decode, audit, busy))
    model.close()
    return Report(
        device=options.device,
        model=predictor.card.version,
        cores=os.cpu_count() or 1,
        pictures=len(paths),
        max_batch=max_batch,
        lanes=model.lanes,
        batches=batches,
        drift=drift,
        rounds=rounds,
    )


def answers(paths: Sequence[Path], device: str, precision: Precision) -> Answers:
    """The student's answers to the pictures, in one precision."""
    predictor = Predictor.load(builtin_directory(), "torch", device=device, precision=precision)
    parts = []
    for start in range(0, len(paths), _DRIFT_BATCH):
        pictures = [prepare(path.read_bytes(), predictor.input_size).pixels for path in paths[start : start + _DRIFT_BATCH]]
        parts.append(predictor.engine(np.stack(pictures)))
    by = predictor.card.calibration
    verdicts = [calibration.verdict(calibration.score(float(logit), by), by) for _, logits in parts for logit in logits]
    return Answers(np.concatenate([prob for prob, _ in parts]), verdicts)


def drift_between(exact: Answers, half: Answers) -> Drift:
    """What the second precision changes against the first."""
    apart = np.abs(exact.prob - half.prob)
    return Drift(
        pictures=len(exact.verdicts),
        largest=float(apart.max()),
        mean=float(apart.mean()),
        crossing_share=float(((exact.prob > 0.5) != (half.prob > 0.5)).mean()),
        verdict_flips=sum(one != other for one, other in zip(exact.verdicts, half.verdicts, strict=True)),
    )


def decode_rate(paths: Sequence[Path], input_size: int) -> float:
    """Pictures a second that all cores read and decode, one process each, with nothing else to do."""
    cores = os.cpu_count() or 1
    shares = [paths[number::cores] for number in range(cores)]
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as pool:
        # Each process is up and has its imports when as many first pictures are done as there are processes.
        list(pool.map(_decode_all, [paths[:1]] * cores, [input_size] * cores))
        started_s = time.perf_counter()
        done = sum(pool.map(_decode_all, shares, [input_size] * cores))
        return done / (time.perf_counter() - started_s)


def audit_rate(model: Loaded, predictor: Predictor, paths: Sequence[Path]) -> tuple[float, float]:
    """Pictures a second from files to masks, and the share of that time in which the device computed."""

    def audit(path: Path) -> None:
        model.submit(prepare(path.read_bytes(), model.input_size).pixels).result()

    busy_s = predictor.busy_s
    with ThreadPoolExecutor((model.lanes + 1) * model.max_batch) as threads:
        started_s = time.perf_counter()
        list(threads.map(audit, paths))
        elapsed_s = time.perf_counter() - started_s
    return len(paths) / elapsed_s, (predictor.busy_s - busy_s) / elapsed_s


def show(report: Report) -> None:
    """Print a report for people."""
    print(f"{report.model} on {report.device}, {report.cores} cores, {report.pictures} pictures\n")
    print("batch   pictures/s   device memory")
    for size, trial in report.batches.items():
        mark = f"   <- max_batch, {report.lanes} under way at once" if size == report.max_batch else ""
        print(f"{size:>5}   {trial.rate:>10.1f}   {trial.memory_share:>12.1%}{mark}")
    drift = report.drift
    print(f"\nbf16 against float32 on {drift.pictures} pictures: probabilities differ by {drift.mean:.5f} on average and")
    print(f"{drift.largest:.4f} at most; {drift.crossing_share:.4%} of pixels cross 0.5; {drift.verdict_flips} verdicts change\n")
    for name in ("decode", "audit"):
        print(_line(f"{name} pictures/s", [getattr(each, name) for each in report.rounds], "10.1f"))
    print(_line("audit / decode", report.shares, "10.2f") + f"   (aim: {AIM})")
    print(_line("device busy", [each.busy for each in report.rounds], "10.1%"))


def _line(name: str, values: Sequence[float], form: str) -> str:
    return f"{name:<18} median {statistics.median(values):{form}}   ({min(values):{form}} to {max(values):{form}})"


def _decode_all(paths: Sequence[Path], input_size: int) -> int:
    for path in paths:
        prepare(path.read_bytes(), input_size)
    return len(paths)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0", help="cuda:N, or cpu")
    parser.add_argument("--compiled", action="store_true", help="let torch.compile make the device's code")
    parser.add_argument("--pictures", type=Path, default=SAMPLES, help="folder of photographs; the samples if left out")
    parser.add_argument("--count", type=int, default=2000, help="pictures a round")
    parser.add_argument("--megapixels", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each batch size")
    parser.add_argument("--largest", type=int, default=LARGEST, help="batch size to end at")
    parser.add_argument("--drift-pictures", type=int, default=64, help="pictures on which bf16 and float32 are compared")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
