"""How much of the engine's speed the whole pipeline delivers, and how much faster it is than the naive way.

    python -m benchmarks.throughput [--pictures DIR] [--count 400] [--rounds 3]

Three things are measured in turn, over and over, in one run on one machine, and set in relation:

engine    the bare OpenVINO engine on ready tensors: no files, no queue, no store; the best batch size counts
pipeline  `EmbeddedStack` on JPEG files: Redis, Celery, fetch, decode, micro-batches, masks and scores in SQL
naive     one Celery task a picture, torch eager, batch 1; the better of one process with all cores and one per core

Rates of pipeline and naive count the pictures finished after the queue was filled and the first batches had passed, so
that starting up is in neither. Rendering full-size masks and overlays is timed apart.
"""

import argparse
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from celery import Celery

from benchmarks.pictures import SAMPLES, write_jpegs
from cli.children import Child
from cli.redis_binary import redis_command, wait_for_redis
from cli.stack import EmbeddedStack
from model import preprocess, render
from model.card import builtin_directory
from model.predictor import Predictor
from schemas.settings import Settings
from schemas.states import JobState
from storage import queries
from workers.submission import SourceFile, Submission, submit_files

_WARM_SHARE = 0.2


def main() -> None:
    """Measure and print."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="tamperwatch-bench-") as name:
        folder = Path(name)
        paths = write_jpegs(options.pictures, folder / "pictures", options.count, options.megapixels)
        size = statistics.mean(path.stat().st_size for path in paths)
        print(f"{len(paths)} JPEG files of {options.megapixels:g} megapixels, {size / 1e3:.0f} kB each, {os.cpu_count()} cores")
        rates: dict[str, list[float]] = {"engine": [], "pipeline": [], "naive": []}
        peaks_mb: list[float] = []
        for number in range(1, options.rounds + 1):
            rates["engine"].append(engine_rate())
            rate, peak_mb = pipeline_rate(paths, folder / f"stack-{number}")
            rates["pipeline"].append(rate)
            peaks_mb.append(peak_mb)
            few = paths[: max(40, len(paths) // 4)]
            ways = (naive_rate(few, folder / f"naive-{number}-{count}", count) for count in _ways())
            rates["naive"].append(max(ways))
            measured = ", ".join(f"{name} {values[-1]:.1f}" for name, values in rates.items())
            print(f"round {number}: {measured} img/s", flush=True)
        _summary(rates)
        print(f"peak memory of the pipeline's worker: {max(peaks_mb):.0f} MB")
        print(f"apart: rendering a full-size mask and overlay takes {render_ms(paths[0]):.0f} ms a picture")


def engine_rate(seconds: float = 4.0) -> float:
    """Images/s of the bare engine on ready tensors, at its best batch size."""
    predictor = Predictor.load(builtin_directory())
    shape = (predictor.input_size, predictor.input_size, 3)
    pictures = list(np.random.default_rng(0).integers(0, 256, (8, *shape), dtype=np.uint8))
    best = 0.0
    for batch in (1, 4, 8):
        predictor.predict(pictures[:batch])
        started, done = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - started) < seconds:
            predictor.predict(pictures[:batch])
            done += batch
        best = max(best, done / elapsed)
    return best


def pipeline_rate(paths: Sequence[Path], folder: Path) -> tuple[float, float]:
    """Images/s of the whole embedded pipeline on JPEG files, and the worker's peak memory in MB (Linux; elsewhere nan)."""
    files = [SourceFile(path, path.name) for path in paths]
    submission = Submission("bench", max_bytes=50_000_000)
    with EmbeddedStack(folder, Settings()) as stack:
        for _ in submit_files(files, submission, stack.database, stack.blobs, stack.app):
            stack.supervise()
        while True:
            with stack.database.read() as session:
                counts = queries.job_counts(session)
            if counts[JobState.FAILED]:
                sys.exit("the pipeline failed on a picture; see " + str(folder))
            if counts[JobState.DONE] == len(files):
                break
            stack.supervise()
            time.sleep(0.2)
        with stack.database.read() as session:
            ended = queries.ended_jobs(session, submission.id, None, limit=len(files))
        peak_mb = _peak_memory_mb(stack.worker_pids[0])
    return _steady_rate([each.job.finished_at.timestamp() for each in ended if each.job.finished_at]), peak_mb


