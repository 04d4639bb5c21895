"""From people's words and a base set to a frozen manifest: the same again after a kill, and no picture ever on both sides."""

import csv
import uuid
from pathlib import Path

import pytest

from model.preprocess import PictureLimits
from scheduler.base_set import read_base_set
from scheduler.frozen_manifest import FrozenManifest, thaw
from scheduler.gathering import LARGEST_MANIFEST_BYTES, Gatherer, ledger_key, manifest_key, read_picture
from scheduler.holdout import Ledger
from schemas.errors import BlobCorrupt, BlobMissing, InvalidInput, UnreadableFile
from schemas.geometry import PixelBox
from schemas.learning_settings import PromotionSettings, SelectionSettings
from schemas.settings import BlobSettings
from schemas.states import RetrainState, RetrainTrigger
from storage import leases, runs
from storage.annotation_queries import newest_annotation
from storage.blobs import BlobStore, open_blob_store, picture_key
from storage.database import Database
from tests.nights import annotate, box_of, drawn
from tests.scheduler.made import sha

SELECTION = SelectionSettings(least_new=4, least_tampered=3, least_authentic=3, holdout_share=0.3, tuning_share=0.25)
PROMOTION = PromotionSettings(least_tampered=2, least_authentic=2, least_clusters=2)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return open_blob_store(BlobSettings(directory=tmp_path / "blobs"))


def gatherer(database: Database, blobs: BlobStore, base: str = "", up_to: int | None = None) -> Gatherer:
    with database.read() as session:
        newest = newest_annotation(session)
    return Gatherer(database, blobs, read_base_set(base), newest if up_to is None else up_to, 7, PictureLimits())


def frozen(made: Gatherer, live: str = "v1") -> FrozenManifest:
    """What a run would be made of; kept as a run keeps it."""
    chosen, ledger = made.select(live, SELECTION, PROMOTION, lambda *_: None)
    assert chosen.readiness == "ready", chosen.account
    found = made.freeze(chosen, ledger, live)
    made.keep(found)
    return thaw(made.blobs.get(manifest_key(found.sha256), LARGEST_MANIFEST_BYTES), found.sha256)


def note_run(database: Database, made: Gatherer) -> None:
    """A run that was made of it and was refused."""
    chosen, ledger = made.select("v1", SELECTION, PROMOTION, lambda *_: None)
    sha256 = made.freeze(chosen, ledger, "v1").sha256
    with database.write() as session:
        held = leases.acquire(session, runs.LEASE, "test", 60.0)
        assert held is not None
        run, _ = runs.begin(session, RetrainTrigger.MANUAL)
        way = (RetrainState.SELECTING, RetrainState.TEACHING, RetrainState.TRAINING, RetrainState.EVALUATING)
        for state in (*way, RetrainState.REJECTED):
            named = {"manifest_key": manifest_key(sha256), "manifest_sha256": sha256}
            runs.move(session, held, run.id, state, **named, last_annotation_id=made.up_to)
        leases.release(session, held)


def test_a_run_that_is_begun_again_gathers_the_same_whatever_was_said_meanwhile(sqlite: Database, blobs: BlobStore) -> None:
    annotate(sqlite, blobs, range(40))
    made = gatherer(sqlite, blobs)
    first = frozen(made)
    annotate(sqlite, blobs, range(100, 120), annotator="ben")
    assert frozen(gatherer(sqlite, blobs, up_to=made.up_to)) == first
    assert len(frozen(gatherer(sqlite, blobs)).entries) == len(first.entries) + 20


def test_the_next_night_knows_who_is_held_out(sqlite: Database, blobs: BlobStore) -> None:
    annotate(sqlite, blobs, range(40))
    made = gatherer(sqlite, blobs)
    first = frozen(made)
    note_run(sqlite, made)
    annotate(sqlite, blobs, range(100, 130), annotator="ben")
    second = frozen(gatherer(sqlite, blobs))
    trained = {entry.sha256 for entry in first.entries if entry.role != "holdout"}
    measured = {entry.sha256 for entry in second.of_role("holdout")}
    assert {entry.sha256 for entry in first.of_role("holdout")} <= measured
    assert not trained & measured
    assert {entry.origin for entry in second.entries} == {"new", "refused"}
    ledger = gatherer(sqlite, blobs).ledger()
    assert {each.sha256 for each in ledger.placed if each.used} == trained


