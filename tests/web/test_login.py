"""The login page, its throttle, one-time addresses, and a person's own account."""

import html
import re

import httpx2
import pytest
from redis import Redis

from schemas.settings import Settings
from schemas.states import Role
from storage import audit_log, login_links, people
from storage.database import Database
from tests.web.made import Api, context_for, running
from tests.web.visitors import PASSWORD, Browser, add_person, new_browser
from web.csrf import token_of

OTHER = "eight geese in a line"


@pytest.fixture
def anna(api: Api) -> Browser:
    """A browser whose person is known, and not logged in yet."""
    add_person(api.database, "Anna")
    return new_browser(api)


def told(answer: httpx2.Response) -> str:
    """What the page says is wrong."""
    found = re.search(r'role="alert"><p>(.*?)</p>', answer.text)
    return html.unescape(found[1]) if found else ""


def link(api: Api, name: str) -> str:
    with api.database.write() as session:
        return login_links.issue(session, people.get(session, name), "tests")


def actions(api: Api) -> list[str]:
    with api.database.read() as session:
        return [entry.action for entry in audit_log.entries(session) if not entry.action.startswith("key.")]


def test_the_page_is_a_form_under_a_policy_that_runs_nothing_inline(anna: Browser) -> None:
    answer = anna.get("/login")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'" and policy["script-src"] == policy["style-src"] == "'self'"
    assert (policy["form-action"], policy["frame-ancestors"], policy["base-uri"]) == ("'self'", "'none'", "'none'")
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store" and answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["strict-transport-security"]
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-tamperwatch_form=") and "HttpOnly" in cookie and "SameSite=strict" in cookie


def test_a_wrong_password_and_an_unknown_name_are_told_alike(anna: Browser) -> None:
    wrong, unknown = anna.log_in("Anna", "wrong"), anna.log_in("Nobody", PASSWORD)
    assert [each.status_code for each in (wrong, unknown)] == [401, 401]
    assert told(wrong) == told(unknown) == "Name and password do not belong together."
    assert 'value="Anna"' in wrong.text and anna.session_token is None
    assert anna.log_in("Anna").status_code == 303


@pytest.mark.parametrize(
    "name", ['"><script>alert(1)</script>', "{{ 7 * 7 }}", "' onfocus=alert(1) x='", "a\x00b", "\U0001f986" * 64]
)
def test_whatever_is_typed_as_a_name_is_only_shown(anna: Browser, name: str) -> None:
    answer = anna.log_in(name, "x")
    assert answer.status_code == 401
    assert "<script>" not in answer.text and "49" not in re.findall(r'name="name" value="(.*?)"', answer.text)
    assert html.unescape(re.findall(r'name="name" value="([^"]*)"', answer.text)[0]) == name


