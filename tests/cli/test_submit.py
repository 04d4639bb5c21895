"""`tamperwatch submit` as a person runs it, against a real Redis."""

import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from redis import Redis
from sqlmodel import select

from schemas.settings import BlobSettings
from schemas.states import JobState
from schemas.tables import AuditJob
from storage.database import Database
from tests.cli.conftest import Ran, Tamperwatch
from tests.servers import S3Server
from workers import sending

Submit = Callable[..., Ran]


@pytest.fixture
def submit(tamperwatch: Tamperwatch, sqlite_url: str, broker_url: str) -> Submit:
    """Run `submit` against this test's own database, blob folder and Redis."""

    def run(*argv: str, **variables: str) -> Ran:
        own = {"DATABASE_URL": sqlite_url, "BROKER_URL": broker_url, "BLOBS__DIRECTORY": "blobs", "SUBMIT__DIGESTS": "digests.db"}
        return tamperwatch("submit", *argv, **own | variables)

    return run


def pictures(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    at = time.time() - 60  # settled, so that their stamps are trusted
    for number in range(count):
        path = folder / f"{number:03}.jpg"
        path.write_bytes(f"{folder.name} {number}".encode())
        os.utime(path, (at, at))
    return folder


def found(sqlite: Database, by: str = "source") -> dict[str, AuditJob]:
    with sqlite.read() as session:
        by_name = {getattr(job, by): job for job in session.exec(select(AuditJob))}
        session.expunge_all()
        return by_name


@pytest.mark.slow
def test_folders_files_and_a_second_run(submit: Submit, sqlite: Database, broker_url: str, tmp_path: Path) -> None:
    pictures(tmp_path / "in", 70)
    pictures(tmp_path / "more" / "sub", 2)
    argv = ("in", "more", "in/003.jpg", "--queue", "bulk", "--source-profile", "wechat")

    ran = submit(*argv)

    assert (ran.code, "72 pictures; follow with" in " ".join(ran.out.split())) == (0, True)
    stored = found(sqlite)
    assert {"in/000.jpg", "more/sub/001.jpg"} < set(stored) and len(stored) == 72
    assert {job.source_profile for job in stored.values()} == {"wechat"}
    with Redis.from_url(broker_url) as client:
        assert client.llen("audit.bulk") == 72
        assert "72 known before" in " ".join(submit(*argv).out.split())
        assert client.llen("audit.bulk") == 72  # their messages are there; nothing is doubled
        client.flushdb()
        submit(*argv)
        assert client.llen("audit.bulk") == 72  # lost, and sent again


@pytest.mark.slow
def test_a_manifest_of_everything(submit: Submit, sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path / "in", 2)
    lines = ['{"path": "in/000.jpg", "client_ref": "one"}', "nonsense", '{"path": "in/001.jpg", "profiles": ["weibo"]}']
    (tmp_path / "jobs.jsonl").write_text("\n".join(lines))

    ran = submit("--manifest", "jobs.jsonl", SUBMIT__PROFILES_DEFAULT="facebook")

    assert (ran.code, "3 pictures, 1 refused" in " ".join(ran.out.split())) == (1, True)
    stored = found(sqlite)
    assert (stored["jobs.jsonl:2"].state, stored["jobs.jsonl:2"].error_code) == (JobState.FAILED, "invalid_message")
    assert (stored["in/000.jpg"].client_ref, stored["in/000.jpg"].profiles) == ("one", ["facebook"])
    assert stored["in/001.jpg"].profiles == ["weibo"]
    piped = io.TextIOWrapper(io.BytesIO(json.dumps({"path": "in/001.jpg", "client_ref": "piped"}).encode()))
    monkeypatch.setattr(sys, "stdin", piped)
    assert submit("--manifest", "-").code == 0
    assert found(sqlite, by="client_ref")["piped"].source == "in/001.jpg"  # the same name, another request


@pytest.mark.slow
def test_a_bucket_of_somebody_elses(submit: Submit, sqlite: Database, s3_server: S3Server, s3_settings: BlobSettings) -> None:
    client, theirs = s3_server.client(), f"theirs-{s3_settings.bucket}"
    client.make_bucket(theirs)
    for key, data in {"in/a.jpg": b"1", "in/large.jpg": b"x" * 2000, "out/b.jpg": b"2"}.items():
        client.put_object(theirs, key, BytesIO(data), len(data))
    variables = {
        "BLOBS__BACKEND": "minio",
        "BLOBS__ENDPOINT": s3_server.endpoint,
        "BLOBS__BUCKET": s3_settings.bucket,
        "BLOBS__SECURE": "false",
        "BLOBS__ACCESS_KEY": s3_server.access_key,
        "BLOBS__SECRET_KEY": s3_server.secret_key,
        "LIMITS__MAX_BYTES": "1000",
    }

    ran = submit(f"s3://{theirs}/in/", **variables)

    assert ran.code == 1
    stored = found(sqlite)
    assert {name: job.error_code for name, job in stored.items()} == {
        f"s3://{theirs}/in/a.jpg": None,
        f"s3://{theirs}/in/large.jpg": "too_large",
    }
    sha256 = stored[f"s3://{theirs}/in/a.jpg"].sha256
    again = submit(f"s3://{theirs}/in/a", **variables)
    assert "1 known before" in " ".join(again.out.split())
    assert submit(f"s3://{s3_settings.bucket}/pictures/", **variables).code == 0
    assert found(sqlite)[f"s3://{s3_settings.bucket}/pictures/{str(sha256)[:2]}/{sha256}"].sha256 == sha256
    missing = submit(f"s3://no-{theirs}/", **variables)
    assert (missing.code, "no such bucket" in missing.err) == (2, True)


@pytest.mark.slow
@pytest.mark.usefixtures("as_in_a_terminal")
def test_ctrl_c_while_the_queue_is_full_is_clean(
    submit: Submit, sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(tmp_path / "in", 30)
    naps: list[float] = []

    def interrupted(pause_s: float) -> None:
        naps.append(pause_s)
        assert len(naps) < 10
        if len(naps) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(sending.time, "sleep", interrupted)

    ran = submit("in", SUBMIT__MAX_QUEUED="10")

    assert ran.code == 130
    assert "paused: 10 messages wait in the queue" in " ".join(ran.err.split())
    assert "stopped; run the same command again for the rest" in ran.err
    assert "Traceback" not in ran.err
    assert len(found(sqlite)) == 20


@pytest.mark.slow
def test_watching_ends_when_every_picture_has(submit: Submit, sqlite: Database, tmp_path: Path) -> None:
    pictures(tmp_path / "in", 1)
    submit("in")
    (job,) = found(sqlite).values()
    with sqlite.write() as session:
        session.get_one(AuditJob, job.id).state = JobState.DONE

    assert submit("in", "--watch").code == 0


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((), "name files, folders"),
        (("--manifest", "nowhere.jsonl"), "cannot read the manifest nowhere.jsonl"),
        (("s3://",), "s3://bucket/prefix"),
        (("s3://bucket/prefix",), "TAMPERWATCH_BLOBS__ACCESS_KEY"),
        (("in", "--source-profile", "We Chat"), "--source-profile"),
        (("in", "nowhere"), "no such file or folder: nowhere"),
        (("empty",), "no visible file in empty"),
    ],
)
def test_a_wrong_call_says_what_to_mend(
    tamperwatch: Tamperwatch, sqlite_url: str, tmp_path: Path, argv: tuple[str, ...], words: str
) -> None:
    pictures(tmp_path / "in", 1)
    (tmp_path / "empty").mkdir()

    ran = tamperwatch("submit", *argv, DATABASE_URL=sqlite_url, SUBMIT__DIGESTS="")

    assert (ran.code, ran.out) == (2, "")
    assert words in " ".join(ran.err.split())


@pytest.mark.parametrize("value", ["myspace", "wechat;weibo"])
def test_wrong_profiles_of_a_queue_are_named(tamperwatch: Tamperwatch, sqlite_url: str, tmp_path: Path, value: str) -> None:
    pictures(tmp_path / "in", 1)

    ran = tamperwatch("submit", "in", DATABASE_URL=sqlite_url, SUBMIT__DIGESTS="", SUBMIT__PROFILES_BULK=value)

    assert (ran.code, f"unknown profile {value}" in ran.err) == (2, True)
