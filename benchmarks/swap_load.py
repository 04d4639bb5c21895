"""A worker that never runs dry, and an account of what it answered."""

import hashlib
import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlmodel import Session, col, func, select

from cli.stack import EmbeddedStack
from schemas.states import JobState
from schemas.tables import AuditJob, AuditResult
from storage import queries
from workers.submission import SourceFile, Submission, submit_files

SUBMISSION: Final = "load"
WAITING: Final = 100
_POLL_S: Final = 0.2

Answer = tuple[str, str, str]
"""(sha256 of the picture, model version, what was said of it)"""


@dataclass(frozen=True)
class Window:
    """A stretch of time, seconds since the epoch, as jobs' rows have it."""

    start_s: float
    end_s: float


@dataclass(frozen=True)
class Tally:
    """What became of all jobs.

    Attributes:
        not_one: jobs that ended without exactly one result.
        mixed: results that say something else of a picture than their version says of it mostly.
        told_apart: pictures that some two versions answered differently, of all `pictures`.
    """

    jobs: int
    failed: int
    not_one: int
    mixed: int
    told_apart: int
    pictures: int


class Busy:
    """Keeps the queue of a stack filled with the same pictures under new names."""

    def __init__(self, stack: EmbeddedStack, paths: Sequence[Path], waiting: int = WAITING) -> None:
        """Nothing is submitted yet.

        Args:
            paths: pictures that come round and round.
            waiting: jobs that wait or are under way at least.
        """
        self.stack, self._waiting, self._submitted = stack, waiting, 0
        self._files = (SourceFile(path, f"{number}/{path.name}") for number in itertools.count() for path in paths)

    def until_warm(self) -> None:
        """Until the first batches are through."""
        while self._fed() < self._waiting / 2:
            time.sleep(_POLL_S)

    def window(self, length_s: float) -> Window:
        """Keep the queue filled for so long."""
        window = Window(time.time(), time.time() + length_s)
        while time.time() < window.end_s:
            self._fed()
            time.sleep(_POLL_S)
        return window

    def drain(self) -> None:
        """Until every job has ended."""
        while self._ended() < self._submitted:
            self.stack.supervise()
            time.sleep(_POLL_S)

    def rate(self, window: Window) -> float:
        """Jobs ended a second."""
        return len(self._ends_s(window)) / (window.end_s - window.start_s)

    def longest_gap_s(self, window: Window) -> float:
        """Between two ends of jobs, or the window's edges."""
        edges = [window.start_s, *self._ends_s(window), window.end_s]
        return max(after - before for before, after in itertools.pairwise(edges))

    def first_of_s(self, version: str) -> float:
        """When the first result of a version was there; infinity where none is."""
        with self.stack.database.read() as session:
            query = select(func.min(col(AuditJob.finished_at))).join(AuditResult).where(AuditResult.model_version == version)
            found = session.exec(query).one()
        return found.timestamp() if isinstance(found, datetime) else float("inf")

    def tally(self) -> Tally:
        """Count what became of the jobs."""
        with self.stack.database.read() as session:
            jobs, failed = self._submitted, queries.job_counts(session)[JobState.FAILED]
            per_job = Counter(session.exec(select(AuditResult.job_id)))
            said = list(_answers(session))
        not_one = jobs - failed - sum(count == 1 for count in per_job.values())
        return Tally(jobs, failed, not_one, mixed(said), told_apart(said), len({sha256 for sha256, _, _ in said}))

    def _fed(self) -> int:
        """Fill up; how many jobs have ended."""
        self.stack.supervise()
        ended = self._ended()
        if self._submitted - ended < self._waiting:
            files = list(itertools.islice(self._files, self._waiting // 2))
            stack = self.stack
            taken = submit_files(files, Submission(SUBMISSION, max_bytes=50_000_000), stack.database, stack.blobs, stack.app)
            self._submitted += sum(taken)
        return ended

    def _ended(self) -> int:
        with self.stack.database.read() as session:
            counts = queries.job_counts(session)
        return counts[JobState.DONE] + counts[JobState.FAILED]

    def _ends_s(self, window: Window) -> list[float]:
        with self.stack.database.read() as session:
            ends = session.exec(select(AuditJob.finished_at).where(col(AuditJob.finished_at).is_not(None))).all()
        return sorted(at for end in ends if end and window.start_s <= (at := end.timestamp()) < window.end_s)


def mixed(said: Iterable[Answer]) -> int:
    """Answers that are not what their version says of the same picture mostly."""
    answers: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for sha256, version, answer in said:
        answers[sha256, version][answer] += 1
    return sum(counts.total() - max(counts.values()) for counts in answers.values())


def told_apart(said: Iterable[Answer]) -> int:
    """Pictures of which two versions say different things: only there could a mixed answer be seen."""
    answers: dict[str, set[str]] = defaultdict(set)
    for sha256, _, answer in said:
        answers[sha256].add(answer)
    return sum(len(each) > 1 for each in answers.values())


def _answers(session: Session) -> Iterable[Answer]:
    query = select(AuditJob.sha256, AuditResult).where(AuditJob.id == AuditResult.job_id)
    for sha256, result in session.exec(query):
        mask = hashlib.sha256(result.mask_png).hexdigest()[:16]
        yield sha256 or "", result.model_version, f"{result.score:.5f} {mask}"
