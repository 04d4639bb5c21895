"""Which code made a model: the release, and the commit where it runs from its sources."""

import functools
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


@functools.cache
def code_version() -> str:
    """As in "0.4.0" or "0.4.0 (1a2b3c4d5e6f, changed)"."""
    try:
        release = version("tamperwatch")
    except PackageNotFoundError:
        release = "from its sources"
    commit = _git("rev-parse", "--short=12", "HEAD") if (_ROOT / ".git").exists() else ""
    if not commit:
        return release
    changed = ", changed" if _git("status", "--porcelain", "--untracked-files=no") else ""
    return f"{release} ({commit}{changed})"


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
