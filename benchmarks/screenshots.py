"""A picture of every page in light, dark and phone width, for docs/images/pages; and an eye for what is wrong with them.

    python -m benchmarks.screenshots [--out docs/images/pages] [--quality 70]

The store behind them holds the samples, audited by the packaged student; verdicts are by the rank of their scores, and the nights
on the models and runs pages are the test data of tests/web/learned.py.
"""

import argparse
import io
import tempfile
from contextlib import ExitStack
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

from schemas.states import Role
from tests.browser.chromium import find_chromium
from tests.browser.pages import fill
from tests.browser.seeds import audited
from tests.browser.site import PHONE, WIDE, Site, logged_in, started, window
from tests.local_servers import local_redis
from tests.web.page import bundled

_LOOKS = {"light": ("light", WIDE), "dark": ("dark", WIDE), "phone": ("light", PHONE)}
_PAGES = ("login", "review", "result", "results", "models", "model", "runs", "run", "dashboard", "failures")
_TALLEST_PX = 1600
_PATIENCE_MS = 60_000


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/images/pages"))
    parser.add_argument("--quality", type=int, default=70, help="of the WebP files")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    bundled()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tamperwatch-screenshots-")))
        redis_url = stack.enter_context(local_redis(folder))
        site = stack.enter_context(started(audited(folder), f"{redis_url}/0", folder))
        playwright = stack.enter_context(sync_playwright())
        program = find_chromium(Path(playwright.chromium.executable_path))
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        addresses = fill(site)
        for look in _LOOKS:
            _take(browser, site, addresses, look, options.out, options.quality)
        browser.close()


def _take(browser: Browser, site: Site, addresses: dict[str, str], look: str, out: Path, quality: int) -> None:
    scheme, viewport = _LOOKS[look]
    with window(browser, site, scheme, viewport) as visitor:
        _keep(visitor.open(addresses["login"]).screenshot(), out / f"login-{look}.webp", quality)
    with logged_in(browser, site, "ada", Role.ADMIN, scheme=scheme, viewport=viewport) as ada:
        for name in _PAGES[1:]:
            page = ada.open(addresses[name])
            if name in ("review", "result"):
                expect(page.get_by_test_id("deck")).to_have_attribute("data-state", "ready", timeout=_PATIENCE_MS)
            # A whole page is taken at another height than it was laid out for, which moves the panes.
            whole = name not in ("review", "result")
            _keep(page.screenshot(full_page=whole), out / f"{name}-{look}.webp", quality)


def _keep(png: bytes, path: Path, quality: int) -> None:
    with Image.open(io.BytesIO(png)) as image:
        shown = image.convert("RGB").crop((0, 0, image.width, min(image.height, _TALLEST_PX)))
    shown.save(path, quality=quality, method=6)
    print(f"{path}: {shown.width} x {shown.height}, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
