"""A run whose process is killed in every step, in the middle and at the end of it, ends as one that nobody disturbed."""

import os
import signal
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scheduler.trainer_role import NightProcess
from schemas.learning_tables import RetrainRun
from schemas.settings import BlobSettings, Settings
from schemas.states import RetrainState, RetrainTrigger
from storage import leases, registry, runs
from storage.blobs import open_blob_store
from storage.database import Database
from tests.integration.conftest import store_variables
from tests.nights import ENOUGH, annotate, make_live
from tests.waiting import wait_for

pytestmark = pytest.mark.slow
RUN = uuid.UUID(int=20261129)  # the same in both stores: a run's seed is its number
DEATHS = (
    (RetrainState.QUEUED, ""),
    (RetrainState.SELECTING, "looking at pictures: 9 of"),
    (RetrainState.SELECTING, ""),
    (RetrainState.TEACHING, "teacher: boxes to masks: 5 of"),
    (RetrainState.TEACHING, ""),
    (RetrainState.TRAINING, "laying out pictures: 6 of"),
    (RetrainState.TRAINING, "training: step 12 of"),
    (RetrainState.TRAINING, "publishing: evaluate"),
    (RetrainState.TRAINING, ""),
    (RetrainState.EVALUATING, "measuring on held-out pictures: 3 of"),
    (RetrainState.EVALUATING, ""),
)


class Place:
    """A store with a live student and people's boxes, and its one run."""

    def __init__(self, settings: Settings, student: Path) -> None:
        self.settings, self.database = settings, Database(settings.database_url)
        blobs = open_blob_store(settings.blobs)
        self.before = make_live(self.database, blobs, student)
        annotate(self.database, blobs, range(44))
        with self.database.write() as session:
            session.add(RetrainRun(id=RUN, trigger=RetrainTrigger.MANUAL, seed=RUN.int % runs.SEEDS))

    def run(self) -> RetrainRun:
        with self.database.read() as session:
            found = runs.get(session, RUN)
            session.expunge(found)
        return found

    def live(self) -> str:
        with self.database.read() as session:
            found = registry.live(session)
            assert found is not None
            return found.version

    def carry_on(self, *program: str) -> int:
        """A process at the run, once the lease of the one before has expired; its exit status."""
        wait_for(self._free, "end of the dead one's lease", 30)
        return NightProcess(self.settings, [sys.executable, "-m", *(program or ("scheduler.night_process",))]).run()

    def _free(self) -> bool:
        with self.database.read() as session:
            return leases.holder(session, runs.LEASE) is None


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in [name for name in os.environ if name.startswith("TAMPERWATCH_")]:
        monkeypatch.delenv(name)
    common = ENOUGH | {"SCHEDULE__LEASE_S": "1", "RETRAIN__TRIES": "50", "ENGINE__MODEL_CACHE": str(tmp_path / "cache")}
    for name, value in common.items():
        monkeypatch.setenv(f"TAMPERWATCH_{name}", value)
    return monkeypatch


@contextmanager
def place(told: pytest.MonkeyPatch, variables: dict[str, str], student: Path) -> Iterator[Place]:
    for name, value in variables.items():
        told.setenv(name, value)
    made = Place(Settings(), student)
    yield made
    made.database.close()


def undisturbed(told: pytest.MonkeyPatch, sqlite_url: str, folder: Path, student: Path) -> RetrainRun:
    """The same run in a store of its own, where nobody dies."""
    variables = {
        "TAMPERWATCH_DATABASE_URL": sqlite_url,
        "TAMPERWATCH_BLOBS__BACKEND": "directory",
        "TAMPERWATCH_BLOBS__DIRECTORY": str(folder / "blobs"),
        "TAMPERWATCH_ENGINE__THREADS": "1",
        "TAMPERWATCH_RETRAIN__FOLDER": str(folder / "twin"),
    }
    with place(told, variables, student) as twin:
        assert twin.carry_on() == 0
        return twin.run()


def test_a_run_that_is_killed_in_each_step_ends_with_the_same_manifest_and_student(
    told: pytest.MonkeyPatch,
    tmp_path: Path,
    broker_url: str,
    migrated_postgres_url: str,
    s3_settings: BlobSettings,
    sqlite_url: str,
    untaught: Path,
) -> None:
    twin = undisturbed(told, sqlite_url, tmp_path, untaught)
    assert twin.state is RetrainState.PROMOTED, twin.reason
    variables = store_variables(migrated_postgres_url, broker_url, s3_settings)
    with place(told, variables | {"TAMPERWATCH_RETRAIN__FOLDER": str(tmp_path / "runs")}, untaught) as killed:
        for state, words in DEATHS:
            assert killed.carry_on("tests.killed_night", state.value, words) == -signal.SIGKILL, (state, words, killed.run())
            left = killed.run()
            assert left.state is state, (state, words, left.reason)
            assert left.manifest_sha256 == (
                None if state in (RetrainState.QUEUED, RetrainState.SELECTING) else twin.manifest_sha256
            )
            assert killed.live() == killed.before
        assert killed.carry_on() == 0
        run = killed.run()
        assert killed.live() == run.candidate_version
    assert (run.state, run.figures["tries"]) == (RetrainState.PROMOTED, len(DEATHS) + 1)
    assert (run.manifest_sha256, run.candidate_version) == (twin.manifest_sha256, twin.candidate_version)
    assert run.figures["measured"]["candidate"]["f1"] == twin.figures["measured"]["candidate"]["f1"]
