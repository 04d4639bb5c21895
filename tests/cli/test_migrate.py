"""`tamperwatch migrate`: an empty database becomes this release's, and a second time nothing changes."""

import sqlite3
from pathlib import Path

import pytest

from model.card import Card, builtin_directory
from storage import migrations
from tests.cli.conftest import Tamperwatch


def test_an_empty_database_is_brought_to_the_head(tamperwatch: Tamperwatch, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"

    first = tamperwatch("migrate", DATABASE_URL=url)
    again = tamperwatch("migrate", DATABASE_URL=url)

    head, version = migrations.head_revision(), Card.load(builtin_directory()).version
    assert (first.code, again.code) == (0, 0)
    assert f"stands at revision {head} (was empty)" in first.out
    assert f"stands at revision {head} (as before)" in again.out
    assert f"the live model is {version}" in again.out
    with sqlite3.connect(tmp_path / "new.db") as connection:
        assert connection.execute("SELECT version, stage FROM model_version").fetchall() == [(version, "live")]
    connection.close()


def test_other_verbs_ask_for_it(tamperwatch: Tamperwatch, tmp_path: Path) -> None:
    missing = tamperwatch("status")
    sqlite3.connect(tmp_path / "empty.db").close()
    (tmp_path / "empty.db").touch()
    unmigrated = tamperwatch("results", DATABASE_URL=f"sqlite:///{tmp_path / 'empty.db'}")

    assert (missing.code, unmigrated.code) == (3, 3)
    assert "no results store at tamperwatch.db; run `tamperwatch migrate`" in missing.err
    assert "stands at revision none" in unmigrated.err and "run `tamperwatch migrate`" in unmigrated.err
    assert not (tmp_path / "tamperwatch.db").exists()  # asking makes nothing


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("sqlite:////no/such/folder/x.db", 3, "unable to open database file"),
        ("nonsense", 2, "not a database URL"),
        ("mysql://host/db", 2, "sqlite and postgresql"),
        ("postgresql+psycopg://127.0.0.1:1/db", 3, "does not answer"),
    ],
)
def test_a_database_that_cannot_be_used(tamperwatch: Tamperwatch, url: str, code: int, words: str) -> None:
    ran = tamperwatch("migrate", DATABASE_URL=url)

    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err


def test_a_file_that_is_no_database(tamperwatch: Tamperwatch, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database " * 100, encoding="utf-8")

    ran = tamperwatch("migrate", DATABASE_URL=f"sqlite:///{tmp_path / 'notes.txt'}")

    assert ran.code == 3
    assert "file is not a database" in ran.err
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8").startswith("not a database")


def test_the_schema_of_a_later_release_is_used_with_a_warning(
    tamperwatch: Tamperwatch, sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999_later'")
    connection.close()
    assert tamperwatch("status", DATABASE_URL=sqlite_url).code == 0
    assert "revision 9999_later of a later release" in caplog.text


def test_the_schema_of_an_earlier_release_is_refused(tamperwatch: Tamperwatch, sqlite_url: str) -> None:
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    connection.close()
    ran = tamperwatch("status", DATABASE_URL=sqlite_url)
    assert ran.code == 3 and "stands at revision 0001" in ran.err
