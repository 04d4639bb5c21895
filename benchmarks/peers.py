"""Ours beside other ways to serve the same student on the same files, in one run on one machine.

    python -m benchmarks.peers [--count 2000] [--ours 2000] [--megapixels 0.1 1.0] [--rounds 1] [--peers litserve …]
        [--input-size N] [--json FILE]

ours                our worker in the embedded stack, answers from the store and second looks off
naive (torch)       one Celery task a picture, torch eager, batch of one, one commit a result
naive (openvino)    the same on the engine that ours runs on
celery-batches      Celery tasks in batches of 16, openvino
litserve            LitServe, batches of 16 after 20 ms, openvino, 64 clients over HTTP
ray serve           Ray Serve, batches of 16 after 20 ms, openvino, handle calls

All read the file, decode it as ours does, predict, and store mask and score in SQLite. Each runs as one process with all cores
and as one process a core, first on some pictures; the faster way then runs on all. Rates leave out the first fifth. What is
not installed is named with the command that installs it.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from benchmarks.naive_run import naive_rate
from benchmarks.ours import OurStack, bench_settings
from benchmarks.peer_run import litserve_rate, ray_rate
from benchmarks.pictures import SAMPLES, write_jpegs
from benchmarks.small_student import make_live, small_student
from cli.stack import EmbeddedStack
from model.card import builtin_directory
from storage import migrations
from storage.database import Database

Run = Callable[[Sequence[Path], Path, int, Path], float]
_TRIAL = 120


@dataclass(frozen=True)
class Peer:
    """Another way: what it needs installed, and how to run it with a number of processes."""

    name: str
    module: str
    install: str
    run: Run


@dataclass(frozen=True)
class Line:
    """One way on one size of picture; rates in pictures a second, one for each round."""

    megapixels: float
    way: str
    processes: int
    count: int
    rates: list[float]


PEERS = (
    Peer("naive (torch)", "torch", "pip install 'tamperwatch[gpu]'", partial(naive_rate, engine="torch")),
    Peer("naive (openvino)", "celery", "", partial(naive_rate, engine="openvino")),
    Peer(
        "celery-batches",
        "celery_batches",
        "pip install 'tamperwatch[bench]'",
        partial(naive_rate, engine="openvino", app="celery_batches_app"),
    ),
    Peer("litserve", "litserve", "pip install 'tamperwatch[bench]'", litserve_rate),
    Peer("ray serve", "ray", "pip install 'ray[serve]'", ray_rate),
)


def main() -> None:
    """Measure and print."""
    options = _options()
    wanted = [peer for peer in PEERS if peer.name in options.peers]
    installed = [peer for peer in wanted if importlib.util.find_spec(peer.module)]
    lines: list[Line] = []
    for megapixels in options.megapixels:
        with tempfile.TemporaryDirectory(prefix="tamperwatch-peers-") as name:
            folder = Path(name)
            student = small_student(folder / "student", options.input_size) if options.input_size else builtin_directory()
            paths = write_jpegs(options.pictures, folder / "pictures", max(options.count, options.ours), megapixels)
            lines += compared(paths, options, installed, megapixels, student, folder)
        _print_table(lines, megapixels)
    for peer in wanted:
        if peer not in installed:
            print(f"{peer.name} is not installed and was left out: {peer.install}")
    if options.json:
        options.json.write_text(json.dumps([asdict(line) for line in lines], indent=1) + "\n", encoding="utf-8")


def compared(
    paths: Sequence[Path], options: argparse.Namespace, peers: Sequence[Peer], megapixels: float, student: Path, folder: Path
) -> Iterator[Line]:
    """Every way on pictures of one size, in turn, round after round."""
    few = paths[: options.count]
    best = {peer.name: _faster(peer, few[:_TRIAL], student, folder) for peer in peers}
    rates: dict[str, list[float]] = {name: [] for name in ("ours", *best)}
    for number in range(options.rounds):
        rates["ours"].append(_ours(paths[: options.ours], student, folder / f"ours-{number}"))
        for peer in peers:
            rates[peer.name].append(peer.run(few, folder / f"{peer.module}-{peer.name}-{number}", best[peer.name], student))
            print(f"  {megapixels:g} megapixels, {peer.name}: {rates[peer.name][-1]:.1f} img/s", flush=True)
    yield Line(megapixels, "ours", 1, min(options.ours, len(paths)), rates["ours"])
    for name, processes in best.items():
        yield Line(megapixels, name, processes, len(few), rates[name])


def _ours(paths: Sequence[Path], student: Path, folder: Path) -> float:
    settings = bench_settings()
    if student != builtin_directory():
        # Before the stack makes the shipped one live, and loads it.
        folder.mkdir(parents=True)
        with contextlib.closing(Database(f"sqlite:///{folder.resolve() / 'tamperwatch.db'}")) as database:
            migrations.upgrade(database)
            make_live(student, database)
    with EmbeddedStack(folder, settings) as stack:
        return OurStack(stack).under_load(paths).rate


def _faster(peer: Peer, paths: Sequence[Path], student: Path, folder: Path) -> int:
    """How many processes suit this way."""
    ways = sorted({1, os.cpu_count() or 1})
    return max(ways, key=lambda processes: peer.run(paths, folder / f"trial-{peer.name}-{processes}", processes, student))


def _print_table(lines: Sequence[Line], megapixels: float) -> None:
    shown = [line for line in lines if line.megapixels == megapixels]
    ours = shown[0].rates
    columns = ("processes", "pictures", "img/s", "ours / it")
    print(f"\n{megapixels:g} megapixels, {os.cpu_count()} cores")
    print(f"{'way':<20}" + "".join(f"{column:>11}" for column in columns))
    for line in shown:
        ratio = statistics.median(mine / other for mine, other in zip(ours, line.rates, strict=True))
        rate = statistics.median(line.rates)
        print(f"{line.way:<20}{line.processes:>11}{line.count:>11}{rate:>11.1f}{ratio:>11.2f}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, default=SAMPLES, help="folder of photographs; the samples if left out")
    parser.add_argument("--count", type=int, default=2000, help="pictures for each peer")
    parser.add_argument("--ours", type=int, help="pictures for ours; as many as for a peer if left out")
    parser.add_argument("--megapixels", type=float, nargs="+", default=[0.1, 1.0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--peers", nargs="+", choices=[peer.name for peer in PEERS], default=[peer.name for peer in PEERS])
    parser.add_argument("--input-size", type=int, default=0, help="of the student, in pixels; 0: the shipped one's")
    parser.add_argument("--json", type=Path, help="also write the rates to this file")
    options = parser.parse_args()
    options.ours = options.ours or options.count
    return options


if __name__ == "__main__":
    main()
