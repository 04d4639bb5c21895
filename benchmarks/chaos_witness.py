"""What a chaos run believes: a log that PostgreSQL itself keeps of every claim, end and result, and the judgement over it.

The log is written by triggers, in the transaction that it tells of. No code of ours takes part, so it also sees what
our code did not mean to do. A worker signs by its `application_name`.
"""

import uuid
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from sqlalchemy import create_engine, text
from sqlmodel import Session, select

from schemas.states import JobState
from schemas.tables import OWN_PICTURE, AuditJob, AuditResult
from storage.database import Database

# Whoever holds this advisory lock stops every transaction that passes an armed brake.
_BRAKE_LOCK = 4711
_TRIGGERS = """
CREATE TABLE chaos_log (
    id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), worker text NOT NULL,
    job uuid NOT NULL, was text NOT NULL, became text NOT NULL, fence int NOT NULL);
CREATE INDEX ON chaos_log (job);
CREATE TABLE chaos_results (id bigserial PRIMARY KEY, job uuid NOT NULL, operation text NOT NULL);
CREATE TABLE chaos_brake (stage text PRIMARY KEY, job uuid);
CREATE FUNCTION chaos_job_changed() RETURNS trigger AS $$
BEGIN
    IF (OLD.state, OLD.fence) IS DISTINCT FROM (NEW.state, NEW.fence) THEN
        INSERT INTO chaos_log (worker, job, was, became, fence)
        VALUES (current_setting('application_name'), NEW.id, OLD.state, NEW.state, NEW.fence);
        IF EXISTS (
            SELECT FROM chaos_brake WHERE stage = CASE
                WHEN NEW.state = 'running' THEN 'claiming' WHEN NEW.state IN ('done', 'failed') THEN 'ending' END
            AND (job IS NULL OR job = NEW.id)
        ) THEN
            PERFORM pg_advisory_xact_lock_shared(LOCK);
        END IF;
    END IF;
    RETURN NULL;
END $$ LANGUAGE plpgsql;
CREATE TRIGGER chaos AFTER UPDATE ON audit_job FOR EACH ROW EXECUTE FUNCTION chaos_job_changed();
CREATE FUNCTION chaos_result_changed() RETURNS trigger AS $$
BEGIN
    INSERT INTO chaos_results (job, operation) VALUES (COALESCE(NEW.job_id, OLD.job_id), TG_OP);
    RETURN NULL;
END $$ LANGUAGE plpgsql;
CREATE TRIGGER chaos AFTER INSERT OR UPDATE OR DELETE ON audit_result FOR EACH ROW EXECUTE FUNCTION chaos_result_changed();
""".replace("LOCK", str(_BRAKE_LOCK))
_FULL_TABLES = ("audit_job", "audit_result")
FULL = (
    """CREATE OR REPLACE FUNCTION chaos_full() RETURNS trigger AS $$
BEGIN RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$ LANGUAGE plpgsql""",
    *(f"CREATE TRIGGER chaos_full BEFORE INSERT OR UPDATE ON {table} EXECUTE FUNCTION chaos_full()" for table in _FULL_TABLES),
)
"""What makes PostgreSQL answer as it does where no table can grow…"""
ROOM_AGAIN = tuple(f"DROP TRIGGER IF EXISTS chaos_full ON {table}" for table in _FULL_TABLES)
"""…and what ends that."""
_ENDED = frozenset(state.value for state in JobState if state.ended)


@dataclass(frozen=True)
class Expected:
    """What must become of one accepted picture.

    Attributes:
        profiles: simulated deliveries that must have a result beside the picture's own.
        codes: the errors it may end with; none if it must have its results.
    """

    profiles: tuple[str, ...] = ()
    codes: frozenset[str] = frozenset()


@dataclass
class Judgement:
    """What became of the pictures of one run.

    Attributes:
        accepted: pictures that were taken in.
        done: of these, with all their results.
        failed: those that ended with an error that was theirs, by its code.
        lost: names of those without an end, or with an end that was not theirs.
        doubled: jobs that ended twice, or whose results were written twice or taken from a claim that was void.
        problems: everything that is wrong, in words.
    """

    accepted: int = 0
    done: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Change:
    """One line of the log: a job changed its state or its holder, by this worker, in a transaction that was committed."""

    job: uuid.UUID
    worker: str
    was: str
    became: str
    fence: int


def install(database: Database) -> None:
    """Let a migrated PostgreSQL database keep the log."""
    with database.write() as session:
        session.connection().exec_driver_sql(_TRIGGERS)


