"""The way of a run from step to step, whatever fails, stops or dies on it. What the steps do is `test_run_steps`'s."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from sqlmodel import col, update

from scheduler import run_steps
from scheduler.bench import After, Bench
from scheduler.retrain import WAITS_S, Stopping, Told, Workplace, carry_on, tidy
from scheduler.run_steps import LiveChanged
from schemas.errors import BlobStoreUnavailable, DiskFull, InvalidInput, StoreUnavailable, TamperwatchError
from schemas.learning_tables import Lease, RetrainRun
from schemas.retrain_settings import RetrainSettings
from schemas.settings import BlobSettings, Settings
from schemas.states import RetrainState, RetrainTrigger
from schemas.tables import now
from storage import leases, runs
from storage.blobs import open_blob_store
from storage.database import Database
from storage.leases import LeaseLost

NEXT = {
    RetrainState.QUEUED: RetrainState.SELECTING,
    RetrainState.SELECTING: RetrainState.TEACHING,
    RetrainState.TEACHING: RetrainState.TRAINING,
    RetrainState.TRAINING: RetrainState.EVALUATING,
    RetrainState.EVALUATING: RetrainState.REJECTED,
}
STEPS = list(NEXT)


class Killed(BaseException):
    """As if the process had died: nothing may catch it."""


@dataclass
class Stage:
    """A run whose steps do what the test says, and leave a mark otherwise."""

    place: Workplace
    took: list[RetrainState] = field(default_factory=list)
    acts: dict[RetrainState, Callable[[Bench], object]] = field(default_factory=dict)
    paused_s: list[float] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    stopping: bool = False

    def take(self, run: RetrainRun, bench: Bench) -> After:
        self.took.append(run.state)
        if run.state in self.acts:
            self.acts[run.state](bench)
        after = NEXT[run.state]
        return After(after, {"reason": "worse"} if after.ended else {"figures": run.figures | {run.state.value: "done"}})

    def begin(self) -> uuid.UUID:
        with self.place.database.write() as session:
            return runs.begin(session, RetrainTrigger.MANUAL)[0].id

    def go(self, holder: str = "one") -> RetrainRun:
        run = carry_on(self.place, holder)
        assert run is not None
        return run


@pytest.fixture
def stage(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    settings = Settings(
        blobs=BlobSettings(directory=tmp_path / "blobs"), retrain=RetrainSettings(folder=str(tmp_path / "runs"), keep_runs=2)
    )

    def no_trainer() -> None:
        raise AssertionError("no step here trains")

    made = Stage(None)  # type: ignore[arg-type]
    made.place = Workplace(
        database,
        open_blob_store(settings.blobs),
        settings,
        no_trainer,  # type: ignore[arg-type]
        stop=lambda: made.stopping,
        watch=made.told.append,
        pause=made.paused_s.append,
    )
    monkeypatch.setattr(run_steps, "take", made.take)
    yield made


def failing(*errors: BaseException) -> Callable[[Bench], object]:
    """Raises one after the other, then nothing."""
    left = list(errors)

    def act(_bench: Bench) -> None:
        if left:
            raise left.pop(0)

    return act


def row(stage: Stage, run_id: uuid.UUID) -> RetrainRun:
    with stage.place.database.read() as session:
        found = runs.get(session, run_id)
        session.expunge(found)
    return found


def expire(stage: Stage) -> None:
    """The lease of a process that is gone runs out."""
    with stage.place.database.write() as session:
        past = now() - timedelta(seconds=1)
        session.exec(update(Lease).where(col(Lease.name) == runs.LEASE).values(expires_at=past))


def holder(stage: Stage) -> str | None:
    with stage.place.database.read() as session:
        return leases.holder(session, runs.LEASE)


def test_a_run_takes_every_step_once_and_gives_the_lease_back(stage: Stage) -> None:
    run_id = stage.begin()
    run = stage.go()
    assert (run.id, run.state, run.reason, stage.took) == (run_id, RetrainState.REJECTED, "worse", STEPS)
    assert holder(stage) is None
    assert carry_on(stage.place, "one") is None
    assert holder(stage) is None


@pytest.mark.parametrize("step", STEPS)
def test_a_run_whose_process_dies_in_a_step_goes_on_with_that_step(
    stage: Stage, step: RetrainState, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = stage.begin()
    stage.acts[step] = failing(Killed())
    with monkeypatch.context() as dead:
        dead.setattr(leases, "release", lambda *_: None)  # the dead give nothing back
        with pytest.raises(Killed):
            stage.go()
    assert (row(stage, run_id).state, holder(stage)) == (step, "one")
    assert carry_on(stage.place, "two") is None
    expire(stage)
    run = stage.go("two")
    at = STEPS.index(step)
    assert stage.took == [*STEPS[: at + 1], *STEPS[at:]]
    assert (run.id, run.state, run.figures["tries"]) == (run_id, RetrainState.REJECTED, 2)


def test_a_process_that_is_told_to_stop_leaves_the_run_to_the_next_one(stage: Stage) -> None:
    def stop(bench: Bench) -> None:
        stage.stopping = True
        bench.tell("training: step 7 of 40", step=7)

    run_id = stage.begin()
    stage.acts[RetrainState.TRAINING] = stop
    with pytest.raises(Stopping):
        stage.go()
    assert (row(stage, run_id).state, holder(stage)) == (RetrainState.TRAINING, None)
    stage.stopping, stage.acts = False, {}
    assert stage.go("two").figures["tries"] == 1


def test_a_cancelled_run_ends_at_the_next_word(stage: Stage) -> None:
    def cancel(bench: Bench) -> None:
        with bench.database.write() as session:
            runs.cancel(session, run_id)
        bench.tell("training: step 1 of 40", at_once=True, step=1)
        raise AssertionError("went on")

    run_id = stage.begin()
    stage.acts[RetrainState.TRAINING] = cancel
    run = stage.go()
    assert (run.state, run.reason) == (RetrainState.CANCELLED, "cancelled while it was training")
    assert stage.told[-1] == Told(RetrainState.TRAINING, "training: step 1 of 40", 1, 0)


@pytest.mark.parametrize("error", [InvalidInput("no base set"), OSError("a defect"), ValueError("another")])
@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_cannot_be_taken_ends_the_run_and_says_why(stage: Stage, step: RetrainState, error: Exception) -> None:
    stage.begin()
    stage.acts[step] = failing(error)
    run = stage.go()
    code = error.code if isinstance(error, TamperwatchError) else "internal_error"
    assert (run.state, run.error_code) == (RetrainState.FAILED, code)
    assert f"failed while it was {step.value}" in run.reason and str(error) in run.reason
    assert stage.paused_s == []
    stage.acts = {}
    stage.begin()
    assert stage.go().state is RetrainState.REJECTED  # the next night works


@pytest.mark.parametrize("error", [BlobStoreUnavailable("away"), DiskFull("no space left")])
def test_a_service_that_comes_back_is_waited_for(stage: Stage, error: TamperwatchError) -> None:
    stage.begin()
    stage.acts[RetrainState.TEACHING] = failing(error, error)
    assert stage.go().state is RetrainState.REJECTED
    assert stage.paused_s == list(WAITS_S[:2])


def test_a_service_that_stays_away_ends_the_run(stage: Stage) -> None:
    stage.begin()
    stage.acts[RetrainState.TRAINING] = failing(*[DiskFull("no space left")] * 9)
    run = stage.go()
    assert (run.state, run.error_code, stage.paused_s) == (RetrainState.FAILED, "disk_full", list(WAITS_S))


def test_without_sql_the_run_stays_as_it_is(stage: Stage) -> None:
    run_id = stage.begin()
    stage.acts[RetrainState.TRAINING] = failing(*[StoreUnavailable("away")] * 9)
    with pytest.raises(StoreUnavailable):
        stage.go()
    assert row(stage, run_id).state is RetrainState.TRAINING
    stage.acts = {}
    assert stage.go("two").state is RetrainState.REJECTED


def test_progress_that_cannot_be_written_down_is_no_end(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def tell(bench: Bench) -> None:
        with monkeypatch.context() as away:
            away.setattr(runs.Progress, "tell", failing_tell)
            bench.tell("training: step 1 of 40", step=1)

    def failing_tell(*_: object, **__: object) -> bool:
        raise StoreUnavailable("away")

    stage.begin()
    stage.acts[RetrainState.TRAINING] = tell
    assert stage.go().state is RetrainState.REJECTED


def test_a_process_that_stood_still_writes_nothing_over_its_heir(stage: Stage) -> None:
    def stand_still(bench: Bench) -> None:
        expire(stage)
        with bench.database.write() as session:
            heir = leases.acquire(session, runs.LEASE, "heir", 60.0)
            assert heir is not None
            runs.move(session, heir, run_id, RetrainState.TRAINING, message="the heir's")

    run_id = stage.begin()
    stage.acts[RetrainState.TRAINING] = stand_still
    with pytest.raises(LeaseLost):
        stage.go()
    found = row(stage, run_id)
    assert (found.state, found.message, holder(stage)) == (RetrainState.TRAINING, "the heir's", "heir")


def test_a_run_that_kills_whoever_takes_it_is_given_up(stage: Stage) -> None:
    run_id = stage.begin()
    most = stage.place.settings.retrain.tries
    stage.acts[RetrainState.TRAINING] = failing(*[Killed()] * 99)
    for number in range(most):
        with pytest.raises(Killed):
            stage.go(f"process {number}")
    run = stage.go("the last")
    assert (run.id, run.state, run.error_code) == (run_id, RetrainState.FAILED, "worker_lost")


def test_a_candidate_is_measured_again_where_another_model_went_live(stage: Stage) -> None:
    stage.begin()
    stage.acts[RetrainState.EVALUATING] = failing(LiveChanged("v2 is live"))
    assert stage.go().state is RetrainState.REJECTED
    assert stage.took == [*STEPS, RetrainState.EVALUATING]


def test_pictures_go_when_a_run_has_ended_and_old_folders_go_as_well(stage: Stage, tmp_path: Path) -> None:
    kept = {}
    for number in range(3):
        run_id = stage.begin()
        stage.acts[RetrainState.TRAINING] = lambda bench: [_filled(bench.folder / name) for name in ("working-set", "training")]
        assert stage.go(f"process {number}").state is RetrainState.REJECTED
        kept[run_id] = tmp_path / "runs" / str(run_id)
    assert [folder.exists() for folder in kept.values()] == [False, True, True]
    assert not any((folder / "working-set").exists() for folder in kept.values())
    assert (folder := list(kept.values())[-1] / "training").exists() and (folder / "file").exists()
    tidy(tmp_path / "nowhere", uuid.uuid4(), 1)


def _filled(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(b"x")


def test_the_step_of_every_state_is_known() -> None:
    assert set(run_steps._STEPS) == {state for state in RetrainState if not state.ended}
