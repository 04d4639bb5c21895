"""What `benchmarks.api` measures: the web role between its stores, an echo beside it, and results to read."""

import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from benchmarks.http_load import Connection, get
from cli.children import Child
from model import render
from schemas.states import JobState, Scope, Verdict
from schemas.tables import AuditJob, AuditResult, now
from storage import api_keys, migrations
from storage.database import Database
from tests.local_servers import free_ports, running_postgres, running_redis, running_s3
from tests.servers import S3Server, takes_puts
from tests.waiting import wait_for

_ROWS = 1000
# A map of 112 x 112 with soft edges is a few kB, as a real one.
_MASK = (np.hypot(*np.indices((112, 112)) - 56) * 3 % 256).astype(np.uint8)


@dataclass(frozen=True)
class Site:
    """Everything that runs.

    Attributes:
        processes: by what they are called in the table.
        ports: of the web processes.
        token: of a key that may do everything.
    """

    processes: dict[str, list[psutil.Process]]
    ports: list[int]
    echo_port: int
    token: str

    def cpu_s(self) -> dict[str, float]:
        """CPU time so far, by process; this one is the client."""
        own = os.times()
        return {name: sum(map(_cpu_s, each)) for name, each in self.processes.items()} | {"client": own.user + own.system}


@contextmanager
def running_site(folder: Path, blobs: str, n_web: int, n_results: int, page_size: int) -> Iterator[Site]:
    """Start all, with so many results in the store."""
    with ExitStack() as stack:
        redis_url, redis = stack.enter_context(running_redis(folder, append_only=True))
        postgres_url, postgres = stack.enter_context(running_postgres())
        variables = {"TAMPERWATCH_DATABASE_URL": postgres_url, "TAMPERWATCH_BROKER_URL": f"{redis_url}/0"}
        processes = {"postgres": [postgres], "redis": [redis]}
        if blobs == "s3":
            *address, weed = stack.enter_context(running_s3(folder))
            variables |= _s3_variables(S3Server(*address))
            processes["seaweedfs"] = [weed]
        else:
            variables["TAMPERWATCH_BLOBS__DIRECTORY"] = str(folder / "blobs")
        token = _seeded(postgres_url, n_results)
        ports = free_ports(n_web + 1)
        web = [(["cli.main", "web", "--port", str(port)], port, variables) for port in ports[1:]]
        processes["web"] = [stack.enter_context(_role(*each, folder)) for each in web]
        connection = Connection(ports[1])
        page = connection.ask(get(f"/v1/results?limit={page_size}", token)).body
        connection.close()
        (folder / "page.json").write_bytes(page)
        echo = stack.enter_context(_role(["benchmarks.echo_app", str(ports[0]), str(folder / "page.json")], ports[0], {}, folder))
        processes["echo"] = [echo]
        found = {name: [psutil.Process(child.pid) for child in children] for name, children in processes.items()}
        yield Site(found, ports[1:], ports[0], token)


@contextmanager
def _role(argv: list[str], port: int, variables: dict[str, str], folder: Path) -> Iterator[Child]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("TAMPERWATCH_")} | variables
    child = Child(f"{argv[0]}-{port}", [sys.executable, "-m", *argv], folder / f"{port}.log", env)
    try:
        wait_for(lambda: _answers(port, child), f"answer from {argv[0]}: {child.log_tail()}", 120)
        yield child
    finally:
        child.stop(20)


def _answers(port: int, child: Child) -> bool:
    if not child.running:
        raise SystemExit(f"it does not start: {child.log_tail()}")
    try:
        connection = Connection(port)
    except OSError:
        return False
    connection.close()
    return True


def _cpu_s(process: psutil.Process) -> float:
    """CPU time of a process and of all below it, those that have ended included."""
    times = process.cpu_times()
    spent = times.user + times.system + times.children_user + times.children_system
    return float(spent + sum(_cpu_s(child) for child in process.children()))


def _s3_variables(server: S3Server) -> dict[str, str]:
    wait_for(lambda: takes_puts(server), "accepted put from S3", 60)
    given = {
        "BACKEND": "minio",
        "ENDPOINT": server.endpoint,
        "BUCKET": "bench",
        "SECURE": "false",
        "ACCESS_KEY": server.access_key,
        "SECRET_KEY": server.secret_key,
    }
    return {f"TAMPERWATCH_BLOBS__{name}": value for name, value in given.items()}


def _seeded(postgres_url: str, n_results: int) -> str:
    """Results to read, and a key without a limit."""
    database = Database(postgres_url)
    migrations.upgrade(database)
    for start in range(0, n_results, _ROWS):
        with database.write() as session:
            jobs = [_job(number) for number in range(start, min(start + _ROWS, n_results))]
            session.add_all(jobs)
            session.flush()
            session.add_all(_result(job) for job in jobs)
    with database.write() as session:
        token = api_keys.create(session, "bench", [Scope.ADMIN], requests_per_minute=0).token
    database.close()
    return token


def _job(number: int) -> AuditJob:
    return AuditJob(
        id=uuid.uuid4(),
        source=f"2026/11/{number:06d}.jpg",
        sha256=f"{number:064x}",
        state=JobState.DONE,
        finished_at=now(),
        client_ref=f"upload-{number}",
    )


def _result(job: AuditJob) -> AuditResult:
    regions = [{"box": {"x0": 20, "y0": 10, "x1": 160, "y1": 150}, "score": 0.9} for _ in range(2)]
    return AuditResult(
        job_id=job.id,
        model_version="student-1",
        score=0.93,
        verdict=Verdict.FLAG,
        area=0.1,
        mask_png=render.mask_png(_MASK),
        regions=regions,
        width_px=640,
        height_px=480,
        latency_ms=210.5,
    )
