"""`tamperwatch worker` on a machine whose clock jumps: CHAOS_CLOCK names a file with the seconds it is off, read each time.

    CHAOS_CLOCK=/tmp/clock python -m benchmarks.chaos_worker

What our rooms, kombu and celery ask for the wall clock is shifted; the monotonic clock, which no clock setting moves, is not.
"""

import functools
import os
import time
from datetime import datetime, timedelta
from pathlib import Path


def main() -> None:
    """Shift the clock, then be a worker."""
    file, right = Path(os.environ["CHAOS_CLOCK"]), time.time
    off_s = functools.partial(_seconds, file)
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

    os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")
    serve(load_settings(), list(AuditQueue))


def _seconds(file: Path) -> float:
    return float(file.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
