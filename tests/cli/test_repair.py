"""`tamperwatch retry`, `check` and `purge` as a person runs them."""

import hashlib
from datetime import timedelta
from pathlib import Path

import pytest
from redis import Redis
from sqlmodel import select

from cli.options import parse_age
from schemas.errors import InvalidInput
from schemas.settings import BlobSettings
from schemas.states import JobState
from schemas.tables import AuditJob, Picture, now
from storage.blobs import BlobStore, open_blob_store, picture_key
from storage.database import Database
from tests.cli.conftest import Tamperwatch

AWAY = "redis://127.0.0.1:1/0"
SHA256 = hashlib.sha256(b"x").hexdigest()


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return open_blob_store(BlobSettings(directory=tmp_path / "tamperwatch-blobs"))


def add(database: Database, state: JobState, code: str | None = None, age_days: float = 0) -> None:
    at = now() - timedelta(days=age_days)
    job = AuditJob(source="a.jpg", sha256=SHA256, state=state, error_code=code, updated_at=at, finished_at=at)
    with database.write() as session:
        session.merge(Picture(sha256=SHA256, bytes=1))
        session.add(job)


def states(database: Database) -> list[JobState]:
    with database.read() as session:
        return list(session.exec(select(AuditJob.state)))


def test_retry_counts_then_sends(tamperwatch: Tamperwatch, sqlite: Database, broker_url: str) -> None:
    add(sqlite, JobState.FAILED, "model_timeout")
    add(sqlite, JobState.FAILED, "decode_failed")
    dry = tamperwatch("retry", "--all", "--dry-run", DATABASE_URL=sqlite.url, BROKER_URL=broker_url)
    assert (dry.code, dry.out) == (0, "1 failed jobs would be sent again: 1 model_timeout\n")
    ran = tamperwatch("retry", "--since", "1h", DATABASE_URL=sqlite.url, BROKER_URL=broker_url)
    assert (ran.code, ran.out) == (0, "1 failed jobs sent again: 1 model_timeout\n")
    assert sorted(states(sqlite)) == [JobState.FAILED, JobState.QUEUED]
    with Redis.from_url(broker_url) as client:
        assert client.llen("audit.default") == 1


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("retry",), "--code, --submission, --since, or --all"),
        (("retry", "--since", "yesterday"), "no span of time"),
        (("purge",), "--older-than, --keep, --sha256 or --source"),
        (("purge", "--older-than", "1d"), "--rows or --pseudo-masks"),
        (("purge", "--keep", "1", "--pseudo-masks"), "--keep counts jobs"),
        (("purge", "--older-than", "1d", "--keep", "1"), "not both"),
        (("purge", "--sha256", "../x"), "64 hexadecimal digits"),
        (("check", "--grace", "1y"), "no span of time"),
    ],
)
def test_what_is_not_said_clearly_is_not_done(
    tamperwatch: Tamperwatch, sqlite: Database, argv: tuple[str, ...], said: str
) -> None:
    ran = tamperwatch(*argv, DATABASE_URL=sqlite.url, BROKER_URL=AWAY)
    assert ran.code == 2
    assert said in ran.err


def test_check_finds_mends_and_agrees(tamperwatch: Tamperwatch, sqlite: Database, blobs: BlobStore) -> None:
    blobs.put(picture_key(SHA256), b"x")
    young = tamperwatch("check", DATABASE_URL=sqlite.url, BROKER_URL=AWAY)
    assert (young.code, young.out) == (0, "both stores agree\n")
    found = tamperwatch("check", "--grace", "0s", DATABASE_URL=sqlite.url, BROKER_URL=AWAY)
    assert found.code == 1
    assert found.out == f"blob without row: {SHA256}\nfound: 1 blob without row\n"
    mended = tamperwatch("check", "--grace", "0s", "--repair", DATABASE_URL=sqlite.url, BROKER_URL=AWAY)
    assert (mended.code, "(mended)" in mended.out, blobs.exists(picture_key(SHA256))) == (0, True, False)


def test_purge_says_asks_and_deletes(
    tamperwatch: Tamperwatch, sqlite: Database, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs.put(picture_key(SHA256), b"x")
    add(sqlite, JobState.DONE, age_days=100)
    argv = ("purge", "--older-than", "90d", "--rows")
    plan = "to delete: 1 jobs with 0 results, 0 masks (0 bytes), 1 pictures (1 bytes)"
    dry = tamperwatch(*argv, "--dry-run", DATABASE_URL=sqlite.url)
    assert (dry.code, " ".join(dry.out.split())) == (0, plan)
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    assert tamperwatch(*argv, DATABASE_URL=sqlite.url).code == 1
    assert states(sqlite) == [JobState.DONE]
    ran = tamperwatch(*argv, "--yes", DATABASE_URL=sqlite.url)
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "deleted: 1 pictures, 1 rows")
    assert states(sqlite) == [] and not blobs.exists(picture_key(SHA256))


def test_keeping_more_than_there_is_deletes_nothing(tamperwatch: Tamperwatch, sqlite: Database) -> None:
    add(sqlite, JobState.DONE)
    ran = tamperwatch("purge", "--keep", "1", "--rows", DATABASE_URL=sqlite.url)
    assert (ran.code, states(sqlite)) == (0, [JobState.DONE])


def test_spans_of_time() -> None:
    assert [parse_age(text) for text in ("90s", " 30M ", "2w")] == [
        timedelta(seconds=90), timedelta(minutes=30), timedelta(days=14)
    ]  # fmt: skip
    for wrong in ("", "d", "-1d", "1.5d", "9999999w"):
        with pytest.raises(InvalidInput, match="no span of time"):
            parse_age(wrong)
