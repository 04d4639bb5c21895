"""A whole night between real servers: boxes in, a trainer that is killed and replaced, a better student live, no job lost."""

import functools
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlmodel import select

from cli.children import Child
from model.run_folder import RunFolder
from scheduler.app import make_trainer_app
from scheduler.beat import Timetable
from schemas.learning_tables import RetrainRun
from schemas.settings import BlobSettings, Settings
from schemas.states import JobState, ModelAction, RetrainState, RetrainTrigger
from schemas.tables import AuditResult, now
from storage import leases, queries, registry, runs
from storage.blobs import open_blob_store
from storage.database import Database
from tests.integration.conftest import store_variables
from tests.nights import ENOUGH, annotate, drawn, make_live
from tests.waiting import wait_for
from workers.app import make_app
from workers.submission import SourceFile, Submission, submit_files

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
_SOON_S = 600
POISONED = {
    "SELECTION__CAP_FLOOR": "10",
    "PROMOTION__GROUP_MARGIN": "0.03",
    "PROMOTION__GROUP_LEAST": "3",
    "RETRAIN__STEPS": "60",
}


class Night:
    """The servers as one test sees them, and the processes it starts."""

    def __init__(self, settings: Settings, env: dict[str, str], folder: Path) -> None:
        self.settings, self.env, self.folder = settings, env, folder
        self.database, self.blobs = Database(settings.database_url), open_blob_store(settings.blobs)
        self.audits, self.bell = make_app(settings), make_trainer_app(settings)
        self.timetable = Timetable(self.database, self.bell, settings.schedule)
        self.children: list[Child] = []

    def start(self, role: str) -> Child:
        name = f"{role}-{len(self.children) + 1}"
        argv = [sys.executable, "-m", "cli.main", role]
        self.children.append(Child(name, argv, self.folder / f"{name}.log", self.env))
        return self.children[-1]

    def run(self) -> RetrainRun:
        with self.database.read() as session:
            (found,) = runs.listed(session)
            session.expunge(found)
        return found

    def until(self, *states: RetrainState, step: int = 0) -> RetrainRun:
        def there() -> RetrainRun | None:
            found = self.run()
            assert not found.state.ended or found.state in states, (found.state, found.reason, self.logs())
            return found if found.state in states and found.step >= step else None

        try:
            return wait_for(there, f"run that is {' or '.join(states)}", _SOON_S)  # type: ignore[return-value]
        except TimeoutError as error:
            raise AssertionError(f"{error}; it is {self.run().state} ({self.run().message}); {self.logs()}") from error

    def submit(self, first: int, count: int) -> None:
        folder = self.folder / f"pictures-{first}"
        folder.mkdir()
        for number in range(first, first + count):
            (folder / f"{number}.png").write_bytes(drawn(number, None))
        files = [SourceFile(path, path.name) for path in sorted(folder.iterdir())]
        assert sum(submit_files(files, Submission("night", max_bytes=10**6), self.database, self.blobs, self.audits)) == count

    def submit_until_answered_by(self, version: str, first: int, before: int) -> int:
        """Submit pictures one by one until one is answered by this version; how many it took."""
        for count in range(1, 500):
            self.submit(first + count, 1)
            wait_for(functools.partial(self.ended, before + count), "end of a job", _SOON_S)
            if self.versions()[version]:
                return count
        raise AssertionError(f"{version} answers nothing; {self.logs()}")

    def ended(self, jobs: int) -> bool:
        with self.database.read() as session:
            counts = queries.job_counts(session)
        assert not counts[JobState.FAILED]
        return counts[JobState.DONE] == jobs

    def versions(self) -> Counter[str]:
        with self.database.read() as session:
            return Counter(session.exec(select(AuditResult.model_version)).all())

    def logs(self) -> str:
        return "\n".join(f"{child.name}:\n{child.log_tail()}" for child in self.children)

    def close(self) -> None:
        for child in self.children:
            if child.running:
                os.kill(child.pid, signal.SIGKILL)
            child.stop(grace_s=5)
        self.audits.close()
        self.bell.close()
        self.database.close()