def test_the_form_must_be_one_that_this_browser_was_given(api: Api, anna: Browser) -> None:
    form = {"name": "Anna", "password": PASSWORD}
    assert anna.post("/login", form).status_code == 403  # no cookie yet
    token = anna.form_token()
    assert anna.post("/login", form).status_code == 403
    assert anna.post("/login", {**form, "csrf_token": "0" * 64}).status_code == 403
    assert new_browser(api).post("/login", {**form, "csrf_token": token}).status_code == 403
    assert anna.post("/login", {**form, "csrf_token": token}, **{"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert anna.post("/login", {**form, "csrf_token": token}).status_code == 303


@pytest.mark.parametrize("fields", [{"name": "Anna"}, {"password": "x"}, {"name": "A" * 2000, "password": "x"}])
def test_an_incomplete_or_endless_form_is_told(anna: Browser, fields: dict[str, str]) -> None:
    answer = anna.post("/login", {**fields, "csrf_token": anna.form_token()})
    assert answer.status_code == 422
    assert "A" * 100 not in answer.text


@pytest.mark.parametrize("next", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/login"])
def test_a_login_leads_to_no_other_site(anna: Browser, next: str) -> None:
    assert anna.log_in("Anna", next=next).headers["location"] == "/"
    assert anna.get(f"/login?next={next}").headers["location"] == "/"


def test_a_login_takes_a_new_session_and_ends_the_one_before(api: Api, anna: Browser) -> None:
    add_person(api.database, "Ben")
    anna.log_in("Anna")
    first = anna.session_token or ""
    form_token = token_of(anna.client.cookies["__Host-tamperwatch_form"])
    entered = anna.post("/login", {"name": "Ben", "password": PASSWORD, "csrf_token": form_token})
    assert entered.status_code == 303 and anna.session_token != first
    stale = new_browser(api)
    stale.client.cookies.set("__Host-tamperwatch", first)
    assert stale.get("/account").status_code == 303


def test_logging_out_ends_the_session_and_takes_the_cookie(api: Api, anna: Browser) -> None:
    anna.log_in("Anna")
    token = anna.session_token or ""
    assert anna.post("/logout", {}).status_code == 403
    assert anna.get("/logout").status_code == 405
    answer = anna.post("/logout", {"csrf_token": token_of(token)})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert anna.session_token is None
    stale = new_browser(api)
    stale.client.cookies.set("__Host-tamperwatch", token)
    assert stale.get("/account").status_code == 303
    assert actions(api) == ["person.add", "login", "logout"]


def test_too_many_tries_are_told_when_to_come_again(api: Api, anna: Browser) -> None:
    tries = api.context.settings.web.login_tries
    assert {anna.log_in("Anna", "wrong").status_code for _ in range(tries)} == {401}
    refused = anna.log_in("anna", PASSWORD)  # the right one, too late
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 15 * 60
    assert re.fullmatch(r"Too many tries to log in; come again in \d+ min\.", told(refused))
    # Its owner, who is elsewhere, and others at the same address are not locked out.
    assert new_browser(api, "203.0.113.9").log_in("Anna").status_code == 303
    add_person(api.database, "Ben")
    assert anna.log_in("Ben").status_code == 303
    assert actions(api).count("login.failed") == tries


def test_tries_before_the_right_password_count_no_more(api: Api, anna: Browser) -> None:
    for _ in range(3):
        for _ in range(api.context.settings.web.login_tries - 1):
            assert anna.log_in("Anna", "wrong").status_code == 401
        assert anna.log_in("Anna").status_code == 303
        anna.client.cookies.clear()


def test_one_name_from_everywhere_and_one_address_with_every_name(api: Api) -> None:
    add_person(api.database, "Anna")
    web = api.context.settings.web
    web.login_tries_in_all = 5
    for number in range(5):
        assert new_browser(api, f"2001:db8:0:{number}::1").log_in("Anna", "wrong").status_code == 401
    assert new_browser(api, "2001:db8:0:77::1").log_in("Anna").status_code == 429
    for number in range(5):
        # One subscriber's network counts as one address.
        assert new_browser(api, f"2001:db8:0:99::{number}").log_in(f"name {number}", "wrong").status_code == 401
    assert new_browser(api, "2001:db8:0:99::77").log_in("Ben", "wrong").status_code == 429


@pytest.mark.slow
def test_processes_count_tries_together_in_redis(settings: Settings, sqlite: Database, broker_url: str) -> None:
    settings = settings.model_copy(update={"broker_url": broker_url})
    settings.web.login_tries = 2
    with running(sqlite, context_for(settings, sqlite)) as one:
        other = Api(one.app, one.client, context_for(settings, sqlite), one.tokens)
        add_person(sqlite, "Anna")
        assert new_browser(one).log_in("Anna", "wrong").status_code == 401
        one.app.state.context = other.context  # what another process has in memory
        assert new_browser(one).log_in("Anna", "wrong").status_code == 401
        assert new_browser(one).log_in("Anna", "wrong").status_code == 429
        with Redis.from_url(broker_url) as client:
            names = [name.decode() for name in client.scan_iter()]
            assert names and all("tamperwatch:rate" in name and "anna" not in name.lower() for name in names)
            assert all(0 < client.pttl(name) <= 31 * 60 * 1000 for name in names)
            client.flushdb()
        assert new_browser(one).log_in("Anna").status_code == 303


def test_a_one_time_address_asks_before_it_is_used_up(api: Api) -> None:
    add_person(api.database, "carla", Role.ADMIN, password=None)
    path = link(api, "carla")
    browser = new_browser(api)
    for _ in range(2):  # programs that look at links use nothing up
        assert "Log in as carla" in browser.get(path).text
    form = {"token": path.partition("=")[2], "csrf_token": browser.form_token(path), "next": "/account"}
    assert browser.post("/login/once", {**form, "csrf_token": "x"}).status_code == 403
    entered = browser.post("/login/once", form)
    assert (entered.status_code, entered.headers["location"]) == (303, "/account")
    assert "carla" in browser.get("/account").text
    again = new_browser(api)
    refused = again.get(path)
    assert (refused.status_code, told(refused)) == (401, "This address was used already, or is too old; ask for another one.")
    assert again.post("/login/once", form | {"csrf_token": again.form_token()}).status_code == 401
    assert "token=" not in refused.text


def change(browser: Browser, **form: str) -> httpx2.Response:
    token = token_of(browser.session_token or "")
    return browser.post("/account/password", {"csrf_token": token, "password": PASSWORD, "new": OTHER, "again": OTHER} | form)


def test_a_person_changes_their_password_and_their_other_browsers_are_out(api: Api, anna: Browser) -> None:
    other = new_browser(api)
    assert anna.log_in("Anna").status_code == other.log_in("Anna").status_code == 303
    changed = change(anna)
    assert (changed.status_code, changed.headers["location"]) == (303, "/account?changed=true")
    assert "Your password is changed" in anna.get("/account?changed=true").text
    assert other.get("/account").status_code == 303
    assert other.log_in("Anna").status_code == 401
    assert other.log_in("Anna", OTHER).status_code == 303
    assert actions(api) == ["person.add", "login", "login", "person.password", "login.failed", "login"]


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"password": "wrong"}, "The present password is another one."),
        ({"again": "eight geese in a lane"}, "The new password and its repetition differ."),
        ({"new": "short", "again": "short"}, "A password has 12 to 256 characters"),
        ({"new": "tamperwatch1234", "again": "tamperwatch1234"}, "This password is little more than a name"),
    ],
)
def test_a_change_of_password_that_is_refused(anna: Browser, form: dict[str, str], words: str) -> None:
    anna.log_in("Anna")
    refused = change(anna, **form)
    assert refused.status_code == 422
    assert told(refused).startswith(words)
    assert OTHER not in refused.text and PASSWORD not in refused.text
    assert anna.get("/account").status_code == 200


def test_whoever_finds_an_open_browser_cannot_guess_on(api: Api, anna: Browser) -> None:
    anna.log_in("Anna")
    tries = api.context.settings.web.login_tries
    assert {change(anna, password="wrong").status_code for _ in range(tries)} == {422}
    assert change(anna).status_code == 429


def test_who_came_without_a_password_chooses_one(api: Api) -> None:
    add_person(api.database, "carla", Role.ADMIN, password=None)
    path, browser = link(api, "carla"), new_browser(api)
    browser.post("/login/once", {"token": path.partition("=")[2], "csrf_token": browser.form_token(path)})
    assert "Present password" not in browser.get("/account").text
    assert change(browser, password="").status_code == 303
    assert new_browser(api).log_in("carla", OTHER).status_code == 303
