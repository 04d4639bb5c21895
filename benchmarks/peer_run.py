"""Runs serving frameworks on files, to compare with: LitServe behind HTTP, Ray Serve by handle calls."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.naive_run import steady_rate, stored_times_s
from cli.children import Child
from tests.local_servers import free_ports

_CLIENTS = 64
_START_S = 120.0
_POLL_S = 0.2


def litserve_rate(paths: Sequence[Path], folder: Path, workers: int, student: Path) -> float:
    """Images/s of LitServe with this many worker processes, asked by 64 clients that each wait for their answer."""
    folder.mkdir(parents=True)
    (port,) = free_ports(1)
    argv = [sys.executable, "-m", "benchmarks.litserve_app", str(port), str(workers)]
    server = Child("litserve", argv, folder / "server.log", _environment(folder, workers, student))
    try:
        _wait_for_http(server, port)
        remaining, gate = iter(paths), threading.Lock()
        with ThreadPoolExecutor(_CLIENTS) as pool:
            for client in [pool.submit(_ask, port, remaining, gate) for _ in range(_CLIENTS)]:
                client.result()
        return steady_rate(stored_times_s(folder / "results.db"))
    finally:
        # LitServe's own processes outlive it; they share the session that `Child` made.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.stop(grace_s=10)


def ray_rate(paths: Sequence[Path], folder: Path, replicas: int, student: Path) -> float:
    """Images/s of Ray Serve with this many replicas."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    for path in paths:
        (pictures / path.name).symlink_to(path.resolve())
    argv = [sys.executable, "-m", "benchmarks.ray_app", str(pictures), str(replicas)]
    done = subprocess.run(argv, env=_environment(folder, replicas, student), capture_output=True, text=True, check=False)
    times_s = stored_times_s(folder / "results.db")
    if done.returncode or len(times_s) != len(paths):
        sys.exit(f"Ray Serve failed after {len(times_s)} of {len(paths)} pictures:\n{done.stderr[-2000:]}")
    return steady_rate(times_s)


def _environment(folder: Path, processes: int, student: Path) -> Mapping[str, str]:
    own = str(Path(__file__).resolve().parent.parent)
    return os.environ | {
        "NAIVE_DATABASE": str(folder / "results.db"),
        "NAIVE_STUDENT": str(student),
        "NAIVE_ENGINE": "openvino",
        "NAIVE_THREADS": str(max(1, (os.cpu_count() or 1) // processes)),
        "PYTHONPATH": os.pathsep.join(filter(None, (own, os.environ.get("PYTHONPATH")))),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def _ask(port: int, remaining: Iterator[Path], gate: threading.Lock) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    while True:
        with gate:
            path = next(remaining, None)
        if path is None:
            return connection.close()
        body = json.dumps({"path": str(path)})
        connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            sys.exit(f"LitServe answered {answer.status}: {answer.read()[:500]!r}")
        answer.read()


def _wait_for_http(server: Child, port: int) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and server.running:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(_POLL_S)
        finally:
            connection.close()
    sys.exit(f"{server.name} does not start: {server.log_tail()}")
