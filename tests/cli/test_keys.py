"""`tamperwatch keys`: shown once, listed without the secret, revoked for good."""

import re
from pathlib import Path

import pytest

from schemas.errors import Unauthenticated
from storage import api_keys
from storage.database import Database
from tests.cli.conftest import Tamperwatch


def test_a_key_is_printed_alone_and_once(tamperwatch: Tamperwatch, sqlite: Database, sqlite_url: str) -> None:
    made = tamperwatch(
        "keys", "create", "shop backend", "--scope", "submit", "--scope", "read", "--expires", "90d", DATABASE_URL=sqlite_url
    )
    assert made.code == 0, made.err
    token = made.out.strip()
    assert re.fullmatch(r"tw_[0-9a-f]{12}_[0-9a-f]{64}", token)
    with sqlite.read() as session:
        row = api_keys.authenticate(session, token)
    assert (row.name, row.scopes) == ("shop backend", ["submit", "read"])
    assert row.expires_at is not None and 89 < (row.expires_at - row.created_at).days + 1 <= 90
    listed = tamperwatch("keys", "list", DATABASE_URL=sqlite_url, COLUMNS="200")
    assert row.id in listed.out
    assert token.rpartition("_")[2] not in listed.out


def test_a_revoked_key_opens_nothing(tamperwatch: Tamperwatch, sqlite: Database, sqlite_url: str) -> None:
    token = tamperwatch("keys", "create", "anna", "--scope", "admin", DATABASE_URL=sqlite_url).out.strip()
    revoked = tamperwatch("keys", "revoke", "anna", DATABASE_URL=sqlite_url)
    assert (revoked.code, "opens nothing any more" in revoked.out) == (0, True)
    with pytest.raises(Unauthenticated, match="revoked"), sqlite.read() as session:
        api_keys.authenticate(session, token)
    assert "revoked" in tamperwatch("keys", "list", DATABASE_URL=sqlite_url).out


@pytest.mark.parametrize(
    "argv",
    [
        ("create", "x"),
        ("create", "x", "--scope", "everything"),
        ("create", "a/b", "--scope", "read"),
        ("create", "x", "--scope", "read", "--expires", "soon"),
        ("create", "x", "--scope", "read", "--expires", "0d"),
        ("create", "x", "--scope", "read", "--rate", "-1"),
        ("revoke", "nobody"),
    ],
    ids=" ".join,
)
def test_a_wrong_call_is_usage(tamperwatch: Tamperwatch, sqlite: Database, sqlite_url: str, argv: tuple[str, ...]) -> None:
    ran = tamperwatch("keys", *argv, DATABASE_URL=sqlite_url)
    assert ran.code == 2, ran.err
    assert "Traceback" not in ran.err
    with sqlite.read() as session:
        assert api_keys.keys(session) == []


def test_without_a_store_it_says_what_to_do(tamperwatch: Tamperwatch, tmp_path: Path) -> None:
    for argv in (("keys", "list"), ("web", "--port", "0")):
        ran = tamperwatch(*argv, DATABASE_URL=f"sqlite:///{tmp_path / 'none.db'}")
        assert (ran.code, "tamperwatch migrate" in ran.err) == (3, True)
