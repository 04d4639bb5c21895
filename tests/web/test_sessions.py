"""Who may look at a page: cookies, roles and the CSRF tokens of what changes something."""

from datetime import timedelta
from typing import Any

import pytest
from fastapi import APIRouter
from sqlmodel import col, update

from schemas.people_tables import PageSession
from schemas.settings import Settings
from schemas.states import Role
from schemas.tables import now
from storage import passwords, people
from storage.database import Database
from tests.web.made import Api, context_for, running
from tests.web.visitors import PASSWORD, Browser, add_person, new_browser
from web.csrf import token_of
from web.sessions import AdminPerson, Moderator, Person, Viewer, safe_next

ROLES = {"/for/viewers": Role.VIEWER, "/for/moderators": Role.MODERATOR, "/for/admins": Role.ADMIN}


def _told(person: Person) -> dict[str, Any]:
    return {"name": person.name, "role": person.role, "csrf_token": person.csrf_token}


@pytest.fixture
def site(api: Api) -> Api:
    """The API with three pages, one for each role, that say who looks at them."""
    router = APIRouter(prefix="/for", include_in_schema=False)

    @router.api_route("/viewers", methods=["GET", "POST"])
    def viewers(person: Viewer) -> dict[str, Any]:
        return _told(person)

    @router.api_route("/moderators", methods=["GET", "POST"])
    def moderators(person: Moderator) -> dict[str, Any]:
        return _told(person)

    @router.api_route("/admins", methods=["GET", "POST"])
    def admins(person: AdminPerson) -> dict[str, Any]:
        return _told(person)

    api.app.include_router(router)
    return api


@pytest.fixture
def anna(site: Api) -> Browser:
    """A moderator who is logged in."""
    add_person(site.database, "Anna")
    browser = new_browser(site)
    assert browser.log_in("anna").status_code == 303
    return browser


def set_sessions(database: Database, **values: object) -> None:
    with database.write() as session:
        session.execute(update(PageSession).where(col(PageSession.token_sha256).is_not(None)).values(**values))


def is_out(browser: Browser) -> bool:
    return browser.get("/for/viewers").status_code == 303


def test_a_page_knows_who_looks_at_it(anna: Browser) -> None:
    told = anna.get("/for/viewers").json()
    assert (told["name"], told["role"]) == ("Anna", "moderator")
    assert told["csrf_token"] == token_of(anna.session_token or "")


def test_the_cookie_is_for_this_host_and_no_script(site: Api) -> None:
    add_person(site.database, "Anna")
    cookie = new_browser(site).log_in("Anna").headers["set-cookie"]
    assert cookie.startswith("__Host-tamperwatch=")
    assert set(cookie.lower().split("; ")[1:]) == {"httponly", "secure", "path=/", "samesite=lax", "max-age=43200"}


@pytest.mark.parametrize("role", Role)
def test_roles(site: Api, role: Role) -> None:
    add_person(site.database, "Ben", role)
    browser = new_browser(site)
    browser.log_in("Ben")
    allowed = {path for path in ROLES if browser.get(path).status_code == 200}
    assert allowed == {path for path, needed in ROLES.items() if role.includes(needed)}
    for path in set(ROLES) - allowed:
        refused = browser.get(path)
        assert refused.status_code == 403
        assert f"`{ROLES[path]}`" in refused.text or ROLES[path].value in refused.text


def test_whoever_is_not_logged_in_is_led_to_the_login_and_back(site: Api) -> None:
    add_person(site.database, "Anna")
    browser = new_browser(site)
    led = browser.get("/for/viewers?page=2&x=a%20b")
    assert (led.status_code, led.headers["location"]) == (303, "/login?next=%2Ffor%2Fviewers%3Fpage%3D2%26x%3Da%2520b")
    assert 'value="/for/viewers?page=2&amp;x=a%20b"' in browser.get(led.headers["location"]).text
    back = browser.log_in("Anna", next="/for/viewers?page=2&x=a%20b")
    assert (back.status_code, back.headers["location"]) == (303, "/for/viewers?page=2&x=a%20b")


