"""What a real worker process says of itself over HTTP and in its log, between a real Redis and a real database."""

import hashlib
import json
import os
import signal
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import urllib3
from celery import Celery
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from cli.children import Child
from cli.redis_binary import redis_server
from model.card import Card, builtin_directory
from schemas.settings import BlobSettings, Settings
from schemas.states import AuditQueue, JobState
from storage import queries
from storage.blobs import open_blob_store, picture_key
from storage.database import Database
from tests.local_servers import free_ports, redis_answers
from tests.pictures import picture_bytes
from tests.waiting import wait_for
from workers.app import make_app
from workers.submission import SourceFile, Submission, submit_files

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
_READY_S = 120
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Role:
    """A worker process with its telemetry port open, and the stores it works on."""

    def __init__(self, database_url: str, broker_url: str, folder: Path, **variables: str) -> None:
        (self.port,) = free_ports(1)
        self.folder = folder
        self.settings = Settings(database_url=database_url, broker_url=broker_url, blobs=BlobSettings(directory=folder / "blobs"))
        self.database, self.app = Database(database_url), make_app(self.settings)
        self.blobs = open_blob_store(self.settings.blobs)
        env = {name: value for name, value in os.environ.items() if not name.startswith("TAMPERWATCH_")} | {
            "PYTHONPATH": str(ROOT),
            "TAMPERWATCH_DATABASE_URL": database_url,
            "TAMPERWATCH_BROKER_URL": broker_url,
            "TAMPERWATCH_BLOBS__DIRECTORY": str(folder / "blobs"),
            "TAMPERWATCH_ENGINE__THREADS": "1",
            "TAMPERWATCH_WORKER__MAX_BATCH": "2",
            "TAMPERWATCH_TELEMETRY__PORT": str(self.port),
            "TAMPERWATCH_TELEMETRY__LOG_FORMAT": "json",
            **{f"TAMPERWATCH_{name}": value for name, value in variables.items()},
        }
        argv = [sys.executable, "-m", "cli.main", "worker"]
        self.process = Child("worker", argv, folder / "worker.log", env)

    def get(self, path: str) -> urllib3.BaseHTTPResponse | None:
        """The answer, or None while the port is closed."""
        try:
            return urllib3.request("GET", f"http://127.0.0.1:{self.port}{path}", retries=False, timeout=20)
        except urllib3.exceptions.HTTPError:
            assert self.process.running, self.process.log_tail()
            return None

    def status(self, path: str) -> int:
        answer = self.get(path)
        return answer.status if answer is not None else 0

    def parts(self, path: str) -> dict[str, dict[str, Any]]:
        answer = self.get(path)
        assert answer is not None
        found: dict[str, dict[str, Any]] = json.loads(answer.data)["parts"]
        return found

    def wait_until_ready(self) -> None:
        try:
            wait_for(lambda: self.status("/readyz") == 200, "readiness", _READY_S)
        except TimeoutError as error:
            raise AssertionError(f"{error}: {self.parts('/readyz')}; {self.process.log_tail()}") from error

    def metrics(self) -> dict[tuple[str, ...], float]:
        """Samples by name, without our prefix, and the values of their labels, sorted by label."""
        answer = self.get("/metrics")
        assert answer is not None and answer.status == 200
        return {
            (sample.name.removeprefix("tamperwatch_"), *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(answer.data.decode())
            for sample in family.samples
        }

    def submit(self, pictures: Mapping[str, bytes]) -> None:
        for name, data in pictures.items():
            (self.folder / name).write_bytes(data)
        files = [SourceFile(self.folder / name, name) for name in pictures]
        submission = Submission("telemetry", max_bytes=10**6)
        assert sum(submit_files(files, submission, self.database, self.blobs, self.app)) == len(files)

    def wait_until_ended(self, jobs: int) -> None:
        def ended() -> int:
            with self.database.read() as session:
                counts = queries.job_counts(session)
            return counts[JobState.DONE] + counts[JobState.FAILED]

        wait_for(lambda: ended() == jobs, f"end of {jobs} jobs", _READY_S)

    def log_lines(self) -> list[dict[str, Any]]:
        lines = (self.folder / "worker.log").read_text(encoding="utf-8").splitlines()
        # Past all logging, Celery writes of its shutdown for whoever sits at a terminal.
        return [json.loads(line) for line in lines if line and not line.startswith("worker: ")]

    def close(self) -> None:
        if self.process.running:
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.stop(grace_s=5)
        self.app.close()
        self.database.close()


@pytest.fixture
def roles() -> Iterator[list[Role]]:
    made: list[Role] = []
    yield made
    for role in made:
        role.close()


class Collector:
    """An OTLP collector that keeps what it is sent."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        keep = self.bodies.append

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                keep(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def spans(self) -> list[Any]:
        requests = [ExportTraceServiceRequest.FromString(body) for body in list(self.bodies)]
        return [
            span
            for each in requests
            for resource in each.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def test_a_worker_tells_what_it_did(
    tmp_path: Path, migrated_postgres_url: str, broker_url: str, roles: list[Role], collector: Collector
) -> None:
    worker = Role(migrated_postgres_url, broker_url, tmp_path, TELEMETRY__TRACES_ENDPOINT=collector.url)
    roles.append(worker)
    good = {f"{number}.jpg": picture_bytes(number) for number in range(5)}
    worker.submit(good | {"cut.jpg": picture_bytes(77)[:700]})
    _send_traced(worker, picture_bytes(1234))
    with Redis.from_url(broker_url) as client:
        client.lpush(AuditQueue.HIGH.celery_name, b"no message")
    worker.wait_until_ended(7)
    worker.wait_until_ready()
    found = wait_for(lambda: _at_rest_after(7, worker.metrics()), "seven pictures in the metrics")
    _check_metrics(found)
    assert all(part["ok"] for part in worker.parts("/healthz").values())
    os.kill(worker.process.pid, signal.SIGTERM)
    wait_for(lambda: not worker.process.running, "end of the worker", 60)
    _check_log(worker)
    _check_traces(collector.spans())


def _send_traced(worker: Role, data: bytes) -> None:
    """A producer without our code, which traces its requests."""
    sha256 = hashlib.sha256(data).hexdigest()
    worker.blobs.put(picture_key(sha256), data)
    payload = {"version": 1, "job_id": str(uuid.uuid4()), "sha256": sha256, "source": "traced.jpg"}
    producer = Celery(broker=worker.settings.broker_url, set_as_current=False)
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    producer.send_task("audit.image", args=[payload], queue="audit.default", serializer="json", headers=headers)
    producer.close()


def _at_rest_after(images: int, metrics: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float] | None:
    return metrics if metrics[("images_total",)] == images and metrics[("jobs_in_hand",)] == 0 else None


def _check_metrics(found: dict[tuple[str, ...], float]) -> None:
    assert found["failures_total", "decode_failed"] == 1
    assert ("dead_letters_total", "decode_failed") not in found
    assert sum(found["results_total", verdict] for verdict in ("pass", "review", "flag")) == 6
    assert found[("score_ratio_count",)] == 6
    assert found["stage_seconds_count", "claim"] == found["stage_seconds_count", "fetch"] == 7
    assert found["stage_seconds_count", "store"] == found["stage_seconds_count", "predict"] == 6
    # Every picture once, and those near a threshold a second time.
    second_looks = found["stage_seconds_count", "second_look"]
    assert found["batch_size_sum", "device"] == found["stage_seconds_count", "wait"] == 6 + second_looks
    assert found["batch_size_count", "device"] == found["stage_seconds_count", "infer"] <= 6 + second_looks
    assert 0 < found["stage_seconds_sum", "infer"] < found["stage_seconds_sum", "predict"]
    assert found[("malformed_messages_total",)] == 1
    assert found[("consumer_connections_total",)] == 1
    assert found["up", "redis"] == found["up", "sql"] == 1
    assert found["model_info", "cpu", "openvino", Card.load(builtin_directory()).version] == 1
    assert found[("process_resident_memory_bytes",)] > 50e6


def _check_log(worker: Role) -> None:
    lines = worker.log_lines()
    (cut,) = [line for line in lines if "decode_failed" in line["message"]]
    assert cut["level"] == "WARNING" and cut["attempt"] == 1 and len(cut["sha256"]) == 12
    assert cut["model_version"] == Card.load(builtin_directory()).version
    assert cut["job_id"] in cut["message"] and len(cut["trace_id"]) == 32
    assert any("malformed entry" in line["message"] and "job_id" not in line for line in lines)


def _check_traces(spans: list[Any]) -> None:
    jobs = [span for span in spans if span.name == "audit"]
    assert len(jobs) == 7
    assert sum(span.status.code == 2 for span in jobs) == 1, "the one that failed"
    (traced,) = [span for span in jobs if span.trace_id.hex() == TRACE]
    assert traced.parent_span_id.hex() == "b7ad6b7169203331"
    stages = {span.name for span in spans if span.parent_span_id == traced.span_id}
    assert stages >= {"claim", "fetch", "decode", "predict", "store"}


def test_readiness_follows_redis_and_life_does_not(tmp_path: Path, sqlite_url: str, roles: list[Role]) -> None:
    (port,) = free_ports(1)
    url = f"redis://127.0.0.1:{port}"
    options = {"--bind": "127.0.0.1", "--port": str(port), "--dir": str(tmp_path), "--save": "", "--appendonly": "no"}
    argv = [redis_server(), *(part for pair in options.items() for part in pair)]
    redis = Child("redis", argv, tmp_path / "redis.log", os.environ)
    try:
        wait_for(lambda: redis_answers(url), "Redis")
        worker = Role(sqlite_url, f"{url}/0", tmp_path)
        roles.append(worker)
        worker.wait_until_ready()
        assert worker.metrics()[("consumer_connections_total",)] == 1

        redis.stop(grace_s=10)
        wait_for(lambda: worker.status("/readyz") == 503, "unreadiness", 60)
        wait_for(lambda: not (found := worker.parts("/readyz"))["redis"]["ok"] and not found["consumer"]["ok"], "its reason", 60)
        assert {name for name, part in worker.parts("/readyz").items() if part["ok"]} == {"model", "sql", "blobs", "shutdown"}
        assert worker.status("/healthz") == 200
        metrics = wait_for(lambda: (m := worker.metrics())["up", "redis"] == 0 and m, "Redis down in the metrics")
        assert metrics["up", "sql"] == 1 and ("queue_messages", "high") not in metrics

        redis.revive()
        worker.wait_until_ready()
        worker.submit({"a.jpg": picture_bytes(1)})
        worker.wait_until_ended(1)
        after = worker.metrics()
        assert (after[("consumer_connections_total",)], after["up", "redis"]) == (2, 1)
    finally:
        redis.stop(grace_s=10)


def test_a_silent_stall_is_told(tmp_path: Path, sqlite_url: str, broker_url: str, roles: list[Role]) -> None:
    """The consumer is made deaf; to Redis and to its own loop all is well."""
    worker = Role(sqlite_url, broker_url, tmp_path, TELEMETRY__STALL_S="3")
    roles.append(worker)
    worker.wait_until_ready()
    for queue in AuditQueue:
        worker.app.control.cancel_consumer(queue.celery_name)
    # Until the order has arrived, messages are still taken.
    wait_for(lambda: not _subscribed(worker), "deaf consumer")
    worker.submit({"a.jpg": picture_bytes(1)})
    wait_for(lambda: worker.status("/healthz") == 503, "report of the stall", 60)
    parts = worker.parts("/healthz")
    assert {name for name, part in parts.items() if not part["ok"]} == {"progress"}
    assert "1 messages wait, and none was taken or ended" in parts["progress"]["words"]
    for queue in AuditQueue:
        worker.app.control.add_consumer(queue.celery_name)
    worker.wait_until_ended(1)
    wait_for(lambda: worker.status("/healthz") == 200, "health", 60)


def _subscribed(worker: Role) -> bool:
    answers = worker.app.control.inspect(timeout=2).active_queues() or {}
    return any(queues for queues in answers.values())
