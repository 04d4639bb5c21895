"""`tamperwatch worker` whose clock can be set and that can be stopped inside any stage, by files in a folder.

    CHAOS_FOLDER=/tmp/worker-1 python -m benchmarks.chaos_worker

`clock` holds the seconds its clock is off, read each time: what our rooms, kombu and celery ask for the wall clock is shifted;
the monotonic clock, which no clock setting moves, is not. `stage` names a stage of `storage.telemetry`: a thread that enters
it writes `reached` and goes no further, for as long as this process lives.
"""

import functools
import os
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

CLOCK, STAGE, REACHED = "clock", "stage", "reached"


def main() -> None:
    """Shift the clock, mind the stages, then be a worker."""
    folder, right = Path(os.environ["CHAOS_FOLDER"]), time.time
    off_s = functools.partial(_seconds, folder / CLOCK)
    # Before any room or library is imported: what is imported by name later is the shifted one.
    time.time = lambda: right() + off_s()
    from schemas import tables

    right_now = tables.now

    def now() -> datetime:
        return right_now() + timedelta(seconds=off_s())

    tables.now = now
    from cli.console import load_settings
    from cli.worker import serve
    from schemas.states import AuditQueue

    _mind_stages(folder)
    os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")
    serve(load_settings(), list(AuditQueue))


def _mind_stages(folder: Path) -> None:
    """Stop for ever whoever enters the stage that the folder names."""
    from storage import telemetry

    class Stage(telemetry.stage):
        def __init__(self, name: str) -> None:
            super().__init__(name)
            self._stopped = _named(folder) == name

        def __enter__(self) -> Any:
            if self._stopped:
                (folder / REACHED).touch()
                threading.Event().wait()
            return super().__enter__()

    telemetry.stage = Stage  # type: ignore[misc]


def _named(folder: Path) -> str:
    try:
        return (folder / STAGE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _seconds(file: Path) -> float:
    return float(file.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
