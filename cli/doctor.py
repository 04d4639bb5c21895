"""`tamperwatch doctor`: what is reachable, what is missing, and how to mend it."""

import importlib.util
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import typer

from cli.console import load_settings, plain, stdout
from cli.redis_binary import redis_server
from cli.store import open_store
from model.card import builtin_directory
from model.predictor import Predictor
from schemas.errors import TamperwatchError
from schemas.settings import Settings
from storage.blobs import open_blob_store
from storage.telemetry_health import check_blobs
from workers.app import make_app, queue_depths

_EXTRAS = {
    "gpu": ("torch", "timm"),
    "train": ("torch", "timm", "segment_anything", "cv2"),
    "otel": ("opentelemetry",),
}


class Finding(NamedTuple):
    """One line of the answer. A finding that is not needed for `audit` never fails the command."""

    name: str
    ok: bool
    words: str
    needed: bool


def doctor() -> None:
    """Check this installation: what `audit` needs, and what the production settings point at.

    Exits with 3 if `tamperwatch audit` could not run here.

    \b
    Example:
      tamperwatch doctor
    """
    failed = False
    for finding in _findings(load_settings()):
        mark = "[green]ok[/]     " if finding.ok else ("[red]missing[/]" if finding.needed else "[yellow]not set[/]")
        name = plain(f"{finding.name:<16}")
        stdout.print(f"{mark} [bold]{name}[/] {plain(finding.words)}", highlight=False, soft_wrap=True)
        failed = failed or (finding.needed and not finding.ok)
    if failed:
        raise typer.Exit(3)


def _findings(settings: Settings) -> Iterator[Finding]:
    yield Finding("python", True, f"{platform.python_version()}, {os.cpu_count()} cores", True)
    yield _checked("student", _student, needed=True)
    yield _checked("redis-server", _redis, needed=True)
    yield _checked("results store", lambda: _store(settings), needed=False)
    yield _checked("broker", lambda: f"{sum(queue_depths(make_app(settings)).values())} messages waiting", needed=False)
    yield _checked("blob store", lambda: _blobs(settings), needed=False)
    for extra, packages in _EXTRAS.items():
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        words = "installed" if not missing else f"lacks {', '.join(missing)}: pip install 'tamperwatch[{extra}]'"
        yield Finding(f"extra [{extra}]", not missing, words, False)


def _checked(name: str, check: Callable[[], str], needed: bool) -> Finding:
    try:
        return Finding(name, True, check(), needed)
    except TamperwatchError as error:
        return Finding(name, False, error.message, needed)


def _student() -> str:
    predictor = Predictor.load(builtin_directory())
    blank = np.zeros((predictor.input_size, predictor.input_size, 3), dtype=np.uint8)
    predictor.predict([blank])
    return f"{predictor.card.version} answers on {predictor.engine.name}, {predictor.input_size} x {predictor.input_size}"


def _redis() -> str:
    path = redis_server()
    shown = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    version = next((word.removeprefix("v=") for word in shown.split() if word.startswith("v=")), "of unknown version")
    return f"{version} at {path}"


def _store(settings: Settings) -> str:
    # What stands before the @ of a URL may hold a password.
    return f"{open_store(settings.database_url).url.split('@')[-1]} stands at this release's schema"


def _blobs(settings: Settings) -> str:
    check_blobs(open_blob_store(settings.blobs))
    blobs = settings.blobs
    where = blobs.directory if blobs.backend == "directory" else f"{blobs.endpoint}/{blobs.bucket}"
    return f"{blobs.backend} at {where}"