def naive_rate(paths: Sequence[Path], folder: Path, processes: int) -> float:
    """Images/s of one Celery task a picture with torch eager at batch 1."""
    folder.mkdir(parents=True)
    socket = folder / "redis.sock"
    environment = os.environ | {
        "NAIVE_BROKER": f"redis+socket://{socket}",
        "NAIVE_DATABASE": str(folder / "results.db"),
        "NAIVE_STUDENT": str(builtin_directory()),
        "NAIVE_THREADS": str(max(1, (os.cpu_count() or 1) // processes)),
    }
    pool = ["--pool", "solo"] if processes == 1 else ["--pool", "prefork", "--concurrency", str(processes)]
    redis = Child("redis", redis_command(socket, folder), folder / "redis.log", environment)
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.naive", "worker", *pool, "--loglevel", "WARNING"]
    worker: Child | None = None
    try:
        wait_for_redis(socket, redis)
        with Celery(broker=environment["NAIVE_BROKER"], set_as_current=False) as app:
            for path in paths:
                app.send_task("naive.audit", args=[str(path)])
        worker = Child("naive worker", command, folder / "worker.log", environment)
        return _steady_rate(_naive_times(folder / "results.db", len(paths), worker))
    finally:
        if worker is not None:
            worker.stop(grace_s=10)
        redis.stop(grace_s=5)


def render_ms(path: Path, repeats: int = 5) -> float:
    """Milliseconds for decoding in full, stretching the mask, and encoding mask and overlay as PNG."""
    mask_net = np.random.default_rng(0).integers(0, 256, (80, 80), dtype=np.uint8)
    started = time.perf_counter()
    for _ in range(repeats):
        image = preprocess.decode(path.read_bytes())
        mask_orig = render.full_size_mask(mask_net, *image.size)
        with tempfile.TemporaryFile() as file:
            mask_orig.save(file, "PNG", compress_level=1)
            render.overlay(image, mask_orig).save(file, "PNG", compress_level=1)
    return (time.perf_counter() - started) / repeats * 1000


def _peak_memory_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM:")), float("nan"))


def _ways() -> tuple[int, ...]:
    cores = os.cpu_count() or 1
    return (1, cores) if cores > 1 else (1,)


def _naive_times(database: Path, count: int, worker: Child) -> list[float]:
    """When each picture was finished, once all are."""
    while True:
        if not worker.running:
            sys.exit(f"the naive worker died: {worker.log_tail()}")
        if database.exists():
            connection = sqlite3.connect(database, timeout=30)
            exists = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'result'").fetchone()[0]
            times = [row[0] for row in connection.execute("SELECT finished_at FROM result")] if exists else []
            connection.close()
            if len(times) >= count:
                return times
        time.sleep(0.2)


def _steady_rate(finished_at: list[float]) -> float:
    """Pictures a second after the first fifth had passed."""
    times = sorted(finished_at)
    first = int(len(times) * _WARM_SHARE)
    return (len(times) - 1 - first) / (times[-1] - times[first])


def _summary(rates: dict[str, list[float]]) -> None:
    for name, values in rates.items():
        print(f"{name:<9} median {statistics.median(values):6.1f} img/s   ({min(values):.1f} to {max(values):.1f})")
    for other in ("engine", "naive"):
        ratios = [ours / theirs for ours, theirs in zip(rates["pipeline"], rates[other], strict=True)]
        print(f"pipeline / {other:<7} median {statistics.median(ratios):.2f}   ({min(ratios):.2f} to {max(ratios):.2f})")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, default=SAMPLES, help="folder of photographs; the samples if left out")
    parser.add_argument("--count", type=int, default=400, help="pictures a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megapixels", type=float, default=1.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
