"""`tamperwatch pseudo-masks` as a person runs it."""

import hashlib
from datetime import timedelta
from pathlib import Path

import pytest
from PIL import Image
from sqlmodel import select

from schemas.geometry import PixelBox
from schemas.learning_tables import PseudoMask, RetrainRun
from schemas.settings import BlobSettings
from schemas.states import AnnotationKind, AnnotationOrigin, RetrainState, RetrainTrigger
from schemas.tables import now
from storage import annotations
from storage.annotation_checks import NewAnnotation
from storage.blobs import BlobStore, open_blob_store, picture_key
from storage.database import Database
from tests.cli.conftest import Tamperwatch
from tests.pictures import picture_bytes


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return open_blob_store(BlobSettings(directory=tmp_path / "tamperwatch-blobs"))


def annotated(database: Database, blobs: BlobStore, seed: int) -> int:
    """A picture in the store with a box; the annotation's number."""
    data = picture_bytes(seed)
    sha256 = hashlib.sha256(data).hexdigest()
    blobs.put(picture_key(sha256), data)
    word = NewAnnotation(
        sha256=sha256,
        kind=AnnotationKind.BOXES,
        boxes=(PixelBox.of(18, 8, 62, 52),),
        width_px=96,
        height_px=72,
        annotator="anna",
        origin=AnnotationOrigin.CLI,
    )
    with database.write() as session:
        return annotations.add_annotation(session, word).annotation.id or 0


def counts(out: str) -> dict[str, str]:
    """The table's lines."""
    lines = [line.strip().rsplit(maxsplit=1) for line in out.splitlines() if line.strip()]
    return {line[0]: line[1] for line in lines if len(line) == 2}


def masks(database: Database) -> int:
    with database.read() as session:
        return len(session.exec(select(PseudoMask)).all())


def test_missing_masks_are_made_and_counted(tamperwatch: Tamperwatch, sqlite: Database, blobs: BlobStore, tmp_path: Path) -> None:
    for seed in range(3):
        annotated(sqlite, blobs, seed)
    ran = tamperwatch("pseudo-masks", "--limit", "2", DATABASE_URL=sqlite.url)
    assert ran.code == 0
    assert counts(ran.out).items() >= {"masks made": "2", "found": "0"}.items()
    assert 0.5 < float(counts(ran.out)["mean quality"]) <= 1
    assert "3" not in counts(ran.out).values() and masks(sqlite) == 2
    assert "2 pictures, teacher GrabCut: TAMPERWATCH_TEACHER__CHECKPOINT names no file of SAM" in " ".join(ran.err.split())
    again = tamperwatch("pseudo-masks", "--sheet", str(tmp_path / "sheet.png"), DATABASE_URL=sqlite.url)
    assert counts(again.out).items() >= {"masks made": "1", "found": "2"}.items()
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 1000


def test_only_what_is_new_since_the_last_run(tamperwatch: Tamperwatch, sqlite: Database, blobs: BlobStore) -> None:
    number = annotated(sqlite, blobs, 1)
    annotated(sqlite, blobs, 2)
    with sqlite.write() as session:
        session.add(RetrainRun(state=RetrainState.REJECTED, trigger=RetrainTrigger.MANUAL, last_annotation_id=number))
    ran = tamperwatch("pseudo-masks", "--new", DATABASE_URL=sqlite.url, TEACHER__KIND="grabcut")
    assert counts(ran.out).items() >= {"masks made": "1", "found": "0"}.items()
    assert "1 pictures, teacher GrabCut\n" in ran.err


def test_a_dropped_picture_is_named_counted_and_the_exit_status(
    tamperwatch: Tamperwatch, sqlite: Database, blobs: BlobStore
) -> None:
    for seed in (1, 2):
        annotated(sqlite, blobs, seed)
    gone = hashlib.sha256(picture_bytes(1)).hexdigest()
    blobs.delete(picture_key(gone))
    ran = tamperwatch("pseudo-masks", DATABASE_URL=sqlite.url)
    assert ran.code == 1
    assert counts(ran.out).items() >= {"masks made": "1", "dropped: blob_missing": "1"}.items()
    assert f"{gone}: no blob" in ran.err


def test_a_picture_that_is_gone_since_is_not_on_the_sheet(
    tamperwatch: Tamperwatch, sqlite: Database, blobs: BlobStore, tmp_path: Path
) -> None:
    for seed in (1, 2):
        annotated(sqlite, blobs, seed)
    tamperwatch("pseudo-masks", DATABASE_URL=sqlite.url)
    gone = hashlib.sha256(picture_bytes(1)).hexdigest()
    blobs.delete(picture_key(gone))
    ran = tamperwatch("pseudo-masks", "--sheet", "sheet.png", DATABASE_URL=sqlite.url)
    assert (ran.code, (tmp_path / "sheet.png").is_file()) == (0, True)
    assert f"{gone} is not on the sheet: no blob" in ran.err


def test_masks_that_nobody_used_for_long_are_deleted(tamperwatch: Tamperwatch, sqlite: Database, blobs: BlobStore) -> None:
    annotated(sqlite, blobs, 1)
    tamperwatch("pseudo-masks", DATABASE_URL=sqlite.url)
    with sqlite.write() as session:
        row = session.exec(select(PseudoMask)).one()
        session.add(PseudoMask.model_validate(row.model_dump() | {"sha256": "0" * 64, "last_used_at": now() - timedelta(days=8)}))
    ran = tamperwatch("pseudo-masks", DATABASE_URL=sqlite.url, TEACHER__KEEP_DAYS="7")
    assert ran.out.endswith("deleted: 1 masks that nobody used for 7 days\n")
    assert masks(sqlite) == 1


def test_without_boxes_there_is_nothing_to_do(tamperwatch: Tamperwatch, sqlite: Database) -> None:
    ran = tamperwatch("pseudo-masks", DATABASE_URL=sqlite.url)
    assert (ran.code, ran.out) == (0, "no pictures with boxes that people agree on\n")


@pytest.mark.parametrize(
    ("argv", "variables", "code", "said"),
    [
        (("--sheet", "no/such/folder.png"), {}, 2, "no such folder"),
        (("--limit", "0"), {}, 2, "Invalid value"),
        ((), {"TEACHER__KIND": "sam"}, 2, "kind sam needs TAMPERWATCH_TEACHER__CHECKPOINT"),
        ((), {"TEACHER__CHECKPOINT": "sam.pth"}, 2, "the SAM checkpoint sam.pth cannot be read"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_made(
    tamperwatch: Tamperwatch,
    sqlite: Database,
    blobs: BlobStore,
    argv: tuple[str, ...],
    variables: dict[str, str],
    code: int,
    said: str,
) -> None:
    annotated(sqlite, blobs, 1)
    ran = tamperwatch("pseudo-masks", *argv, DATABASE_URL=sqlite.url, **variables)
    assert (ran.code, masks(sqlite)) == (code, 0)
    assert said in ran.err