@pytest.fixture
def night(
    tmp_path: Path,
    broker_url: str,
    migrated_postgres_url: str,
    s3_settings: BlobSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Night]:
    monkeypatch.setattr(runs, "SEEDS", 1)  # runs are begun in this process: one seed for all, and the same student every time
    variables = {f"TAMPERWATCH_{name}": value for name, value in ENOUGH.items()} | {
        **store_variables(migrated_postgres_url, broker_url, s3_settings),
        "TAMPERWATCH_ENGINE__MODEL_CACHE": str(tmp_path / "cache"),
        "TAMPERWATCH_WORKER__MAX_BATCH": "2",
        "TAMPERWATCH_WORKER__MODEL_POLL_S": "0.2",
        "TAMPERWATCH_SCHEDULE__TIME": f"{now():%H:%M}",
        "TAMPERWATCH_SCHEDULE__LEASE_S": "2",
        "TAMPERWATCH_RETRAIN__FOLDER": str(tmp_path / "runs"),
    }
    for name in [name for name in os.environ if name.startswith("TAMPERWATCH_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    made = Night(Settings(), os.environ | {"PYTHONPATH": str(ROOT)}, tmp_path)
    yield made
    made.close()


def test_boxes_become_a_live_model_though_the_trainer_is_killed(night: Night, untaught: Path) -> None:
    before = make_live(night.database, night.blobs, untaught)
    annotate(night.database, night.blobs, range(44))
    worker = night.start("worker")
    night.submit(200, 10)
    looked = night.timetable.look()
    assert looked.begun is not None and looked.rung
    trainer = night.start("trainer")
    killed = night.until(RetrainState.TRAINING, step=6)
    carrying = psutil.Process(trainer.pid).children()
    assert len(carrying) == 1
    os.kill(trainer.pid, signal.SIGKILL)
    wait_for(lambda: not carrying[0].is_running() or carrying[0].status() == psutil.STATUS_ZOMBIE, "end of its process", 20)
    trainer.stop(grace_s=5)
    assert not night.run().state.ended
    night.start("trainer")
    wait_for(lambda: night.timetable.look().rung, "call for another trainer once the lease has expired", 20)
    run = night.until(RetrainState.PROMOTED)
    assert (run.trigger, run.parent_version) == (RetrainTrigger.SCHEDULE, before)
    assert (run.manifest_sha256, run.seed, run.steps_total) == (killed.manifest_sha256, killed.seed, 30)
    assert run.figures["tries"] == 2
    _check_record(night, run)
    wait_for(lambda: night.ended(10), "end of the jobs", _SOON_S)
    submitted = night.submit_until_answered_by(run.candidate_version or "", first=300, before=10)
    wait_for(lambda: night.ended(10 + submitted), "end of the jobs", _SOON_S)
    assert sum(night.versions().values()) == 10 + submitted
    assert set(night.versions()) == {before, run.candidate_version}
    assert worker.running
    assert night.timetable.look().begun is None  # this night had its run


def test_a_candidate_of_poisoned_boxes_is_refused_by_name_and_the_live_model_answers_on(night: Night, taught: Path) -> None:
    """One account draws all its boxes beside the discs: its share is capped, and what it costs the others is measured."""
    before = make_live(night.database, night.blobs, taught)
    annotate(night.database, night.blobs, range(60))
    annotate(night.database, night.blobs, range(60, 120), annotator="mallory", misplaced=True)
    night.env = night.env | {f"TAMPERWATCH_{name}": value for name, value in POISONED.items()}
    night.start("worker")
    assert night.timetable.look().rung
    night.start("trainer")
    run = night.until(RetrainState.REJECTED)
    assert run.reason.startswith("Rejected: on ") and "pixel F1 went from" in run.reason
    assert "f1" in {check["name"] for check in run.decision["checks"] if not check["passed"]}
    assert run.figures["selection"]["left_out"]["over the limit of one annotator"] > 0
    with night.database.read() as session:
        live = registry.live(session)
        assert live is not None and live.version == before
        refused = registry.rejection(session, run.candidate_version or "")
        assert refused is not None and refused.reason == run.reason
    night.submit(300, 5)
    wait_for(lambda: night.ended(5), "end of the jobs", _SOON_S)
    assert night.versions() == Counter({before: 5})


def test_a_trainer_that_is_told_to_stop_saves_the_run_for_the_next_one(night: Night, untaught: Path) -> None:
    make_live(night.database, night.blobs, untaught)
    annotate(night.database, night.blobs, range(44))
    night.env = night.env | {"TAMPERWATCH_RETRAIN__STEPS": "100000"}
    assert night.timetable.look().rung
    trainer = night.start("trainer")
    run = night.until(RetrainState.TRAINING, step=3)
    os.kill(trainer.pid, signal.SIGTERM)
    wait_for(lambda: not trainer.running, "end of the trainer", _SOON_S)
    state = RunFolder(night.folder / "runs" / str(run.id) / "training").load_state()
    assert state is not None and state["step"] >= 3
    with night.database.write() as session:
        left = runs.get(session, run.id)
        assert (left.state, left.figures["tries"]) == (RetrainState.TRAINING, 0)
        assert leases.holder(session, runs.LEASE) is None
        assert runs.cancel(session, run.id).state is RetrainState.CANCELLED


def _check_record(night: Night, run: RetrainRun) -> None:
    """What the loop says of the version it made live."""
    assert run.candidate_version and run.teacher_id and run.code_version
    assert all(check["passed"] for check in run.decision["checks"])
    with night.database.read() as session:
        live = registry.live(session)
        assert live is not None and live.version == run.candidate_version
        made = [(each.action, each.run_id) for each in registry.decisions(session, live.version)]
    assert made == [(ModelAction.REGISTER, run.id), (ModelAction.PROMOTE, run.id)]
    assert all(night.blobs.exists(key) for key in (run.manifest_key or "", *run.figures["files"].values()))