class Brake:
    """Stops every transaction that passes a stage, for as long as a `with` block lasts."""

    def __init__(self, database_url: str, stage: str, job_id: uuid.UUID | None = None) -> None:
        """Nothing is stopped yet.

        Args:
            database_url: where the log is kept.
            stage: "claiming" or "ending"; the transaction has changed the job by then, and is not committed.
            job_id: if given, only transactions that change this job are stopped.
        """
        self._stage = stage
        self._job = "NULL" if job_id is None else f"'{job_id}'"
        self._engine = create_engine(database_url, isolation_level="AUTOCOMMIT")

    def __enter__(self) -> Self:
        self._connection = self._engine.connect()
        self._connection.exec_driver_sql(f"SELECT pg_advisory_lock({_BRAKE_LOCK})")
        self._connection.exec_driver_sql(f"INSERT INTO chaos_brake VALUES ('{self._stage}', {self._job})")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._connection:
            self._connection.exec_driver_sql("DELETE FROM chaos_brake")
            self._connection.exec_driver_sql(f"SELECT pg_advisory_unlock({_BRAKE_LOCK})")
        self._engine.dispose()

    def forget(self, worker: str) -> None:
        """End what a dead worker left at the brake. Without one, PostgreSQL would have seen by itself that it is dead."""
        backends = f"FROM pg_stat_activity WHERE application_name = '{worker}'"
        self._connection.exec_driver_sql(f"SELECT pg_terminate_backend(pid) {backends}")

    def stopped(self) -> list[str]:
        """The signatures of the workers that stand at the brake now."""
        waiting = "FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND NOT granted ORDER BY 1"
        names = self._connection.exec_driver_sql(f"SELECT application_name {waiting}").scalars()
        return [name for name in names if name.startswith("worker")]


def read_log(session: Session, worker: str | None = None) -> list[Change]:
    """What was committed so far, in the order in which it was written; of one worker or of all."""
    where = "" if worker is None else "WHERE worker = :worker"
    rows = session.connection().execute(
        text(f"SELECT job, worker, was, became, fence FROM chaos_log {where} ORDER BY id"), {"worker": worker} if worker else {}
    )
    return [Change(*row) for row in rows]


def in_hand(session: Session, worker: str) -> set[uuid.UUID]:
    """The jobs that are running under a claim of this worker's."""
    query = text(
        "SELECT job.id FROM audit_job job JOIN chaos_log claim ON claim.job = job.id AND claim.fence = job.fence "
        "WHERE job.state = 'running' AND claim.became = 'running' AND claim.worker = :worker"
    )
    return set(session.connection().execute(query, {"worker": worker}).scalars())


def judge(database: Database, expected: Mapping[str, Expected]) -> Judgement:
    """Hold what is stored against what was accepted, by the names of the pictures."""
    verdict = Judgement(accepted=len(expected))
    with database.read() as session:
        jobs: dict[str, list[AuditJob]] = defaultdict(list)
        for job in session.exec(select(AuditJob)):
            jobs[job.source].append(job)
        results: dict[uuid.UUID, list[AuditResult]] = defaultdict(list)
        for result in session.exec(select(AuditResult)):
            results[result.job_id].append(result)
        log = read_log(session)
        for name, wanted in sorted(expected.items()):
            _judge_picture(verdict, name, wanted, jobs[name], results)
        for change in (change for name in verdict.lost for job in jobs[name] for change in log if change.job == job.id):
            verdict.problems.append(f"{change.job}: {change.worker}: {change.was} -> {change.became}, claim {change.fence}")
        for name in sorted(jobs.keys() - expected.keys()):
            verdict.problems.append(f"{name}: has a job that nobody asked for")
        _judge_history(verdict, log, _rewritten(session))
    return verdict


def _judge_picture(
    verdict: Judgement, name: str, wanted: Expected, jobs: list[AuditJob], results: Mapping[uuid.UUID, list[AuditResult]]
) -> None:
    if len(jobs) != 1:
        (verdict.lost if not jobs else verdict.doubled).append(name)
        verdict.problems.append(f"{name}: {len(jobs)} jobs")
        return
    (job,) = jobs
    found = Counter((result.profile, result.model_version) for result in results[job.id])
    profiles = {OWN_PICTURE, *wanted.profiles}
    if job.state is JobState.FAILED and job.error_code in wanted.codes and not found:
        verdict.failed[job.error_code or ""] += 1
    elif (
        job.state is JobState.DONE and not wanted.codes and set(found.values()) == {1} and {name for name, _ in found} == profiles
    ):
        verdict.done += 1
        if len(found) != len(profiles):
            verdict.doubled.append(name)
            verdict.problems.append(f"{name}: results of more than one model version: {sorted(found)}")
    else:
        verdict.lost.append(name)
        stands = f"{job.state.value} {job.error_code or ''} after {job.attempts} attempts: {job.error_message or ''}"
        verdict.problems.append(f"{name}: stands at {stands}; results {sorted(found)}, expected {wanted}")


def _judge_history(verdict: Judgement, log: list[Change], rewritten: set[uuid.UUID]) -> None:
    holder: dict[uuid.UUID, Change] = {}
    ends: Counter[uuid.UUID] = Counter()
    for change in log:
        if change.became == JobState.RUNNING:
            holder[change.job] = change
        elif change.became in _ENDED:
            ends[change.job] += 1
            claim = holder.get(change.job)
            if change.was == JobState.RUNNING and (claim is None or (claim.fence, claim.worker) != (change.fence, change.worker)):
                verdict.doubled.append(str(change.job))
                verdict.problems.append(f"job {change.job}: {change.worker} ended it under a void claim; {claim} holds it")
        elif change.was in _ENDED:
            ends[change.job] -= 1
    for job, count in ends.items():
        if count > 1:
            verdict.doubled.append(str(job))
            verdict.problems.append(f"job {job}: ended {count} times")
    for job in rewritten:
        verdict.doubled.append(str(job))
        verdict.problems.append(f"job {job}: a result that was stored has been written again")


def _rewritten(session: Session) -> set[uuid.UUID]:
    changed = text("SELECT DISTINCT job FROM chaos_results WHERE operation <> 'INSERT'")
    return set(session.connection().execute(changed).scalars())
