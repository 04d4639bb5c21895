"""Nights on which something is wrong: the run says what, the live model stays, and the next night works."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from model.manifest import MANIFEST_NAME
from scheduler.night_process import student_trainer
from scheduler.retrain import WAITS_S, Told, Workplace, carry_on
from scheduler.run_steps import WORKING_SET
from schemas.geometry import PixelBox
from schemas.learning_tables import RetrainRun
from schemas.settings import BlobSettings, Settings
from schemas.states import AnnotationKind, AnnotationOrigin, RetrainState, RetrainTrigger
from storage import registry, runs
from storage.annotation_checks import NewAnnotation
from storage.annotations import add_annotations
from storage.blobs import BlobStore, open_blob_store, picture_key
from storage.database import Database
from storage.pictures import keep_pictures
from tests.local_servers import free_ports
from tests.nights import ENOUGH, annotate, drawn, make_live, one_thread, stored

pytestmark = pytest.mark.slow


@dataclass
class Store:
    """A blob store that may be away for a while: then it is as one whose server nobody listens for."""

    real: BlobStore
    elsewhere: BlobSettings
    is_away: bool = False

    def __getattr__(self, name: str) -> Any:
        if self.is_away:
            open_blob_store(self.elsewhere)  # raises what the real one raises then
        return getattr(self.real, name)


@dataclass
class Nights:
    """One installation and its nights."""

    database: Database
    blobs: Store
    settings: Settings
    live: str
    paused_s: list[float] = field(default_factory=list)

    def night(self, watch: Callable[[Told], None] = lambda _: None, **changes: dict[str, Any]) -> RetrainRun:
        """A run under other settings, by the names of their groups."""
        groups = {name: getattr(self.settings, name).model_copy(update=values) for name, values in changes.items()}
        settings = self.settings.model_copy(update=groups)
        with self.database.write() as session:
            runs.begin(session, RetrainTrigger.SCHEDULE)
        self.paused_s.clear()
        place = Workplace(self.database, self.blobs, settings, student_trainer, watch=watch, pause=self.paused_s.append)
        with one_thread():
            run = carry_on(place, "trainer")
        assert run is not None
        return run

    def failed(
        self, code: str, words: str, watch: Callable[[Told], None] = lambda _: None, **changes: dict[str, Any]
    ) -> RetrainRun:
        """A night that fails under this code and says so; the live model is the one it was."""
        run = self.night(watch, **changes)
        assert (run.state, run.error_code) == (RetrainState.FAILED, code), run.reason
        assert words in run.reason, run.reason
        assert self.live_version() == self.live
        return run

    def live_version(self) -> str:
        with self.database.read() as session:
            found = registry.live(session)
            assert found is not None
            return found.version


@pytest.fixture
def nights(
    sqlite: Database, s3_settings: BlobSettings, untaught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Nights]:
    for name, value in (ENOUGH | {"RETRAIN__FOLDER": str(tmp_path / "runs"), "ENGINE__THREADS": "1"}).items():
        monkeypatch.setenv(f"TAMPERWATCH_{name}", value)
    monkeypatch.setenv("TAMPERWATCH_ENGINE__MODEL_CACHE", str(tmp_path / "cache"))
    (port,) = free_ports(1)
    real = open_blob_store(s3_settings)
    elsewhere = s3_settings.model_copy(update={"endpoint": f"127.0.0.1:{port}"})
    live = make_live(sqlite, real, untaught)
    yield Nights(sqlite, Store(real, elsewhere), Settings(blobs=s3_settings), live)


def lose(nights: Nights, number: int) -> None:
    """The bytes of a picture that somebody annotated are gone."""
    nights.blobs.delete(picture_key(stored(nights.blobs, drawn(number, None))))


def draw_outside(nights: Nights) -> str:
    """A box on a picture whose size was stated wrongly, so that it lies outside; the picture's sha256."""
    data = drawn(900, PixelBox.of(10, 10, 50, 50))
    sha256 = stored(nights.blobs, data)
    outside = (PixelBox.of(500, 400, 900, 800),)
    word = NewAnnotation(sha256, "anna", AnnotationKind.BOXES, AnnotationOrigin.IMPORT, outside, width_px=1000, height_px=1000)
    with nights.database.write() as session:
        keep_pictures(session, {sha256: len(data)})
        add_annotations(session, [word])
    return sha256


def test_whatever_a_night_fails_of_the_live_model_stays_and_the_next_one_works(nights: Nights, tmp_path: Path) -> None:
    nothing = nights.night()
    assert (nothing.state, "0 newly annotated pictures" in nothing.reason) == (RetrainState.SKIPPED, True)
    annotate(nights.database, nights.blobs, range(44))
    lose(nights, 0)
    outside = draw_outside(nights)

    missing, other = tmp_path / "sam.pth", tmp_path / "other.pth"
    other.write_bytes(b"not the published file")
    nights.failed("invalid_input", "sam.pth", teacher={"kind": "sam", "checkpoint": missing})
    nights.failed("invalid_input", "other.pth", teacher={"kind": "sam", "checkpoint": other})
    nights.failed("training_diverged", "not a number", retrain={"lr_head": 1e30, "lr_backbone": 1e30})
    full = nights.failed("disk_full", "no space left", watch=filling(nights))
    assert nights.paused_s == list(WAITS_S) and full.manifest_sha256
    nights.failed("blob_store_unavailable", "failed while it was teaching", watch=cutting(nights.blobs))
    assert nights.paused_s == list(WAITS_S)
    nights.blobs.is_away = False

    run = nights.night()
    assert run.state is RetrainState.PROMOTED, run.reason
    assert nights.live_version() == run.candidate_version != nights.live
    assert run.figures["selection"]["left_out"]["its bytes are gone"] == 1
    assert outside in run.figures["teaching"]["dropped"]


def filling(nights: Nights) -> Callable[[Told], None]:
    """The disk is full when the pictures are laid out: what is written there goes to the device that is always full."""

    def watch(told: Told) -> None:
        if told.state is RetrainState.TRAINING and told.message.startswith("laying out pictures: 0"):
            with nights.database.read() as session:
                run = runs.unended(session)
                assert run is not None
                folder = Path(nights.settings.retrain.folder) / str(run.id) / WORKING_SET
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{MANIFEST_NAME}.part").symlink_to("/dev/full")

    return watch


def cutting(blobs: Store) -> Callable[[Told], None]:
    """The store is away from the moment on when the teacher is at work."""

    def watch(told: Told) -> None:
        blobs.is_away = blobs.is_away or told.state is RetrainState.TEACHING

    return watch
