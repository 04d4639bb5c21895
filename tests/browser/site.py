"""The web role with pages, and people in front of it: each with a browser window that complains about every defect."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Response

from schemas.states import Role
from storage.database import Database
from tests.web.process import Web
from tests.web.visitors import PASSWORD, add_person

WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}


@dataclass
class Site:
    """A running web role and its store."""

    web: Web
    people: set[str] = field(default_factory=set)

    @property
    def address(self) -> str:
        return self.web.address

    @property
    def database(self) -> Database:
        return self.web.database

    def person(self, name: str, role: Role = Role.MODERATOR) -> None:
        """Somebody who may log in."""
        if name not in self.people:
            add_person(self.database, name, role)
            self.people.add(name)


@contextmanager
def started(seeds: Path, broker_url: str, folder: Path) -> Iterator[Site]:
    """The web role over a copy of a store."""
    # Not the file alone: what was written last may still lie in SQLite's log.
    with closing(sqlite3.connect(seeds / "tamperwatch.db")) as source, closing(sqlite3.connect(folder / "own.db")) as own:
        source.backup(own)
    shutil.copytree(seeds / "blobs", folder / "blobs")
    variables = {
        "BLOBS__DIRECTORY": str(folder / "blobs"),
        "BROKER_URL": broker_url,
        "WEB__PLAIN_HTTP": "true",
        "WEB__REQUESTS_PER_MINUTE": "0",
    }
    web = Web(folder, f"sqlite:///{folder / 'own.db'}", variables)
    try:
        yield Site(web)
    finally:
        web.close()


class Window:
    """One browser window of one person. What goes wrong in it is kept, and fails the test at its end."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.address = address
        self.page: Page = context.new_page()
        self.defects: list[str] = []
        self._allowed: set[int] = set()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.defects.append(f"script: {error}"))
        self.page.on("request", self._asked)
        self.page.on("response", self._answered)

    def allow(self, *statuses: int) -> None:
        """Answers that this test asks for, and that are no defects."""
        self._allowed |= set(statuses)

    def open(self, path: str) -> Page:
        """Go to an address of the site."""
        self.page.goto(self.address + path)
        return self.page

    def _said(self, message: ConsoleMessage) -> None:
        # Refused loads stand in the console a second time, without their status.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.defects.append(f"console {message.type}: {message.text}")

    def _asked(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https") and f"{parts.scheme}://{parts.netloc}" != self.address:
            self.defects.append(f"asks another site: {request.url}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self._allowed:
            self.defects.append(f"{response.status} {response.request.method} {response.url}")


@contextmanager
def window(
    browser: Browser, site: Site, scheme: str = "light", viewport: dict[str, int] | None = None, touch: bool = False
) -> Iterator[Window]:
    """A new window, without cookies. Violations of the content security policy stand in its console."""
    context = browser.new_context(
        viewport=viewport or WIDE,  # type: ignore[arg-type]
        color_scheme=scheme,  # type: ignore[arg-type]
        has_touch=touch,
        is_mobile=touch,
        locale="en-GB",
        timezone_id="UTC",
        reduced_motion="reduce",
    )
    context.set_default_timeout(60_000)
    try:
        opened = Window(context, site.address)
        yield opened
        assert opened.defects == []
    finally:
        context.close()


@contextmanager
def logged_in(browser: Browser, site: Site, name: str, role: Role = Role.MODERATOR, **how: object) -> Iterator[Window]:
    """A window of somebody who has just logged in."""
    site.person(name, role)
    with window(browser, site, **how) as opened:  # type: ignore[arg-type]
        log_in(opened, name)
        yield opened


def log_in(opened: Window, name: str, password: str = PASSWORD, path: str = "/login") -> None:
    """Fill in the form and send it."""
    page = opened.open(path)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_test_id("log-in").click()
    page.wait_for_load_state()
