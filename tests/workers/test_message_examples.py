"""The examples of docs/operations.md as they stand there, run against a real Redis and a real S3 server."""

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from celery.contrib.testing.worker import start_worker
from redis import Redis

from schemas.messages import AuditMessage
from schemas.settings import BlobSettings, Settings
from schemas.states import AuditQueue
from storage.blobs import open_blob_store, picture_key
from tests.waiting import wait_for
from workers.app import make_app
from workers.job_manifest import ManifestLine

_TEXT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")


def blocks(section: str, language: str) -> list[str]:
    _, _, rest = _TEXT.partition(f"\n## {section}\n")
    return re.findall(rf"```{language}\n(.*?)```", rest.partition("\n## ")[0], re.DOTALL)


def test_every_line_of_the_manifest_example_is_one() -> None:
    (example,) = blocks("Submitting millions", "json")
    lines = [ManifestLine.model_validate_json(line) for line in example.splitlines()]
    shown = set().union(*(line.model_fields_set for line in lines))
    assert shown == set(ManifestLine.model_fields)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # an example of ten lines closes nothing
def test_both_ways_to_send_reach_a_worker(
    broker_url: str, s3_settings: BlobSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, with_celery, raw = blocks("The message", "python")
    data = b"the bytes of a picture"
    (tmp_path / "picture.jpg").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    assert s3_settings.access_key is not None and s3_settings.secret_key is not None
    monkeypatch.setenv("TAMPERWATCH_BROKER_URL", broker_url)
    monkeypatch.setenv("TAMPERWATCH_BLOBS__ENDPOINT", s3_settings.endpoint)
    monkeypatch.setenv("TAMPERWATCH_BLOBS__ACCESS_KEY", s3_settings.access_key.get_secret_value())
    monkeypatch.setenv("TAMPERWATCH_BLOBS__SECRET_KEY", s3_settings.secret_key.get_secret_value())
    monkeypatch.setenv("TAMPERWATCH_BLOBS__SECURE", "false")
    monkeypatch.setenv("TAMPERWATCH_BLOBS__BUCKET", s3_settings.bucket)
    blobs = open_blob_store(s3_settings)
    received: list[AuditMessage] = []
    app = make_app(Settings(broker_url=broker_url))

    @app.task(name="audit.image", shared=False)
    def audit_image(payload: object) -> None:
        received.append(AuditMessage.parse(payload))

    for send in (with_celery, raw):
        names: dict[str, Any] = {}
        exec(store, names)
        exec(send, names)
    queues = [queue.celery_name for queue in AuditQueue]
    with start_worker(app, pool="threads", concurrency=2, queues=queues, perform_ping_check=False, loglevel="WARNING"):
        wait_for(lambda: len(received) == 2, "end of both messages")
        with Redis.from_url(broker_url) as client:
            wait_for(lambda: client.hlen("unacked") == 0, "acknowledgement of both")
            assert client.llen("audit.default") == client.llen("tamperwatch:malformed") == 0
    app.close()
    sha256 = hashlib.sha256(data).hexdigest()
    assert {message.sha256 for message in received} == {sha256}
    assert len({message.job_id for message in received}) == 2
    assert {message.source_profile for message in received} == {"wechat"}
    assert blobs.get(picture_key(sha256), 100) == data
    assert set(names["message"]) == set(AuditMessage.model_fields) - {"url"} == set(received[0].payload())
