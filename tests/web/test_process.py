"""A real web process between a real Redis, PostgreSQL and S3 server; and one over SQLite that is sent far too much."""

import hashlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest
from PIL import Image
from redis import Redis
from sqlmodel import select

from cli.children import Child
from schemas.settings import BlobSettings, Settings
from schemas.states import JobState, Verdict
from schemas.tables import AuditJob, AuditResult, now
from storage.blobs import open_blob_store, picture_key
from tests.pictures import picture_bytes
from tests.waiting import wait_for
from tests.web.process import ROOT, Web
from web.client import TamperwatchClient

pytestmark = pytest.mark.slow
MB = 1_000_000


@pytest.fixture
def production(tmp_path: Path, migrated_postgres_url: str, broker_url: str, s3_settings: BlobSettings) -> Iterator[Web]:
    assert s3_settings.access_key is not None and s3_settings.secret_key is not None
    variables = {
        "BROKER_URL": broker_url,
        "BLOBS__BACKEND": "minio",
        "BLOBS__ENDPOINT": s3_settings.endpoint,
        "BLOBS__BUCKET": s3_settings.bucket,
        "BLOBS__SECURE": "false",
        "BLOBS__ACCESS_KEY": s3_settings.access_key.get_secret_value(),
        "BLOBS__SECRET_KEY": s3_settings.secret_key.get_secret_value(),
        "WEB__S3_BUCKETS": f"{s3_settings.bucket}-uploads",
        "WEB__STREAM_POLL_S": "0.1",
    }
    web = Web(tmp_path, migrated_postgres_url, variables)
    yield web
    web.close()


@pytest.fixture
def small(tmp_path: Path, sqlite_url: str) -> Iterator[Web]:
    web = Web(tmp_path, sqlite_url, {"BLOBS__DIRECTORY": str(tmp_path / "blobs"), "BROKER_URL": "redis://127.0.0.1:1/0"})
    yield web
    web.close()


def add_result(web: Web, source: str) -> int:
    with web.database.write() as session:
        job = AuditJob(source=source, sha256="0" * 64, state=JobState.DONE, finished_at=now())
        session.add(job)
        session.flush()
        result = AuditResult(
            job_id=job.id, model_version="v", score=0.9, verdict=Verdict.FLAG, area=0, mask_png=b"", width_px=1, height_px=1,
            latency_ms=1,
        )  # fmt: skip
        session.add(result)
        session.flush()
        return result.id or 0


def events(lines: Iterator[str], count: int) -> list[tuple[str, dict[str, object]]]:
    """The ids and data of the next `result` events."""
    found: list[tuple[str, dict[str, object]]] = []
    said: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        said[name] = value
        if line == "" and said.get("event") == "result":
            found.append((said["id"], json.loads(said["data"])))
        if line == "":
            said = {}
        if len(found) == count:
            break
    return found


