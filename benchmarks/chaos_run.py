"""One chaos run: pictures flow, faults strike by a schedule drawn from one seed, and in the end everything is counted."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from itertools import count

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import select

from benchmarks.chaos_producer import Producer
from benchmarks.chaos_site import VISIBILITY_TIMEOUT_S, Site, quietly
from benchmarks.chaos_witness import Judgement, judge, read_log
from schemas.errors import ServiceError
from schemas.states import AuditQueue, JobState
from schemas.tables import AuditJob
from storage import queries

WORKER_LIMIT_S = VISIBILITY_TIMEOUT_S + 10.0
REDIS_LIMIT_S = 15.0
_TICK_S = 0.1
_DRAIN_S = 120.0
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Until:
    """Something a fault waits for; it goes on without after `timeout_s`."""

    condition: Callable[[], object]
    timeout_s: float


Steps = Generator[float | Until, None, None]
"""A fault as it happens: seconds or a condition to wait for between one act and the next."""


@dataclass
class Recovery:
    """How long something took to be well again, from the moment of its fault."""

    name: str
    began_at: float
    limit_s: float | None
    well: Callable[[], bool]
    took_s: float | None = None

    @property
    def late(self) -> bool:
        return self.limit_s is not None and (self.took_s is None or self.took_s > self.limit_s)


@dataclass
class Report:
    """What one run showed."""

    case: str
    seed: int
    faults: list[tuple[float, str]] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)
    judgement: Judgement = field(default_factory=Judgement)
    refused: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    own_deaths: list[str] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def sound(self) -> bool:
        return not self.problems and not self.judgement.lost and not self.judgement.doubled


class Run:
    """A site under fire. Faults call it; `chaos_faults` has them all."""

    def __init__(self, site: Site, rng: random.Random, report: Report, limits: bool) -> None:
        """Begin to submit.

        Args:
            site: running.
            rng: draws the schedule; the pictures are drawn from one of their own, so that slowness changes neither.
            report: filled in as things happen.
            limits: whether a recovery that takes too long is a problem; not so where faults overlap.
        """
        self.site = site
        self.rng = rng
        self.report = report
        self.producer = Producer(site, random.Random(rng.getrandbits(64)))
        self._limits = limits
        self._started = time.time()
        self._probes = count(1)
        self._under_way: list[tuple[Steps, float | Until, float]] = []

    def note(self, what: str) -> None:
        self.report.faults.append((time.time() - self._started, what))

    def start(self, fault: Steps) -> None:
        """Let a fault happen beside whatever else does."""
        self._under_way.append((fault, 0.0, time.time()))

    def wait(self, condition: Callable[[], object], timeout_s: float) -> bool:
        """Let everything go on until a condition holds; False if it never did."""
        deadline = time.time() + timeout_s
        while not quietly(condition):
            if time.time() > deadline:
                return False
            self._tick()
            time.sleep(_TICK_S)
        return True

    def wait_for_calm(self) -> None:
        """Until no fault is under way and everything is well again."""
        self.wait(lambda: not self._under_way and all(each.took_s is not None for each in self.report.recoveries), _PATIENCE_S)

    def watch(self, name: str, began_at: float, limit_s: float | None, well: Callable[[], bool]) -> None:
        """Measure how long it takes until something is well again."""
        self.report.recoveries.append(Recovery(name, began_at, limit_s if self._limits else None, well))

    def probe(self, name: str, began_at: float, limit_s: float | None) -> Steps:
        """Put a picture in front of all others, and watch how soon after the fault a worker has it in hand."""
        picture, seed = f"probe-{next(self._probes)}.jpg", self.rng.getrandbits(32)

        def submitted() -> bool:
            self.producer.probe(picture, seed)
            return True

        def taken() -> bool:
            with self.site.read() as session:
                return bool(session.exec(select(AuditJob.id).where(AuditJob.source == picture)).all())

        self.watch(name, began_at, limit_s, taken)
        yield Until(submitted, _PATIENCE_S)

    def pause(self, seconds: float) -> None:
        """Let everything go on for a while."""
        until = time.time() + seconds
        self.wait(lambda: time.time() >= until, seconds + 1)

    def any_done(self) -> bool:
        """Whether there is a first result."""
        return self._counts()[JobState.DONE] > 0

    def all_serving(self) -> bool:
        """Whether every worker has claimed something: one that is still starting takes over from nobody."""
        with self.site.read() as session:
            served = {change.worker for change in read_log(session)}
        return all(slot.running() and slot.signature in served for slot in self.site.slots)

    def finish(self) -> None:
        """End the stream, wait until everything has, and judge."""
        self.wait_for_calm()
        self.site.servers.heal()
        self._wait_for_producer()
        self._drain()
        if self.producer.send_forgotten():
            self._drain()
        self.report.judgement = judge(self.site.database, self.producer.expected)
        self.report.problems += self.report.judgement.problems
        for late in (each for each in self.report.recoveries if each.late or each.took_s is None):
            took = "never" if late.took_s is None else f"only after {late.took_s:.1f} s"
            self.report.problems.append(f"{late.name}: well again {took}; the limit is {late.limit_s}")
        self.report.refused, self.report.own_deaths = self.producer.refused, self.site.own_deaths
        self.report.took_s = time.time() - self._started

    def close(self) -> None:
        """Stop submitting, whatever has happened."""
        for fault, _, _ in self._under_way:
            fault.close()
        self.site.servers.heal()
        self.producer.close()

    def _drain(self) -> None:
        if not self.wait(lambda: self._all_ended() and not self._left_in_redis(), _DRAIN_S):
            self.report.problems.append(
                f"after {_DRAIN_S:g} s there still are {self._counts()}, and in Redis {self._left_in_redis()}"
            )

    def _wait_for_producer(self) -> None:
        ending = threading.Thread(target=self.producer.stop, daemon=True)
        ending.start()
        if not self.wait(lambda: not ending.is_alive(), _DRAIN_S):
            self.report.problems.append("the producer could not bring in its pictures")

    def _tick(self) -> None:
        self.site.supervise()
        for each in self.report.recoveries:
            if each.took_s is None and quietly(each.well):
                each.took_s = time.time() - each.began_at
        for entry in list(self._under_way):
            fault, waits_for, since = entry
            if _over(waits_for, since):
                self._under_way.remove(entry)
                self._go_on(fault)

    def _go_on(self, fault: Steps) -> None:
        try:
            wait = next(fault, None)
        except (ServiceError, RedisError, SQLAlchemyError) as error:
            self.note(f"a fault stopped half-way, for another one was under way: {type(error).__name__}: {error}")
            return
        if wait is not None:
            self._under_way.append((fault, wait, time.time()))

    def _counts(self) -> dict[JobState, int]:
        with self.site.read() as session:
            return queries.job_counts(session)

    def _all_ended(self) -> bool:
        counts = self._counts()
        return counts[JobState.QUEUED] + counts[JobState.RUNNING] == 0

    def _left_in_redis(self) -> dict[str, int]:
        with self.site.redis() as client:
            left = {"unacked": client.hlen("unacked"), "unacked_index": client.zcard("unacked_index")}
            left |= {queue.celery_name: client.llen(queue.celery_name) for queue in AuditQueue}
        return {name: number for name, number in left.items() if number}


def _over(waits_for: float | Until, since: float) -> bool:
    waited_s = time.time() - since
    if isinstance(waits_for, Until):
        return bool(quietly(waits_for.condition)) or waited_s > waits_for.timeout_s
    return waited_s >= waits_for
