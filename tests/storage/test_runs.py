"""Retraining runs in SQL: one at a time, moved on only under the lease, cancelled by anybody."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlmodel import col, select, update

from schemas.errors import InvalidInput
from schemas.learning_tables import Lease, RetrainRun
from schemas.states import RetrainState, RetrainTrigger
from schemas.tables import now
from storage import leases, runs
from storage.database import Database
from storage.leases import Held, LeaseLost
from storage.runs import Progress, RunEnded


def begin(database: Database, trigger: RetrainTrigger = RetrainTrigger.MANUAL) -> tuple[RetrainRun, bool]:
    with database.write() as session:
        run, is_new = runs.begin(session, trigger, "1.2.3")
        session.expunge(run)
    return run, is_new


def hold(database: Database, holder: str = "trainer") -> Held:
    with database.write() as session:
        held = leases.acquire(session, runs.LEASE, holder, 60.0)
    assert held is not None
    return held


def steal(database: Database) -> Held:
    """The lease as another trainer has it after the first one stood still for too long."""
    with database.write() as session:
        session.exec(update(Lease).where(col(Lease.name) == runs.LEASE).values(expires_at=now() - timedelta(seconds=1)))
    return hold(database, "another")


def move(database: Database, held: Held, run: RetrainRun, *states: RetrainState, **changes: object) -> RetrainRun:
    for state in states:
        with database.write() as session:
            moved = runs.move(session, held, run.id, state, **changes)
            session.expunge(moved)
    return moved


def ended(database: Database, end: RetrainState, read_up_to: int, **changes: object) -> RetrainRun:
    """A run that went through all steps."""
    run, held = begin(database, RetrainTrigger.SCHEDULE)[0], hold(database)
    way = [RetrainState.SELECTING]
    if end is not RetrainState.SKIPPED:
        way += [RetrainState.TEACHING, RetrainState.TRAINING, RetrainState.EVALUATING]
    moved = move(database, held, run, *way, end, last_annotation_id=read_up_to, **changes)
    with database.write() as session:
        leases.release(session, held)
    return moved


def cancel(database: Database, run: RetrainRun) -> RetrainState:
    with database.write() as session:
        return runs.cancel(session, run.id).state


def test_one_run_at_a_time(database: Database) -> None:
    first, is_new = begin(database)
    assert (is_new, first.state, first.code_version) == (True, RetrainState.QUEUED, "1.2.3")
    assert 0 <= first.seed < runs.SEEDS
    second, is_new = begin(database)
    assert (second.id, is_new) == (first.id, False)
    assert cancel(database, first) is RetrainState.CANCELLED
    assert begin(database)[1]


def test_of_many_schedulers_at_once_one_begins_a_run(database: Database) -> None:
    with ThreadPoolExecutor(4) as pool:
        begun = list(pool.map(lambda _: begin(database, RetrainTrigger.SCHEDULE), range(4)))
    assert sum(is_new for _, is_new in begun) == 1
    assert len({run.id for run, _ in begun}) == 1
    with database.read() as session:
        assert len(session.exec(select(RetrainRun)).all()) == 1


def test_a_run_goes_from_step_to_step_and_its_times_are_kept(database: Database) -> None:
    run, held = begin(database)[0], hold(database)
    assert run.started_at is None
    moved = move(database, held, run, RetrainState.SELECTING)
    assert moved.started_at is not None and moved.finished_at is None
    again = move(database, held, run, RetrainState.SELECTING)
    assert again.started_at == moved.started_at
    done = move(database, held, run, RetrainState.SKIPPED, reason="nothing new")
    assert (done.reason, done.finished_at) == ("nothing new", done.updated_at)
    with pytest.raises(RunEnded):
        move(database, held, run, RetrainState.TEACHING)


def test_a_step_that_is_not_next_is_a_defect(database: Database) -> None:
    run, held = begin(database)[0], hold(database)
    with pytest.raises(ValueError, match="queued cannot become promoted"):
        move(database, held, run, RetrainState.PROMOTED)


def test_a_trainer_that_lost_the_lease_changes_nothing_any_more(database: Database) -> None:
    run, zombie = begin(database)[0], hold(database)
    move(database, zombie, run, RetrainState.SELECTING)
    heir = steal(database)
    with pytest.raises(LeaseLost):
        move(database, zombie, run, RetrainState.TEACHING, manifest_sha256="0" * 64)
    with pytest.raises(LeaseLost):
        Progress(database, zombie, run.id).tell("still here", step=7)
    found = move(database, heir, run, RetrainState.SELECTING)
    assert (found.state, found.manifest_sha256, found.step) == (RetrainState.SELECTING, None, 0)


def test_progress_is_written_now_and_then_and_tells_of_a_cancellation(database: Database) -> None:
    run, held = begin(database)[0], hold(database)
    move(database, held, run, RetrainState.SELECTING)
    progress = Progress(database, held, run.id, every_s=3600)
    assert progress.tell("one", step=1) is False
    assert progress.tell("two", step=2) is False
    assert (shown(database, run).message, shown(database, run).step) == ("one", 1)
    assert cancel(database, run) is RetrainState.SELECTING
    assert progress.tell("three", at_once=True, step=3) is True
    assert progress.tell("four") is True
    assert (shown(database, run).message, shown(database, run).step) == ("three", 3)


def shown(database: Database, run: RetrainRun) -> RetrainRun:
    with database.read() as session:
        found = runs.get(session, run.id)
        session.expunge(found)
    return found


def test_a_run_whose_trainer_died_is_cancelled_at_once_and_one_that_ended_is_not(database: Database) -> None:
    run, held = begin(database)[0], hold(database)
    move(database, held, run, RetrainState.SELECTING)
    with database.write() as session:
        session.exec(update(Lease).values(expires_at=now() - timedelta(seconds=1)))
    assert cancel(database, run) is RetrainState.CANCELLED
    with pytest.raises(RunEnded):
        move(database, held, run, RetrainState.TEACHING)
    with pytest.raises(InvalidInput, match="ended already: cancelled"):
        cancel(database, run)


def test_a_run_is_found_by_the_beginning_of_its_id(database: Database) -> None:
    older, newer = ended(database, RetrainState.SKIPPED, 1), begin(database)[0]
    with database.read() as session:
        assert runs.named(session, runs.short(older.id)).id == older.id
        assert runs.named(session, "last").id == newer.id
        assert [each.id for each in runs.listed(session)] == [newer.id, older.id]
        for text in ("", "zz", "%", "0" * 36):
            with pytest.raises(InvalidInput):
                runs.named(session, text)


def test_how_far_runs_have_read(database: Database) -> None:
    with database.read() as session:
        assert runs.past(session, now()) == runs.Past(None, None, 0)
        assert runs.read_so_far(session, "v1") == runs.Read(0, 0)
    ended(database, RetrainState.PROMOTED, 10, candidate_version="v1", manifest_key="m/1")
    ended(database, RetrainState.REJECTED, 20, candidate_version="v2", manifest_key="m/2")
    last = ended(database, RetrainState.FAILED, 30)
    with database.read() as session:
        past = runs.past(session, now())
        assert (past.read_up_to, past.ended_at, past.scheduled_at) == (30, last.finished_at, last.created_at)
        # What failed has taught nobody; what was refused is known, but not learned.
        assert runs.read_so_far(session, "v1") == runs.Read(finished=20, learned=10)
        manifest = runs.last_manifest(session)
        assert manifest is not None and manifest.manifest_key == "m/2"


def test_a_clock_that_ran_ahead_puts_nothing_off(database: Database) -> None:
    """What was written under it bears times that are still to come."""
    ended(database, RetrainState.REJECTED, 10, manifest_key="m/1")
    ahead = ended(database, RetrainState.REJECTED, 20, manifest_key="m/2")
    again = ended(database, RetrainState.REJECTED, 30, manifest_key="m/3")
    with database.write() as session:
        wrong, then = runs.get(session, ahead.id), now() + timedelta(days=400)
        wrong.created_at = wrong.finished_at = then
        session.add(wrong)
    with database.read() as session:
        past, last = runs.past(session, now()), runs.last_manifest(session)
        assert (past.scheduled_at, past.ended_at, past.read_up_to) == (again.created_at, again.finished_at, 30)
        assert last is not None and last.manifest_key == "m/3"
        later = runs.past(session, now() + timedelta(days=401))
        assert later.scheduled_at == later.ended_at == then
