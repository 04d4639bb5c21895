"""The life of one job under every order of claims, deaths, late answers, duplicates and retries that hypothesis finds."""

import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import event
from sqlmodel import select

from schemas.messages import AuditMessage
from schemas.records import ErrorRecord
from schemas.states import AuditQueue, JobState
from schemas.tables import AuditJob, AuditResult, now
from storage import jobs, recovery
from storage.database import Database
from storage.jobs import Claim, Held, NewJob
from storage.recovery import FailedJobs
from tests.storage.test_orphans import result_of

LEASE_S = 60.0
ERRORS = [ErrorRecord(code=code, message="oops") for code in ("model_timeout", "decode_failed")]


@dataclass(frozen=True)
class Hand:
    """A worker that got a claim, and may be alive, late or dead: nobody can tell."""

    claim: Claim


class OneJob(RuleBasedStateMachine):
    """Hands take, end, let go and forget one job, while the clock jumps and people send it round again."""

    hands = Bundle("hands")

    def __init__(self, template: Path) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="tamperwatch-test-"))
        shutil.copyfile(template, self.folder / "x.db")
        self.database = Database(f"sqlite:///{self.folder / 'x.db'}")
        event.listen(self.database.engine, "connect", _never_flush)
        self.time = now()
        self.clocks = [mock.patch(f"storage.{room}.now", lambda: self.time) for room in ("jobs", "recovery")]
        for clock in self.clocks:
            clock.start()
        # What we know ourselves: the claim that counts, when it was made, and whose outcome was taken.
        self.current: Claim | None = None
        self.claimed_at: datetime | None = None
        self.ended_as: JobState | None = None
        self.seen_fences: set[int] = set()

    @initialize()
    def submitted(self) -> None:
        new = NewJob(source="a", sha256="ab" * 32, bytes=1, client_ref="a", submission="s")
        with self.database.write() as session:
            (job,) = jobs.add_jobs(session, [new])
        self.job_id: uuid.UUID = job.id

    @rule(target=hands)
    def message_arrives(self) -> object:
        """A first delivery, a redelivery or a duplicate; all look alike."""
        message = AuditMessage(job_id=self.job_id, sha256="ab" * 32, source="a")
        with self.database.write() as session:
            answer = jobs.claim_job(session, message, LEASE_S)
        fresh = self.claimed_at is not None and abs(self.time - self.claimed_at) < timedelta(seconds=LEASE_S)
        if self.ended_as is not None:
            assert answer is None
        elif fresh:
            assert isinstance(answer, Held) and 0 <= answer.free_in_s <= 2 * LEASE_S
        else:
            assert isinstance(answer, Claim) and answer.fence not in self.seen_fences
            self.current, self.claimed_at = answer, self.time
            self.seen_fences.add(answer.fence)
        return Hand(answer) if isinstance(answer, Claim) else multiple()

    @rule(hand=consumes(hands))
    def finishes(self, hand: Hand) -> None:
        result = result_of(self.job_id)
        result.latency_ms = float(hand.claim.fence)
        with self.database.write() as session:
            taken = jobs.finish_job(session, self.job_id, [result], hand.claim.fence)
        self._settled(hand, taken, JobState.DONE)

    @rule(hand=consumes(hands), error=st.sampled_from(ERRORS))
    def fails(self, hand: Hand, error: ErrorRecord) -> None:
        with self.database.write() as session:
            taken = jobs.fail_job(session, self.job_id, error, hand.claim.fence)
        self._settled(hand, taken, JobState.FAILED)

    @rule(hand=consumes(hands))
    def lets_go(self, hand: Hand) -> None:
        with self.database.write() as session:
            taken = jobs.release_job(session, self.job_id, ERRORS[0], hand.claim.fence)
        self._settled(hand, taken, None)

    @rule(hand=consumes(hands))
    def stops_gracefully(self, hand: Hand) -> None:
        with self.database.write() as session:
            jobs.give_back_job(session, self.job_id, hand.claim.fence)
        if hand.claim == self.current:
            self.current = self.claimed_at = None

    @rule(hand=consumes(hands))
    def dies(self, hand: Hand) -> None:
        """Nothing happens, and that is the point."""

    @rule(seconds=st.sampled_from([1, 30, 61, 3600, -1, -3600]))
    def clock_moves(self, seconds: int) -> None:
        self.time += timedelta(seconds=seconds)

    @rule(permanent=st.booleans())
    def somebody_retries(self, permanent: bool) -> None:
        before = self._job()
        batches = list(recovery.requeue_failed(self.database, FailedJobs(permanent=permanent)))
        mended = permanent or before.error_code == "model_timeout"
        # A job that failed at a time which is yet to come, for the clock was set back, is left for later.
        if before.state is JobState.FAILED and mended and before.updated_at <= self.time:
            assert [job.id for batch in batches for job in batch] == [self.job_id]
            self.ended_as = None
        else:
            assert not any(batches)

    @rule()
    def somebody_submits_again(self) -> None:
        new = NewJob(source="a", sha256="ab" * 32, bytes=1, client_ref="a", submission="later")
        with self.database.write() as session:
            sent = jobs.add_jobs(session, [new])
        assert len(sent) == (self.ended_as is not JobState.DONE)
        self.ended_as = self.ended_as if self.ended_as is JobState.DONE else None

    @rule()
    def sweeper_comes(self) -> None:
        still = abs(self.time - self._job().updated_at) > timedelta(seconds=1.5 * LEASE_S)
        with self.database.write() as session:
            lost = recovery.take_lost(session, AuditQueue, 1.5 * LEASE_S)
        # Also what moved at a time that is yet to come, for the clock was set back.
        assert [job.id for job in lost] == ([self.job_id] if still and self.ended_as is None else [])

    @invariant()
    def one_result_or_one_named_failure_or_neither_yet(self) -> None:
        job, results = self._job(), self._results()
        assert job.state.ended == (self.ended_as is not None)
        assert len(results) == (job.state is JobState.DONE)
        assert (job.finished_at is not None) == job.state.ended
        assert job.error_code is not None or job.state is not JobState.FAILED
        assert (job.claimed_at is not None) == (job.state is JobState.RUNNING)
        if results:
            assert self.current is not None and results[0].latency_ms == self.current.fence

    def teardown(self) -> None:
        try:
            # Whatever has happened: when the dust settles, one more delivery ends the job.
            self.time += timedelta(days=1)
            if self.ended_as is None:
                hand = self.message_arrives()
                assert isinstance(hand, Hand)
                self.finishes(hand)
            self.one_result_or_one_named_failure_or_neither_yet()
            assert self._job().state.ended
        finally:
            for clock in self.clocks:
                clock.stop()
            self.database.close()
            shutil.rmtree(self.folder)

    def _settled(self, hand: Hand, taken: bool, end: JobState | None) -> None:
        """Exactly the outcome of the last claim is taken, and only once."""
        ours = hand.claim == self.current and self.claimed_at is not None
        assert taken is ours
        if taken:
            self.claimed_at, self.ended_as = None, end

    def _job(self) -> AuditJob:
        with self.database.read() as session:
            job = session.get_one(AuditJob, self.job_id)
            session.expunge(job)
            return job

    def _results(self) -> list[AuditResult]:
        with self.database.read() as session:
            found = list(session.exec(select(AuditResult)))
            session.expunge_all()
            return found


def _never_flush(connection: sqlite3.Connection, _record: object) -> None:
    """Leave it to the kernel when bytes reach the disk.

    Forty databases are flushed about two hundred times otherwise, each time behind all that others are writing: beside
    an installation of packages that takes seconds, and the test minutes.
    """
    connection.execute("PRAGMA synchronous=OFF")


@pytest.mark.slow
def test_whatever_happens_a_job_ends_once(migrated_sqlite: Path) -> None:
    machine: Callable[[], OneJob] = lambda: OneJob(migrated_sqlite)  # noqa: E731
    run_state_machine_as_test(machine, settings=settings(max_examples=40, stateful_step_count=20, deadline=None))
