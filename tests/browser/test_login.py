"""Logging in, as a person does it; and what the login page looks like to axe-core."""

import pytest
from playwright.sync_api import Browser, expect

from schemas.states import Role
from tests.browser.accessibility import findings
from tests.browser.site import PHONE, WIDE, Site, log_in, logged_in, window

pytestmark = pytest.mark.slow


def test_a_session_is_a_cookie_that_no_script_reads(chromium: Browser, site: Site) -> None:
    with logged_in(chromium, site, "anna") as anna:
        anna.allow(404)
        expect(anna.page).not_to_have_url(f"{site.address}/login")
        cookies = {each["name"]: each for each in anna.page.context.cookies()}
        assert cookies["tamperwatch"]["httpOnly"] and cookies["tamperwatch"]["sameSite"] == "Lax"
        assert "tamperwatch=" not in anna.page.evaluate("document.cookie")
        anna.page.context.clear_cookies()
        anna.open("/login")
        expect(anna.page.get_by_label("Password")).to_be_visible()


def test_a_wrong_password_is_told_and_the_name_stays(chromium: Browser, site: Site) -> None:
    site.person("boris")
    with window(chromium, site) as boris:
        boris.allow(401)
        log_in(boris, "boris", "seven geese in a row")
        expect(boris.page.get_by_role("alert")).to_be_visible()
        expect(boris.page.get_by_label("Name")).to_have_value("boris")
        expect(boris.page.get_by_label("Password")).to_be_focused()


def test_a_name_that_is_a_script_is_only_shown(chromium: Browser, site: Site) -> None:
    name = '"><img src=x onerror=alert(1)><script>alert(2)</script>'
    with window(chromium, site) as visitor:
        visitor.allow(401, 422)
        dialogs: list[str] = []
        visitor.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        log_in(visitor, name[:60], "x")
        expect(visitor.page.get_by_label("Name")).to_have_value(name[:60])
        assert dialogs == []


def test_by_keys_alone(chromium: Browser, site: Site) -> None:
    site.person("clara", Role.VIEWER)
    with window(chromium, site) as clara:
        clara.allow(404)
        page = clara.open("/login")
        expect(page.get_by_label("Name")).to_be_focused()
        page.keyboard.type("clara")
        page.keyboard.press("Tab")
        page.keyboard.type("seven ducks in a row")
        page.keyboard.press("Enter")
        expect(page).not_to_have_url(f"{site.address}/login")


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_login_page_is_for_everybody(chromium: Browser, site: Site, scheme: str, viewport: dict[str, int]) -> None:
    with window(chromium, site, scheme, viewport) as visitor:
        page = visitor.open("/login")
        assert findings(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