def test_from_the_client_to_the_stores(
    production: Web, broker_url: str, s3_settings: BlobSettings, s3_server: object, tmp_path: Path
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(picture_bytes(1))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    blobs = open_blob_store(s3_settings)
    with TamperwatchClient(production.address, production.token) as client:
        audit = client.submit_files([path])
        assert blobs.get(picture_key(sha256), MB) == path.read_bytes()
        with Redis.from_url(broker_url) as redis:
            (message,) = redis.lrange("audit.default", 0, -1)
        assert str(audit.pictures[0].job_id).encode() in message or audit.pictures[0].state == "queued"
        outside = s3_server.client()  # type: ignore[attr-defined]
        outside.make_bucket(f"{s3_settings.bucket}-uploads")
        outside.fput_object(f"{s3_settings.bucket}-uploads", "x/b.jpg", str(path))
        answer = httpx2.post(
            f"{production.address}/v1/audits",
            json={
                "pictures": [{"s3": f"s3://{s3_settings.bucket}-uploads/x/b.jpg"}, {"s3": f"s3://{s3_settings.bucket}/models/x"}]
            },
            headers=production.headers,
        ).json()
        assert [(each["state"], each["sha256"]) for each in answer["pictures"]] == [("queued", sha256), ("failed", None)]
        client.download(_with_result(production, audit.pictures[0].job_id), "picture", tmp_path / "copy.jpg")
    assert (tmp_path / "copy.jpg").read_bytes() == path.read_bytes()


def _with_result(web: Web, job_id: object) -> int:
    number = add_result(web, "x")
    with web.database.write() as session:
        result = session.get(AuditResult, number)
        assert result is not None
        result.job_id = job_id  # type: ignore[assignment]
    return number


def test_from_a_picture_to_its_mask_with_a_worker(tmp_path: Path, sqlite_url: str, broker_url: str) -> None:
    variables = {
        "BLOBS__DIRECTORY": str(tmp_path / "blobs"),
        "BROKER_URL": broker_url,
        "ENGINE__THREADS": "1",
        "WORKER__MAX_BATCH": "2",
    }
    web = Web(tmp_path, sqlite_url, variables)
    worker = Child("worker", [sys.executable, "-m", "cli.main", "worker"], tmp_path / "worker.log", web.env)
    try:
        path = tmp_path / "a.jpg"
        path.write_bytes(picture_bytes(1))
        with TamperwatchClient(web.address, web.token) as client:
            (ended,) = client.wait(client.submit_files([path], profiles=["wechat"]).id, timeout_s=120).pictures
            assert ended.result is not None, ended.error
            result = client.result(ended.result.id)
            assert set(result.profiles) == {"wechat"}
            client.download(result.id, "mask.png", tmp_path / "mask.png")
            assert [each.id for each in client.results()] == [result.id]
        with Image.open(tmp_path / "mask.png") as mask:
            assert (mask.size, mask.mode) == ((result.width, result.height), "L")
    finally:
        worker.stop(20)
        web.close()


def test_a_stream_goes_on_where_it_was_cut(production: Web) -> None:
    url, numbers = f"{production.address}/v1/results/stream", [add_result(production, "1.jpg")]
    with httpx2.stream("GET", f"{url}?cursor=0", headers=production.headers, timeout=30) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert [each[0] for each in events(lines, 1)] == [str(numbers[0])]
        numbers.append(add_result(production, "2.jpg"))
        ((last, data),) = events(lines, 1)
        assert (last, data["image"]) == (str(numbers[1]), "2.jpg")
    numbers.append(add_result(production, "3.jpg"))
    numbers.append(add_result(production, "4.jpg"))
    resumed = {**production.headers, "Last-Event-ID": last}
    with httpx2.stream("GET", url, headers=resumed, timeout=30) as answer:
        assert [each[0] for each in events(answer.iter_lines(), 2)] == [str(number) for number in numbers[2:]]


def test_a_stream_does_not_keep_the_process_from_ending(production: Web) -> None:
    with httpx2.stream("GET", f"{production.address}/v1/results/stream", headers=production.headers, timeout=30) as answer:
        lines = answer.iter_lines()
        next(lines)
        os.kill(production.process.pid, signal.SIGTERM)
        list(lines)
    wait_for(lambda: not production.process.running, "end of the process", 10)
    assert production.process.stop(0) == 0


def test_an_upload_is_never_whole_in_memory(small: Web) -> None:
    size_bytes = 45 * MB
    body = _multipart(picture_bytes(1), size_bytes)
    process = psutil.Process(small.process.pid)
    headers = {**small.headers, "Content-Type": "multipart/form-data; boundary=x"}
    httpx2.post(f"{small.address}/v1/audits", content=_multipart(picture_bytes(2), MB), headers=headers, timeout=60)
    before, most = process.memory_info().rss, [0]

    def watched() -> Iterator[bytes]:
        for piece in body:
            yield piece
            most[0] = max(most[0], process.memory_info().rss)

    answer = httpx2.post(f"{small.address}/v1/audits", content=watched(), headers=headers, timeout=120)
    most[0] = max(most[0], process.memory_info().rss)
    assert answer.status_code == 202, answer.text
    assert most[0] - before < size_bytes / 3
    with small.database.read() as session:
        assert len(session.exec(select(AuditJob)).all()) == 2


def _multipart(picture: bytes, size_bytes: int) -> Iterator[bytes]:
    """A picture with so many bytes behind its end."""
    yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n' + picture
    piece = bytes(1 << 16)
    for _ in range(size_bytes // len(piece)):
        yield piece
    yield b"\r\n--x--\r\n"


def test_the_log_is_json_without_secrets(small: Web) -> None:
    httpx2.get(f"{small.address}/v1/models?token=hunter2", headers=small.headers)
    small.process.stop(20)
    lines = [json.loads(line) for line in small.log.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
    seen = [line for line in lines if line["logger"] == "tamperwatch.access" and line["path"] == "/v1/models"]
    assert [(line["status"], line["who"], line["method"]) for line in seen] == [(200, "tests", "GET")]
    assert "hunter2" not in small.log.read_text() and small.token not in small.log.read_text()


def test_a_taken_port_is_told(small: Web, tmp_path: Path, sqlite_url: str) -> None:
    env = dict(os.environ, PYTHONPATH=str(ROOT), TAMPERWATCH_DATABASE_URL=sqlite_url)
    second = Child("web", [sys.executable, "-m", "cli.main", "web", "--port", str(small.port)], tmp_path / "second.log", env)
    wait_for(lambda: not second.running, "end of the second process", 60)
    assert "TAMPERWATCH_WEB__PORT" in second.log_tail()
    second.stop(1)


def test_settings_of_a_proxy(small: Web) -> None:
    assert Settings().web.trusted_proxies == ""
    httpx2.get(f"{small.address}/v1/models", headers={**small.headers, "X-Forwarded-For": "6.6.6.6"})
    small.process.stop(20)
    assert "6.6.6.6" not in small.log.read_text()
