"""Who may use the pages: names, passwords, logging in, and one-time addresses."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from argon2 import PasswordHasher
from sqlmodel import col, select, update

from schemas.errors import InvalidInput, Unauthenticated
from schemas.people_tables import LoginLink, PageSession, PageUser
from schemas.states import Role, Scope
from schemas.tables import now
from storage import api_keys, audit_log, login_links, logins, passwords, people, sessions
from storage.database import Database
from storage.sessions import Lasting

PASSWORD = "seven ducks in a row"
LASTING = Lasting(timedelta(hours=1), timedelta(hours=12))


def add(database: Database, name: str, role: Role = Role.MODERATOR, password: str | None = PASSWORD) -> None:
    made = None if password is None else passwords.hashed(password, name)
    with database.write() as session:
        people.add(session, name, role, "tests", made)


def log_in(database: Database, name: str, password: str = PASSWORD) -> str:
    return logins.log_in(database, name, password, "192.0.2.1", LASTING)


def changed(database: Database, change: Callable[..., None], name: str, *arguments: Any) -> None:
    with database.write() as session:
        change(session, people.get(session, name), *arguments, "tests")


def is_in(database: Database, token: str) -> bool:
    with database.read() as session:
        return sessions.look_up(session, token, LASTING) is not None


def actions(database: Database, subject: str) -> list[tuple[str, str]]:
    with database.read() as session:
        return [(each.who, each.action) for each in audit_log.entries(session, subject=subject)]


@pytest.mark.parametrize("name", ["Anna", "José Ñuñez", "O'Brien", "李小龙", "अनिल", "İpek", "anna.b-2@example.org", "a"])
def test_names_of_people(database: Database, name: str) -> None:
    add(database, name, password=None)
    with database.read() as session:
        assert people.get(session, name.upper()).name == name


@pytest.mark.parametrize(
    "name", ["", " ", "a/b", "<script>", "a\nb", "a\x00b", "-x", ".x", 'a"b', "a&b", "x" * 65, "a\u202eb", "a\u200bb", "\ud800"]
)
def test_names_that_markup_or_records_could_mistake(sqlite: Database, name: str) -> None:
    with pytest.raises(InvalidInput, match="a person's name has 1 to 64"):
        add(sqlite, name, password=None)


@pytest.mark.parametrize("again", ["anna", "ANNA", " Anna ", "\uff21\uff4e\uff4e\uff41"])
def test_a_name_is_taken_for_good_however_it_is_written(sqlite: Database, again: str) -> None:
    add(sqlite, "Anna", password=None)
    changed(sqlite, people.set_disabled, "anna", True)
    with pytest.raises(InvalidInput, match="there is, or was, a person named 'Anna'"):
        add(sqlite, again, password=None)


def test_a_person_and_a_key_never_share_a_name(sqlite: Database) -> None:
    with sqlite.write() as session:
        api_keys.create(session, "shop", [Scope.READ])
    with pytest.raises(InvalidInput, match="an API key named 'shop'"):
        add(sqlite, "shop", password=None)
    add(sqlite, "Anna", password=None)
    with pytest.raises(InvalidInput, match="a person named 'anna'"), sqlite.write() as session:
        api_keys.create(session, "anna", [Scope.READ])


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("short", "12 to 256 characters"),
        ("x" * 257, "12 to 256 characters"),
        ("aaaaaaaaaaaabbbb", "5 different"),
        ("tamperwatch12", "little more than a name"),
        ("Annabella Stone!", "little more than a name"),
        ("seven\tducks in a row", "can be typed"),
        ("seven ducks\x00in a row", "can be typed"),
    ],
)
def test_passwords_that_are_refused(password: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        passwords.hashed(password, "Annabella Stone")


def test_a_password_is_kept_as_argon2id_and_fits_however_it_is_composed() -> None:
    made = passwords.hashed("sieben Gänse im Schnee", "Anna")
    assert made.startswith("$argon2id$v=19$m=65536,t=3,p=4$") and "Gänse" not in made
    assert passwords.fits(made, "sieben Ga\u0308nse im Schnee")
    assert not passwords.fits(made, "sieben Gänse im schnee")
    assert not passwords.fits("$argon2id$nonsense", "sieben Gänse im Schnee")
    assert not passwords.fits(None, "nobody")


def test_logging_in(database: Database) -> None:
    add(database, "Anna")
    token = log_in(database, " anna ")
    with database.read() as session:
        active = sessions.look_up(session, token, LASTING)
        assert active is not None and (active.user.name, active.user.role) == ("Anna", Role.MODERATOR)
        assert active.user.last_login_at is not None
        assert session.exec(select(PageSession.token_sha256)).one() == sessions.digest(token) != token
    assert actions(database, "person Anna") == [("tests", "person.add"), ("Anna", "login")]


def test_every_refusal_sounds_the_same_and_takes_the_same_work(sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    add(sqlite, "Anna")
    add(sqlite, "Ben")
    add(sqlite, "Carla", password=None)
    changed(sqlite, people.set_disabled, "Ben", True)
    passwords.fits(None, "")  # nobody's hash is made
    work: list[tuple[Any, ...]] = []
    verify = PasswordHasher.verify

    def counted(self: PasswordHasher, made: str, password: bytes) -> bool:
        parameters = made.split("$")[3]
        work.append((parameters, password))
        return verify(self, made, password)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    messages = set()
    tries = [("Anna", "wrong"), ("nobody", PASSWORD), ("Ben", PASSWORD), ("Carla", PASSWORD), ("x" * 500, "\ud800")]
    for name, password in tries:
        with pytest.raises(Unauthenticated) as refused:
            log_in(sqlite, name, password)
        messages.add(refused.value.message)
    assert len(messages) == 1
    assert [parameters for parameters, _ in work] == ["m=65536,t=3,p=4"] * len(tries)
    assert [who for who, action in actions(sqlite, "person Ben") if action == "login.failed"] == ["unknown"]
    with sqlite.read() as session:
        reasons = [each.details["reason"] for each in audit_log.entries(session) if each.action == "login.failed"]
        everything = "".join(each.model_dump_json() for each in audit_log.entries(session))
    assert reasons == ["wrong password", "unknown name", "locked out", "wrong password", "unknown name"]
    # Whatever was typed as an unknown name may have been a password.
    assert "nobody" not in everything and "xxx" not in everything and PASSWORD not in everything


def test_a_hash_of_old_costs_is_made_anew_at_the_next_login(sqlite: Database) -> None:
    add(sqlite, "Anna")
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    with sqlite.write() as session:
        session.execute(update(PageUser).values(password_hash=cheap))
    log_in(sqlite, "Anna")
    with sqlite.read() as session:
        assert (people.get(session, "Anna").password_hash or "").startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    log_in(sqlite, "Anna")


def test_a_password_that_changes_during_the_login_lets_nobody_in(sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    add(sqlite, "Anna")
    other = passwords.hashed("eight geese in a line", "Anna")
    fits = passwords.fits

    def meanwhile(made: str | None, password: str) -> bool:
        changed(sqlite, people.set_password, "Anna", other)
        return fits(made, password)

    monkeypatch.setattr(passwords, "fits", meanwhile)
    with pytest.raises(Unauthenticated):
        log_in(sqlite, "Anna")


def test_a_new_password_closes_all_sessions_but_the_one_it_was_changed_in(database: Database) -> None:
    add(database, "Anna")
    add(database, "Ben")
    kept, other, bens = log_in(database, "Anna"), log_in(database, "Anna"), log_in(database, "Ben")
    with database.write() as session:
        link = login_links.issue(session, people.get(session, "Anna"), "tests")
    with database.write() as session:
        people.set_password(session, people.get(session, "Anna"), "$argon2id$", "Anna", keep=sessions.digest(kept))
    assert [is_in(database, token) for token in (kept, other, bens)] == [True, False, True]
    with pytest.raises(Unauthenticated):
        logins.log_in_once(database, link.partition("=")[2], "192.0.2.1", LASTING)


def test_logging_out_closes_one_session_and_is_logged_once(database: Database) -> None:
    add(database, "Anna")
    one, other = log_in(database, "Anna"), log_in(database, "Anna")
    for _ in range(2):
        with database.write() as session:
            logins.log_out(session, "Anna", sessions.digest(one))
    assert (is_in(database, one), is_in(database, other)) == (False, True)
    assert [action for _, action in actions(database, "person Anna")].count("logout") == 1


def token_of(link: str) -> str:
    assert link.startswith("/login/once?token=")
    return link.partition("=")[2]


def test_a_one_time_address_works_once(database: Database) -> None:
    add(database, "Carla", Role.ADMIN, password=None)
    with database.write() as session:
        token = token_of(login_links.issue(session, people.get(session, "carla"), "tests"))
    with database.read() as session:
        assert login_links.owner(session, token).name == "Carla"  # looking does not use it up
        assert session.exec(select(LoginLink.token_sha256)).one() == sessions.digest(token)
    begin = threading.Barrier(4)

    def use(_: int) -> bool:
        begin.wait()
        try:
            return is_in(database, logins.log_in_once(database, token, "192.0.2.1", LASTING))
        except Unauthenticated:
            return False

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(use, range(4))) == [False, False, False, True]
    assert [action for _, action in actions(database, "person Carla")] == ["person.add", "person.link", "login.link"]


@pytest.mark.parametrize("over", ["old", "locked out", "unknown"])
def test_a_one_time_address_that_is_over(sqlite: Database, over: str) -> None:
    add(sqlite, "Carla", Role.ADMIN, password=None)
    with sqlite.write() as session:
        token = token_of(login_links.issue(session, people.get(session, "carla"), "tests"))
        if over == "old":
            session.execute(update(LoginLink).where(col(LoginLink.used_at).is_(None)).values(expires_at=now()))
    if over == "locked out":
        changed(sqlite, people.set_disabled, "Carla", True)
        with pytest.raises(InvalidInput, match="locked out"), sqlite.write() as session:
            login_links.issue(session, people.get(session, "carla"), "tests")
    with pytest.raises(Unauthenticated, match="used already, or is too old"):
        logins.log_in_once(sqlite, "x" if over == "unknown" else token, "192.0.2.1", LASTING)


def test_the_first_admin_is_made_where_there_is_none(sqlite: Database) -> None:
    with sqlite.write() as session:
        first = login_links.issue_for_admin(session, "up")
    with sqlite.write() as session:
        second = login_links.issue_for_admin(session, "up")
        assert [(row.name, row.role) for row in people.people(session)] == [("admin", Role.ADMIN)]
    assert is_in(sqlite, logins.log_in_once(sqlite, token_of(first), "192.0.2.1", LASTING))
    assert is_in(sqlite, logins.log_in_once(sqlite, token_of(second), "192.0.2.1", LASTING))


def test_what_ended_long_ago_is_forgotten(sqlite: Database) -> None:
    add(sqlite, "Anna")
    open_, closed, expired = (log_in(sqlite, "Anna") for _ in range(3))
    long_ago = now() - timedelta(days=31)
    with sqlite.write() as session:
        login_links.issue(session, people.get(session, "Anna"), "tests")
        session.execute(update(LoginLink).where(col(LoginLink.used_at).is_(None)).values(expires_at=long_ago))
        for token, values in ((closed, {"closed_at": long_ago}), (expired, {"expires_at": long_ago})):
            which = col(PageSession.token_sha256) == sessions.digest(token)
            session.execute(update(PageSession).where(which).values(**values))
        assert sessions.purge(session, timedelta(days=30)) == 3
    assert is_in(sqlite, open_)
