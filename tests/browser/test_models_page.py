"""Who may not decide about versions."""

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.site import Site, logged_in
from tests.web.learned import add_candidate, make_live

pytestmark = pytest.mark.slow


def test_a_moderator_looks_and_does_not_decide(chromium: Browser, site: Site) -> None:
    make_live(site.database)
    add_candidate(site.database, "student-other")
    with logged_in(chromium, site, "boris") as boris:
        page = boris.open("/models")
        expect(page.get_by_test_id("candidate")).to_be_visible()
        expect(page.get_by_test_id("open-promote-1")).to_have_count(0)
