"""Our own pipeline under load: submit files, wait until every job has ended, and say what that took."""

import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from prometheus_client.parser import text_string_to_metric_families

from cli.stack import EmbeddedStack
from schemas.settings import Settings
from schemas.states import JobState
from schemas.tables import AuditJob
from storage import queries
from storage.database import Database
from tests.local_servers import free_ports
from workers.loaded import CPU_BATCH
from workers.submission import SourceFile, Submission, submit_files

WARM_SHARE = 0.2
_POLL_S = 0.2


@dataclass(frozen=True)
class Load:
    """A worker with a full queue: after it was filled and a fifth had passed, and before the last two batches.

    Attributes:
        rate: pictures a second.
        cpu_ms: the worker's CPU time a picture.
        batch_share: mean batch on the device / the largest allowed.
        peak_mb: the worker's largest resident memory.
    """

    rate: float
    cpu_ms: float
    batch_share: float
    peak_mb: float


def bench_settings() -> Settings:
    """Every picture is audited, once: nobody else here answers from a store, or looks twice at a picture near a threshold."""
    settings = Settings()
    settings.worker.reuse_results = False
    settings.worker.stability_band = 0.0
    (settings.telemetry.port,) = free_ports(1)
    return settings


class OurStack:
    """An embedded stack with one worker, to be measured for as long as the `with` block lasts."""

    def __init__(self, stack: EmbeddedStack) -> None:
        self._stack = stack

    def under_load(self, paths: Sequence[Path]) -> Load:
        """Submit all files at once and wait for the last."""
        for _ in self._submit(paths, "load"):
            self._stack.supervise()
        begun = self._snapshot(self._wait("load", int(WARM_SHARE * len(paths))))
        # While the queue still holds a batch for each that the worker has in hand: what comes after is no load.
        ended = self._snapshot(self._wait("load", len(paths) - 2 * CPU_BATCH))
        self._wait("load", len(paths))
        times_s = self._finished_s("load", len(paths))
        return Load(
            rate=(ended.done - begun.done) / (times_s[ended.done - 1] - times_s[begun.done - 1]),
            cpu_ms=(ended.cpu_s - begun.cpu_s) / (ended.done - begun.done) * 1000,
            batch_share=(ended.items - begun.items) / (ended.batches - begun.batches) / CPU_BATCH,
            peak_mb=ended.peak_mb,
        )

    def latencies_s(self, paths: Sequence[Path], rate: float) -> list[float]:
        """Submit one file after the other at this rate, and return how long each took from its row to its result."""
        started_s = time.perf_counter()
        for number, path in enumerate(paths):
            time.sleep(max(0.0, started_s + number / rate - time.perf_counter()))
            for _ in self._submit([path], "paced"):
                self._stack.supervise()
        self._wait("paced", len(paths))
        with self._stack.database.read() as session:
            ended = queries.ended_jobs(session, "paced", None, limit=len(paths))
        return sorted(_seconds(each.job) for each in ended)

    def _submit(self, paths: Sequence[Path], submission: str) -> Iterator[int]:
        files = [SourceFile(path, f"{submission}/{path.name}") for path in paths]
        stack = self._stack
        return submit_files(files, Submission(submission, max_bytes=50_000_000), stack.database, stack.blobs, stack.app)

    def _wait(self, submission: str, wanted: int) -> int:
        while (done := done_jobs(self._stack.database, submission)) < wanted:
            self._stack.supervise()
            time.sleep(_POLL_S)
        return done

    def _finished_s(self, submission: str, count: int) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        with self._stack.database.read() as session:
            ended = queries.ended_jobs(session, submission, None, limit=count)
        return np.sort([each.job.finished_at.timestamp() for each in ended if each.job.finished_at])

    def _snapshot(self, done: int) -> "_Snapshot":
        worker = psutil.Process(self._stack.worker_pids[0])
        times = worker.cpu_times()
        items, batches = device_batches(self._stack.settings.telemetry.port)
        return _Snapshot(done, times.user + times.system, items, batches, peak_mb(worker.pid))


@dataclass(frozen=True)
class _Snapshot:
    done: int
    cpu_s: float
    items: float
    batches: float
    peak_mb: float


def done_jobs(database: Database, submission: str | None = None) -> int:
    """How many jobs have their result; ends the program if one failed."""
    with database.read() as session:
        counts = queries.job_counts(session, submission)
    if counts[JobState.FAILED]:
        sys.exit("a picture failed; the worker's log says why")
    return counts[JobState.DONE]


def device_batches(port: int) -> tuple[float, float]:
    """Pictures and network calls so far, from a worker's metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    samples = {
        sample.name.rpartition("_")[2]: sample.value
        for family in families
        for sample in family.samples
        if family.name == "tamperwatch_batch_size" and sample.labels["batcher"] == "device"
    }
    return samples["sum"], samples["count"]


def peak_mb(pid: int) -> float:
    """A process's largest resident memory so far (Linux; elsewhere nan)."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM:")), float("nan"))


def _seconds(job: AuditJob) -> float:
    assert job.finished_at is not None
    return (job.finished_at - job.created_at).total_seconds()