def test_a_ledger_that_is_gone_ends_the_run(sqlite: Database, blobs: BlobStore) -> None:
    annotate(sqlite, blobs, range(40))
    made = gatherer(sqlite, blobs)
    assert made.ledger() == Ledger()
    first = frozen(made)
    note_run(sqlite, made)
    blobs.delete(ledger_key(first.header.ledger_sha256))
    with pytest.raises(BlobMissing):
        gatherer(sqlite, blobs).ledger()


def test_pictures_whose_bytes_are_gone_or_damaged_are_left_out_by_reason(
    sqlite: Database, blobs: BlobStore, tmp_path: Path
) -> None:
    annotate(sqlite, blobs, range(40))
    everything = frozen(gatherer(sqlite, blobs))
    gone, changed = everything.entries[0].sha256, everything.entries[1].sha256
    blobs.delete(picture_key(gone))
    (tmp_path / "blobs" / picture_key(changed)).write_bytes(b"other bytes")
    chosen, _ = gatherer(sqlite, blobs).select("v1", SELECTION, PROMOTION, lambda *_: None)
    assert not {gone, changed} & {entry.sha256 for entry in chosen.entries}
    assert chosen.left_out["its bytes are gone"] == 1
    assert chosen.left_out["its bytes cannot be used (blob_corrupt)"] == 1


def test_nothing_new_is_told(sqlite: Database, blobs: BlobStore) -> None:
    chosen, _ = gatherer(sqlite, blobs).select("v1", SELECTION, PROMOTION, lambda *_: None)
    assert (chosen.readiness, chosen.why.startswith("0 newly annotated pictures")) == ("nothing_new", True)


def test_what_is_told_while_it_looks_ends_it(sqlite: Database, blobs: BlobStore) -> None:
    annotate(sqlite, blobs, range(6))

    def stop(done: int, count: int) -> None:
        assert (done, count) == (1, 6)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        gatherer(sqlite, blobs).select("v1", SELECTION, PROMOTION, stop)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Sixteen drawn pictures with boxes, of which four are for validation."""
    root = tmp_path / "base"
    root.mkdir()
    with (root / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("set", "image", "mask", "label", "boxes", "split"))
        for number in range(500, 516):
            box = box_of(number) if number % 2 else None
            (root / f"{number}.png").write_bytes(drawn(number, box))
            boxes = f"[{list(box.as_tuple())}]" if box else ""
            side = "validation" if number % 4 == 0 or number % 8 == 1 else "training"
            writer.writerow(("base", f"{number}.png", "", "tampered" if box else "authentic", boxes, side))
    return root


def test_a_base_set_trains_and_measures_where_its_manifest_says(sqlite: Database, blobs: BlobStore, base: Path) -> None:
    annotate(sqlite, blobs, range(40))
    found = read_base_set(str(base))
    held_out = {sha256 for sha256, picture in found.items() if picture.held_out}
    entries = [entry for entry in frozen(gatherer(sqlite, blobs, str(base))).entries if entry.origin == "base"]
    assert {entry.sha256 for entry in entries} == set(found)
    assert {entry.sha256 for entry in entries if entry.role == "holdout"} == held_out
    assert len(held_out) == 6


def test_a_picture_is_read_from_where_it_lies(blobs: BlobStore, base: Path) -> None:
    found = read_base_set(str(base))
    read = read_picture(blobs, found, PictureLimits())
    box = PixelBox.of(*box_of(501).as_tuple())
    (sha256,) = [name for name, picture in found.items() if picture.path.name == "501.png"]
    assert read(sha256) == drawn(501, box)
    (base / "501.png").write_bytes(b"other")
    with pytest.raises(BlobCorrupt, match="has changed"):
        read(sha256)
    (base / "501.png").unlink()
    with pytest.raises(UnreadableFile):
        read(sha256)
    with pytest.raises(BlobMissing):
        read(sha(uuid.uuid4()))


def test_no_base_set_and_a_wrong_one(tmp_path: Path) -> None:
    assert read_base_set("") == {}
    with pytest.raises(InvalidInput, match="does not exist"):
        read_base_set(str(tmp_path / "nowhere"))
