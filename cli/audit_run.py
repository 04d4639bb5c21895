"""One run over an embedded stack: submit, watch, render, collect."""

import os
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.progress import Progress, TaskID

from cli.console import progress_bar
from cli.rendering import Rendered, Renderer
from cli.report import Thumbnails
from cli.stack import EmbeddedStack
from model.preprocess import PictureLimits
from schemas.errors import BrokerUnavailable
from schemas.records import AuditRecord
from storage import queries
from workers.submission import SourceFile, Submission, submit_files

_POLL_S = 0.2
_QUIET_S = 5.0


class AuditRun:
    """Follows one submission from its files to its records."""

    def __init__(self, stack: EmbeddedStack, submission: Submission, out: Path) -> None:
        self._stack = stack
        self._submission = submission
        limits = PictureLimits(stack.settings.limits.max_bytes, stack.settings.limits.max_pixels)
        self._renderer = Renderer(out, stack.blobs, limits, threads=os.cpu_count() or 1)
        self._rendering: dict[str, Future[Rendered]] = {}
        self._since: tuple[datetime, uuid.UUID] | None = None
        self._moved_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._renderer.close()

    def finish(self, files: Sequence[SourceFile]) -> list[AuditRecord]:
        """Audit all files and write their masks and overlays.

        Returns:
            One record a file, in the files' order.

        Raises:
            EnvironmentMissing: the worker or Redis keeps dying.
        """
        with progress_bar() as bar:
            task = bar.add_task("starting", total=len(files))
            with suppress(BrokerUnavailable):  # Redis died; it is being revived, and a sweep sends what it lost
                for _ in submit_files(files, self._submission, self._stack.database, self._stack.blobs, self._stack.app):
                    self._step(bar, task)
            while len(self._rendering) < len(files):
                self._step(bar, task)
                time.sleep(_POLL_S)
            bar.update(task, description="writing")
            return [self._rendering[file.name].result().record for file in files]

    def thumbnails(self, record: AuditRecord) -> Thumbnails | None:
        """The small pictures of a record that `finish` returned."""
        return self._rendering[record.image].result().thumbnails

    def _step(self, bar: Progress, task: TaskID) -> None:
        """Look after the processes, and take in what has ended since the last look."""
        self._stack.supervise()
        if time.monotonic() - self._moved_at > _QUIET_S:
            # Read from the start again: a clock set back would hide what has ended since.
            self._since, self._moved_at = None, time.monotonic()
        with self._stack.database.read() as session:
            ended = queries.ended_jobs(session, self._submission.id, self._since)
        for audited in ended:
            if audited.job.finished_at is not None:
                self._since = (audited.job.finished_at, audited.job.id)
            if audited.job.source not in self._rendering:
                self._rendering[audited.job.source] = self._renderer.submit(audited)
                self._moved_at = time.monotonic()
        if self._rendering:
            bar.update(task, description="auditing", completed=len(self._rendering))