def test_a_script_is_told_and_not_led(site: Api) -> None:
    for headers in ({"Accept": "*/*", "Sec-Fetch-Mode": "cors"}, {"Accept": "application/json"}):
        answer = new_browser(site).get("/for/viewers", **headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    part = new_browser(site).get("/for/viewers", **{"HX-Request": "true"})
    assert part.status_code == 401
    assert part.text.startswith('<div class="notice error"') and "nobody is logged in" in part.text


def test_what_changes_something_is_never_led(site: Api) -> None:
    assert new_browser(site).post("/for/viewers", {}).status_code == 401


def test_forged_cookies_open_nothing(anna: Browser, site: Api) -> None:
    token = anna.session_token or ""
    with site.database.read() as session:
        kept = session.exec(PageSession.__table__.select()).one().token_sha256  # type: ignore[attr-defined]
    assert token not in kept
    for forged in (
        token[:-1] + ("A" if token[-1] != "A" else "B"),
        kept,
        "",
        "x" * 10_000,
        "\udcff".encode("utf-8", "surrogateescape"),
    ):
        browser = new_browser(site)
        value = forged if isinstance(forged, bytes) else forged.encode()
        answer = browser.client.get("/for/viewers", headers={"Cookie": b"__Host-tamperwatch=" + value})
        assert answer.status_code == 401, forged
    # Nor does the cookie that is meant for plain HTTP: another host of the domain could have set it.
    assert new_browser(site).client.get("/for/viewers", headers={"Cookie": f"tamperwatch={token}"}).status_code == 401


@pytest.mark.parametrize(
    "values",
    [
        {"expires_at": now() - timedelta(seconds=1)},
        {"seen_at": now() - timedelta(minutes=61)},
        {"closed_at": now()},
    ],
    ids=["too old", "idle", "closed"],
)
def test_a_session_that_is_over_opens_nothing(anna: Browser, site: Api, values: dict[str, object]) -> None:
    assert not is_out(anna)
    set_sessions(site.database, **values)
    assert is_out(anna)


def test_use_is_noted_to_the_minute_and_keeps_the_session(anna: Browser, site: Api) -> None:
    def seen_at() -> Any:
        with site.database.read() as session:
            return session.exec(PageSession.__table__.select()).one().seen_at  # type: ignore[attr-defined]

    first = seen_at()
    anna.get("/for/viewers")
    assert seen_at() == first
    set_sessions(site.database, seen_at=now() - timedelta(minutes=59))
    anna.get("/for/viewers")
    assert seen_at() > first


def test_a_person_who_is_locked_out_is_out_at_once(anna: Browser, site: Api) -> None:
    with site.database.write() as session:
        people.set_disabled(session, people.get(session, "anna"), True, "tests")
    assert is_out(anna)
    with site.database.write() as session:
        people.set_disabled(session, people.get(session, "anna"), False, "tests")
    assert is_out(anna)  # the old session stays closed
    assert anna.log_in("Anna").status_code == 303


def test_a_new_role_holds_from_the_next_request_on(anna: Browser, site: Api) -> None:
    with site.database.write() as session:
        people.set_role(session, people.get(session, "anna"), Role.VIEWER, "tests")
    assert anna.get("/for/moderators").status_code == 403


def test_a_new_password_ends_every_session(anna: Browser, site: Api) -> None:
    other = new_browser(site)
    other.log_in("Anna")
    made = passwords.hashed("eight geese in a line", "Anna")
    with site.database.write() as session:
        people.set_password(session, people.get(session, "anna"), made, "tests")
    assert is_out(anna) and is_out(other)
    assert anna.log_in("Anna", PASSWORD).status_code == 401
    assert anna.log_in("Anna", "eight geese in a line").status_code == 303


def test_what_changes_something_needs_the_token_of_the_page(anna: Browser, site: Api) -> None:
    token = anna.get("/for/viewers").json()["csrf_token"]
    other = new_browser(site)
    other.log_in("Anna")
    others_token = other.get("/for/viewers").json()["csrf_token"]
    for form in ({}, {"csrf_token": ""}, {"csrf_token": "0" * 64}, {"csrf_token": others_token}, {"csrf_token": "é"}):
        refused = anna.post("/for/viewers", form)
        assert refused.status_code == 403, form
    assert anna.post("/for/viewers", {"csrf_token": token}).status_code == 200
    assert anna.post("/for/viewers", {}, **{"X-CSRF-Token": token}).status_code == 200
    # A wrong header is not made good by a field.
    assert anna.post("/for/viewers", {"csrf_token": token}, **{"X-CSRF-Token": "0" * 64}).status_code == 403
    sent = anna.client.post("/for/viewers", json={"csrf_token": token})
    assert sent.status_code == 403  # a JSON body carries none
    assert anna.client.post("/for/viewers", files={"csrf_token": (None, token)}).status_code == 200


@pytest.mark.parametrize("site_of", ["cross-site", "same-site"])
def test_other_sites_are_refused_even_with_the_token(anna: Browser, site_of: str) -> None:
    token = anna.get("/for/viewers").json()["csrf_token"]
    assert anna.post("/for/viewers", {"csrf_token": token}, **{"Sec-Fetch-Site": site_of}).status_code == 403
    assert anna.post("/for/viewers", {"csrf_token": token}, **{"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_an_api_key_opens_no_page_and_a_session_no_api(anna: Browser, site: Api) -> None:
    from schemas.states import Scope

    assert new_browser(site).client.get("/for/viewers", headers=site.headers(Scope.ADMIN)).status_code == 401
    assert anna.client.get("/v1/models").status_code == 401


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("/review/12?filter=flag#x", "/review/12?filter=flag#x"),
        (None, "/"),
        ("", "/"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("///evil.example", "/"),
        ("/\\evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("/\n/evil.example", "/"),
        (" //evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("review", "/"),
        ("http:/review", "/"),
        ("//[", "/"),
        ("/login?next=/login", "/"),
        ("/logout", "/"),
        ("/" + "x" * 3000, "/"),
    ],
)
def test_where_a_login_may_lead(given: str | None, safe: str) -> None:
    assert safe_next(given) == safe


def test_over_plain_http_the_cookie_goes_without_secure(settings: Settings, sqlite: Database) -> None:
    settings.web.plain_http = True
    with running(sqlite, context_for(settings, sqlite)) as api:
        add_person(api.database, "Anna")
        browser = Browser(api.client)
        cookie = browser.log_in("Anna").headers["set-cookie"]
        assert cookie.startswith("tamperwatch=") and "secure" not in cookie.lower()
        assert browser.get("/login").status_code == 303


@pytest.mark.slow
def test_sessions_on_every_database(database: Database, settings: Settings) -> None:
    with running(database, context_for(settings, database)) as api:
        add_person(database, "Anna")
        browser = new_browser(api)
        assert browser.log_in("ANNA").status_code == 303
        assert browser.get("/login").status_code == 303
        token = token_of(browser.session_token or "")
        assert browser.post("/logout", {"csrf_token": token}).headers["location"] == "/login"
        assert browser.get("/login").status_code == 200
