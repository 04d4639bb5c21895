"""Every page for everybody: nothing serious for axe-core, nothing wider than the screen; light and dark, wide and on a phone."""

import pytest
from playwright.sync_api import Browser, expect

from schemas.states import Role
from tests.browser.accessibility import findings
from tests.browser.pages import fill
from tests.browser.site import PHONE, WIDE, Site, logged_in

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def addresses(site: Site) -> dict[str, str]:
    return fill(site)


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page(chromium: Browser, site: Site, addresses: dict[str, str], scheme: str, viewport: dict[str, int]) -> None:
    found: dict[str, list[str]] = {}
    with logged_in(chromium, site, "ada", Role.ADMIN, scheme=scheme, viewport=viewport) as ada:
        ada.allow(404)
        for name, address in addresses.items():
            page = ada.open(address)
            if name in ("review", "result"):
                expect(page.get_by_test_id("deck")).to_have_attribute("data-state", "ready")
            found[name] = findings(page)
            wide_px = page.evaluate("document.documentElement.scrollWidth")
            if wide_px > viewport["width"]:
                found[name].append(f"{wide_px} px wide")
    assert {name: each for name, each in found.items() if each} == {}
