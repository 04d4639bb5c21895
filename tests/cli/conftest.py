"""The command as a person runs it, in this process: arguments and variables in; exit status and both streams out."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from cli import main

NOBODY = 65534


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


class Tamperwatch(Protocol):
    def __call__(self, *argv: str, **variables: str) -> Ran: ...


@pytest.fixture
def tamperwatch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Tamperwatch:
    """Run one verb in an empty folder, with no TAMPERWATCH_ variable but the given ones (names without that prefix)."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.upper().startswith("TAMPERWATCH_")]:
        monkeypatch.delenv(name)

    def run(*argv: str, **variables: str) -> Ran:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["tamperwatch", *argv])
            for name, value in variables.items():
                patch.setenv(f"TAMPERWATCH_{name}", value)
            with pytest.raises(SystemExit) as ended:
                main.main()
        shown = capsys.readouterr()
        return Ran(int(ended.value.code or 0), shown.out, shown.err)

    return run


@pytest.fixture
def as_nobody() -> Iterator[Callable[[], object]]:
    """A context in which this process has no rights of its own, also where tests run as root."""

    @contextmanager
    def without_rights() -> Iterator[None]:
        if os.geteuid() != 0:
            yield
            return
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)

    yield without_rights


@pytest.fixture
def as_in_a_terminal() -> Iterator[None]:
    """Started in the background, a process inherits that Ctrl-C is ignored, and Python leaves it so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
