import sqlite3
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlmodel import select

from schemas.errors import DiskFull, InvalidInput, StoreUnavailable
from schemas.records import ErrorRecord
from schemas.tables import AuditJob, Picture
from storage import jobs
from storage.database import Database
from storage.jobs import NewJob
from tests.local_servers import free_ports

MakeJob = Callable[..., NewJob]


def pictures(database: Database) -> list[str]:
    with database.read() as session:
        return sorted(session.exec(select(Picture.sha256)).all())


def test_a_write_commits_at_its_end(database: Database) -> None:
    with database.write() as session:
        session.add(Picture(sha256="a", bytes=1))
    assert pictures(database) == ["a"]


def test_a_write_that_raises_leaves_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as session:
        session.add(Picture(sha256="a", bytes=1))
        session.flush()
        raise ZeroDivisionError
    assert pictures(database) == []


def test_a_refused_transaction_is_said_in_our_words_and_the_next_one_works(database: Database) -> None:
    with pytest.raises(StoreUnavailable), database.write() as session:
        session.add(Picture(sha256="b", bytes=1))
        session.flush()
        session.connection().execute(text("INSERT INTO picture (sha256) VALUES ('c')"))
    with database.write() as session:
        session.add(Picture(sha256="d", bytes=1))
    assert pictures(database) == ["d"]


def test_reading_sees_no_unfinished_write_and_is_not_held_up_by_it(database: Database) -> None:
    with database.write() as session:
        session.add(Picture(sha256="a", bytes=1))
        session.flush()
        assert pictures(database) == []
    assert pictures(database) == ["a"]


def test_sqlite_runs_with_a_write_ahead_log_and_foreign_keys(sqlite: Database) -> None:
    with sqlite.read() as session:
        assert session.connection().execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert session.connection().execute(text("PRAGMA foreign_keys")).scalar() == 1


def test_concurrent_read_modify_writes_lose_nothing(database: Database) -> None:
    with database.write() as session:
        session.add(AuditJob(id=uuid.UUID(int=1), source="x", sha256="0" * 64))

    def count_twenty(_: int) -> None:
        for _ in range(20):
            with database.write() as session:
                connection = session.connection()
                lock = " FOR UPDATE" if database.url.startswith("postgresql") else ""
                attempts = connection.execute(text(f"SELECT attempts FROM audit_job{lock}")).scalar_one()
                connection.execute(text("UPDATE audit_job SET attempts = :n"), {"n": attempts + 1})

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(count_twenty, range(8)))
    with database.read() as session:
        assert session.exec(select(AuditJob.attempts)).one() == 160


def test_many_threads_add_and_end_jobs(database: Database, new_job: MakeJob) -> None:
    def add_and_fail(thread: int) -> None:
        for number in range(10):
            with database.write() as session:
                (job,) = jobs.add_jobs(session, [new_job(f"{thread}-{number}")])
            with database.write() as session:
                jobs.fail_job(session, job.id, ErrorRecord(code="empty", message="x"))

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(add_and_fail, range(6)))
    with database.read() as session:
        assert [job.error_code for job in session.exec(select(AuditJob))] == ["empty"] * 60


def test_two_submitters_of_the_same_pictures_make_each_job_once(database: Database, new_job: MakeJob) -> None:
    together = threading.Barrier(2)

    def add(refs: str) -> set[uuid.UUID]:
        together.wait(10)
        with database.write() as session:
            added = jobs.add_jobs(session, [new_job(ref, sha256=ref * 64) for ref in refs])
            # Held open a moment, so that the other one is sure to look while this one is not committed.
            time.sleep(0.1)
        return {job.id for job in added}

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(add, ["abc", "cba"])
    assert first == second
    with database.read() as session:
        assert {job.id for job in session.exec(select(AuditJob))} == first
    assert pictures(database) == ["a" * 64, "b" * 64, "c" * 64]


@pytest.mark.parametrize("url", ["nonsense", "mysql://host/db", "oracle+cx://h/x", "sqlite+foo:///x"])
def test_an_unknown_database_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="TAMPERWATCH_DATABASE_URL"):
        Database(url)


def test_a_refused_url_does_not_show_its_password() -> None:
    with pytest.raises(InvalidInput) as raised:
        Database("mysql://someone:sesame@host/db")
    assert "sesame" not in raised.value.message


def test_a_postgres_that_is_not_there() -> None:
    database = Database(f"postgresql+psycopg://someone:sesame@127.0.0.1:{free_ports(1)[0]}/x")
    with pytest.raises(StoreUnavailable, match="does not answer") as raised, database.read() as session:
        session.exec(select(Picture)).all()
    assert "sesame" not in raised.value.message


@pytest.mark.slow
def test_a_postgres_that_restarts_is_met_again(migrated_postgres_url: str) -> None:
    """Connections that died while they lay in the pool are replaced without an error."""
    database = Database(migrated_postgres_url)
    assert pictures(database) == []
    other = Database(migrated_postgres_url)
    with other.write() as session:
        others = "pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        killed = f"SELECT count(pg_terminate_backend(pid)) FROM {others}"
        assert session.connection().execute(text(killed)).scalar_one() >= 1
    assert pictures(database) == []
    database.close()
    other.close()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"holiday pictures" * 1000)
    database = Database(f"sqlite:///{path}")
    with pytest.raises(StoreUnavailable, match="not a database"), database.read() as session:
        session.exec(select(Picture)).all()
    database.close()


def test_an_sqlite_file_that_may_not_be_written(sqlite_url: str) -> None:
    database = Database(f"{sqlite_url.replace('sqlite:///', 'sqlite:///file:')}?mode=ro&uri=true")
    with pytest.raises(StoreUnavailable, match="readonly"), database.write() as session:
        session.add(Picture(sha256="a", bytes=1))
    database.close()


def test_a_database_that_was_never_migrated(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'new.db'}")
    with pytest.raises(StoreUnavailable, match="no such table"), database.read() as session:
        session.exec(select(Picture)).all()
    database.close()


def test_a_full_disk_is_named_and_writing_goes_on_when_there_is_space(sqlite: Database, new_job: MakeJob) -> None:
    def add(count: int) -> None:
        with sqlite.write() as session:
            pages = session.connection().execute(text("PRAGMA page_count")).scalar_one()
            session.connection().execute(text(f"PRAGMA max_page_count = {pages + (0 if count > 1 else 1000)}"))
            jobs.add_jobs(session, [new_job(f"{count}-{number}") for number in range(count)])

    with pytest.raises(DiskFull, match="no space left"):
        add(2000)
    add(1)
    with sqlite.read() as session:
        assert [job.client_ref for job in session.exec(select(AuditJob))] == ["1-0"]


def test_a_lock_held_too_long_is_said_in_our_words(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.database._SQLITE_BUSY_TIMEOUT_S", 0.1)
    database = Database(sqlite_url)
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"), database.write() as session:
            session.add(Picture(sha256="a", bytes=1))
    other.close()
    database.close()
