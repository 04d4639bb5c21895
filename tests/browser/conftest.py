"""A Chromium for each module, and the web role over a store that the real student has filled."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Playwright, expect, sync_playwright
from redis import Redis

from tests.browser.chromium import find_chromium
from tests.browser.seeds import audited
from tests.browser.site import Site, started
from tests.web.page import bundled

# A busy machine is no defect.
expect.set_options(timeout=60_000)


# One a module, not a session: while Playwright runs, no other test could run an event loop in this thread.
@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    program = find_chromium(Path(playwright.chromium.executable_path))
    # Root has no sandbox to be in; small /dev/shm is common in containers.
    browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def bundle() -> None:
    """The pages' scripts and styles, as the wheel holds them."""
    bundled()


@pytest.fixture(scope="session")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with audited pictures, to copy from."""
    return audited(tmp_path_factory.mktemp("seeds"))


@pytest.fixture(scope="module")
def browser_broker(redis_url: str) -> Iterator[str]:
    url = f"{redis_url}/15"
    with Redis.from_url(url) as client:
        client.flushdb()
        yield url
        client.flushdb()


@pytest.fixture(scope="module")
def site(bundle: None, seeds: Path, browser_broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:  # noqa: ARG001
    """The web role, shared by the tests of a module."""
    with started(seeds, browser_broker, tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture
def own_site(bundle: None, seeds: Path, browser_broker: str, tmp_path: Path) -> Iterator[Site]:  # noqa: ARG001
    """The web role for a test that uses up what it finds."""
    with started(seeds, browser_broker, tmp_path) as running:
        yield running
