"""Where the browser tests find their Chromium: the machine's own, or the one that Playwright downloads.

    python -m tests.browser.chromium    # says which; exit status 1 if there is none

`make browser` installs one. Without one the tests fail and say so; they never skip.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Final

from playwright.sync_api import sync_playwright

from schemas.errors import EnvironmentMissing

VARIABLE: Final = "TAMPERWATCH_TEST_CHROMIUM"
_NAMES: Final = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


def find_chromium(downloaded: Path) -> Path:
    """The program to start.

    Args:
        downloaded: where Playwright would have put its own.

    Raises:
        EnvironmentMissing: there is none.
    """
    named = os.environ.get(VARIABLE)
    found = shutil.which(named) if named else next(filter(None, map(shutil.which, _NAMES)), None)
    if found is not None:
        return Path(found)
    if named is None and downloaded.is_file():
        return downloaded
    raise EnvironmentMissing(f"no Chromium for the browser tests: run `make browser`, or name one in {VARIABLE}")


def main() -> int:
    """Say where it is."""
    with sync_playwright() as playwright:
        downloaded = Path(playwright.chromium.executable_path)
    try:
        sys.stdout.write(f"{find_chromium(downloaded)}\n")
    except EnvironmentMissing as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
