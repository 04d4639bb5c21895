"""`tamperwatch users` and `audit-log`: passwords never on the command line, and every change of people in the log."""

import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from schemas.states import Role
from storage import passwords, people
from storage.database import Database
from tests.cli.conftest import Ran, Tamperwatch

PASSWORD = "seven ducks in a row"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def verb(tamperwatch: Tamperwatch, sqlite: Database) -> Tamperwatch:
    def run(*argv: str, **variables: str) -> Ran:
        return tamperwatch(*argv, DATABASE_URL=sqlite.url, **variables)

    return run


def fits(database: Database, name: str, password: str) -> bool:
    with database.read() as session:
        return passwords.fits(people.get(session, name).password_hash, password)


def test_a_person_comes_with_a_password_from_a_file(verb: Tamperwatch, sqlite: Database, tmp_path: Path) -> None:
    file = tmp_path / "password.txt"
    file.write_text(f"{PASSWORD}\r\nsecond line\n")
    added = verb("users", "add", "Anna", "--role", "moderator", "--password-file", str(file), "--by", "carla")
    assert (added.code, added.out) == (0, "Anna may log in as moderator\n"), added.err
    assert fits(sqlite, "anna", PASSWORD)
    listed = verb("users", "list", COLUMNS="200")
    assert re.search(r"Anna +moderator +may log in", listed.out)
    assert "argon2" not in listed.out


def test_a_password_comes_from_standard_input(verb: Tamperwatch, sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    verb("users", "add", "Anna", "--role", "viewer", "--no-password")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{PASSWORD}\n".encode())))
    changed = verb("users", "password", "ANNA", "--password-file", "-")
    assert (changed.code, "logged out everywhere" in changed.out) == (0, True), changed.err
    assert fits(sqlite, "Anna", PASSWORD)


def test_at_a_terminal_the_password_is_asked_for_twice_and_not_shown(sqlite: Database, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    env = {**os.environ, "TAMPERWATCH_DATABASE_URL": sqlite.url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "cli.main", "users", "add", "Anna", "--role", "viewer"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=tmp_path, start_new_session=True)
    os.close(theirs)
    seen = b""
    first, again = b"Password: ", b"once more: "
    for prompt, answer in ((first, PASSWORD), (again, "another one"), (first, PASSWORD), (again, PASSWORD)):
        before = len(seen)
        while prompt not in seen[before:]:
            seen += os.read(ours, 1000)
        os.write(ours, f"{answer}\n".encode())
    while b"may log in" not in seen:
        seen += os.read(ours, 1000)
    assert process.wait(30) == 0
    os.close(ours)
    assert PASSWORD.encode() not in seen
    assert fits(sqlite, "Anna", PASSWORD)


def test_roles_locks_and_one_time_addresses(verb: Tamperwatch, sqlite: Database) -> None:
    verb("users", "add", "Anna", "--role", "viewer", "--no-password")
    assert verb("users", "role", "anna", "admin").out == "Anna is admin\n"
    assert verb("users", "disable", "anna").out == "Anna is locked out\n"
    assert "locked out" in verb("users", "list").out
    assert verb("users", "link", "anna").code == 2
    assert verb("users", "enable", "anna").out == "Anna may log in again\n"
    here = verb("users", "link", "anna", WEB__PORT="8123")
    assert re.fullmatch(r"http://127\.0\.0\.1:8123/login/once\?token=[\w-]{43}\n", here.out)
    there = verb("users", "link", "anna", "--address", "https://tw.example.org/")
    assert there.out.startswith("https://tw.example.org/login/once?token=")
    with sqlite.read() as session:
        assert people.get(session, "anna").role is Role.ADMIN


def test_a_forgotten_password_opens_nothing_any_more(verb: Tamperwatch, sqlite: Database, tmp_path: Path) -> None:
    (tmp_path / "password.txt").write_text(PASSWORD)
    verb("users", "add", "Anna", "--role", "viewer", "--password-file", "password.txt")
    verb("users", "link", "anna")
    assert fits(sqlite, "Anna", PASSWORD)
    assert verb("users", "link", "anna", "--forgotten").code == 0
    with sqlite.read() as session:
        assert people.get(session, "Anna").password_hash is None


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("add", "a/b", "--role", "viewer", "--no-password"), "a person's name"),
        (("add", "<b>", "--role", "viewer", "--no-password"), "a person's name"),
        (("add", "x", "--role", "king", "--no-password"), "king"),
        (("add", "x", "--role", "viewer"), "--password-file"),
        (("add", "x", "--role", "viewer", "--password-file", "nowhere.txt"), "cannot be read"),
        (("add", "x", "--role", "viewer", "--password-file", "short.txt"), "12 to 256"),
        (("add", "x", "--role", "viewer", "--password-file", "binary.txt"), "not UTF-8"),
        (("add", "x", "--role", "viewer", "--password-file", "short.txt", "--no-password"), "do not go together"),
        (("add", "x", "--role", "viewer", "--password", PASSWORD), "--password"),
        (("role", "nobody", "admin"), "no person 'nobody'"),
        (("password", "nobody", "--password-file", "short.txt"), "no person 'nobody'"),
        (("disable", "nobody"), "no person 'nobody'"),
        (("link", "nobody"), "no person 'nobody'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_call_is_usage(verb: Tamperwatch, sqlite: Database, tmp_path: Path, argv: tuple[str, ...], words: str) -> None:
    (tmp_path / "short.txt").write_text("short\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe seven ducks in a row")
    ran = verb("users", *argv, COLUMNS="200")
    assert (ran.code, words in ran.err) == (2, True), ran.err
    assert "Traceback" not in ran.err
    with sqlite.read() as session:
        assert people.people(session) == []


def test_the_log_is_listed_exported_and_verified(verb: Tamperwatch, sqlite: Database) -> None:
    assert verb("audit-log", "verify").out == "the log is empty\n"
    verb("users", "add", "Anna", "--role", "viewer", "--no-password", "--by", "carla")
    verb("users", "role", "anna", "admin", "--by", "carla")
    verb("keys", "create", "shop", "--scope", "read", "--by", "carla")
    listed = verb("audit-log", "list").out.splitlines()
    assert [line.split("  ")[-2] for line in listed] == [
        "carla: key.create key shop",
        "carla: person.role person Anna",
        "carla: person.add person Anna",
    ]
    assert len(verb("audit-log", "list", "--subject", "person Anna").out.splitlines()) == 2
    exported = [json.loads(line) for line in verb("audit-log", "export", "--since", "1").out.splitlines()]
    assert [(row["number"], row["action"]) for row in exported] == [(2, "person.role"), (3, "key.create")]
    assert exported[1]["previous_hash"] == exported[0]["hash"]
    whole = verb("audit-log", "verify")
    assert (whole.code, "whole: 3 entries" in whole.out) == (0, True)
    noted = whole.out.strip().rpartition(" ")[2]
    assert verb("audit-log", "verify", "--noted", noted).code == 0
    with sqlite.write() as session:
        session.execute(text("DROP TRIGGER decision_log_delete"))
        session.execute(text("DELETE FROM decision_log WHERE number = 3"))
    assert verb("audit-log", "verify").code == 0
    cut = verb("audit-log", "verify", "--noted", noted)
    assert (cut.code, "entry 3, which was noted, is missing" in cut.out) == (1, True)


def test_a_note_that_is_none_is_usage(verb: Tamperwatch) -> None:
    ran = verb("audit-log", "verify", "--noted", "12:abc")
    assert (ran.code, "NUMBER:HASH" in ran.err) == (2, True)
