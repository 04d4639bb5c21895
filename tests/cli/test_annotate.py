"""`tamperwatch annotate` over a small store: what a person types, and what they get told."""

import hashlib
import json
import signal
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from cli import annotation_import
from schemas.learning_tables import BoxAnnotation
from schemas.settings import BlobSettings
from schemas.states import Verdict
from schemas.tables import AuditResult, Picture
from storage import annotation_queries, jobs
from storage.blobs import open_blob_store, picture_key
from storage.database import Database
from storage.jobs import NewJob
from tests.cli.conftest import Ran, Tamperwatch
from tests.pictures import picture_bytes

A, B = "a0" * 32, "b0" * 32
HOSTILE = "[red]x[/] \x1b[31m.jpg"
Annotate = Callable[..., Ran]


@pytest.fixture
def annotate(tamperwatch: Tamperwatch, sqlite: Database) -> Annotate:
    """Run `annotate` on a store that has audited a.jpg (40 x 30, result 1) and a picture with a hostile name."""
    with sqlite.write() as session:
        for name, ref, sha256 in (("a.jpg", "ref-a", A), (HOSTILE, "ref-b", B)):
            new = NewJob(source=name, sha256=sha256, bytes=9, client_ref=ref, submission="s")
            (job,) = jobs.add_jobs(session, [new])
            session.add(result_of(job.id))
            session.flush()

    def run(*argv: str) -> Ran:
        return tamperwatch("annotate", *argv, DATABASE_URL=sqlite.url)

    return run


def result_of(job_id: uuid.UUID) -> AuditResult:
    return AuditResult(
        job_id=job_id, model_version="m", score=0.9, verdict=Verdict.FLAG, area=0.1, mask_png=b"", width_px=40, height_px=30,
        latency_ms=1.0,
    )  # fmt: skip


def write(text: str, name: str = "boxes.csv") -> str:
    """A file in the folder in which the command runs."""
    Path(name).write_text(text, encoding="utf-8")
    return name


def boxes(*lines: str, name: str = "boxes.csv", columns: str = "") -> str:
    return write("\n".join([f"image,x0,y0,x1,y1{columns}", *lines, ""]), name)


def stored(database: Database) -> list[BoxAnnotation]:
    with database.read() as session:
        return list(session.exec(select(BoxAnnotation).order_by("id")).all())


def words(ran: Ran) -> str:
    """Both streams on one line: how rich breaks lines does not matter."""
    return " ".join((ran.out + ran.err).split())


def test_a_picture_goes_by_any_of_its_names(annotate: Annotate, sqlite: Database) -> None:
    ran = annotate("import", boxes("a.jpg,1,2,20,25", f"{B},0,0,40,30"), "--by", " anna ")
    assert (ran.code, words(ran)[:41]) == (0, "annotations: 2 added, 0 known before impo")
    again = annotate("import", boxes("ref-a,1,2,20,25", "ref-b,0,0,40,30"), "--by", "anna")
    assert again.out == "annotations: 0 added, 2 known before\n"
    first, second = stored(sqlite)
    assert (first.sha256, first.annotator, first.pixel_boxes[0].as_tuple()) == (A, "anna", (1, 2, 20, 25))
    assert (second.sha256, second.width_px, second.height_px) == (B, 40, 30)


def test_importing_an_old_file_undoes_nothing_unless_asked(annotate: Annotate, sqlite: Database) -> None:
    file = boxes("a.jpg,1,2,20,25")
    annotate("import", file, "--by", "anna")
    assert annotate("undo", "1", "--by", "boss", "--reason", "careless").code == 0
    assert "0 added, 1 known" in annotate("import", file, "--by", "anna").out
    assert "1 added, 0 known" in annotate("import", file, "--by", "anna", "--again").out
    assert [row.kind.value for row in stored(sqlite)] == ["boxes", "retracted", "boxes"]


def test_a_dry_run_stores_nothing(annotate: Annotate, sqlite: Database) -> None:
    Path("pictures").mkdir()
    Path("pictures/new.jpg").write_bytes(picture_bytes(1))
    file = boxes("a.jpg,1,2,20,25", "new.jpg,20,10,60,50", "nowhere.jpg,1,1,2,2")
    ran = annotate("import", file, "--by", "anna", "--images", "pictures", "--dry-run")
    assert ran.code == 1
    assert "2 would be added, 0 known before, 1 pictures would be stored, 1 problems" in words(ran)
    assert stored(sqlite) == [] and not Path("tamperwatch-blobs").exists()


def test_pictures_of_a_folder_are_stored_to_train_on(annotate: Annotate, sqlite: Database) -> None:
    data = picture_bytes(1)
    sha256 = hashlib.sha256(data).hexdigest()
    Path("pictures/sub").mkdir(parents=True)
    Path("pictures/sub/new.jpg").write_bytes(data)
    file = boxes("sub/new.jpg,20,10,60,50,c7", columns=",campaign")
    ran = annotate("import", file, "--by", "anna", "--images", "pictures", "--source-column", "campaign")
    assert (ran.code, ran.out) == (0, "annotations: 1 added, 0 known before, 1 pictures stored\n")
    (row,) = stored(sqlite)
    assert (row.sha256, row.width_px, row.height_px, row.source_id) == (sha256, 96, 72, "c7")
    assert open_blob_store(BlobSettings(directory=Path("tamperwatch-blobs"))).get(picture_key(sha256), 10**6) == data
    with sqlite.read() as session:
        picture = session.get(Picture, sha256)
        assert picture is not None and picture.bytes == len(data)
    again = annotate("import", file, "--by", "ben", "--images", "pictures", "--source-column", "campaign")
    assert again.out == "annotations: 1 added, 0 known before\n"
    # And from now on the file's content is known wherever the file lies.
    Path("elsewhere.jpg").write_bytes(data)
    assert "1 added" in annotate("import", boxes("elsewhere.jpg,20,10,61,50"), "--by", "ben").out


def test_everything_wrong_is_told_at_once_by_its_line(annotate: Annotate, sqlite: Database) -> None:
    Path("pictures").mkdir()
    Path("pictures/text.jpg").write_text("no picture")
    Path("secret.jpg").write_bytes(picture_bytes(2))
    Path("pictures/empty.jpg").touch()
    Path("pictures/other.jpg").write_bytes(picture_bytes(3))
    lines = [
        "a.jpg,1,2,20,25,",
        "ref-b,1,2,41,25,",
        "text.jpg,1,1,2,2,",
        "../secret.jpg,1,1,2,2,",
        "empty.jpg,1,1,2,2,",
        f"{'c' * 64},1,1,2,2,",
        f"{A},3,3,9,9,",
        f"other.jpg,1,1,2,2,{'d' * 64}",
    ]
    ran = annotate("import", boxes(*lines, columns=",sha256"), "--by", "anna", "--images", "pictures")
    told = words(ran)
    assert ran.code == 1
    assert "1 added, 0 known before, 7 problems" in told
    assert "line 3: ref-b: annotation of b0b0b0b0b0b0: (1, 2, 41, 25) is not inside the picture of 40 x 30" in told
    assert "line 4: text.jpg: not a picture in an accepted format" in told
    assert "line 5: ../secret.jpg is neither an audited picture or a file in pictures" in told
    assert "line 6: empty.jpg: " in told
    assert f"line 7: {'c' * 64} is neither" in told
    assert f"line 8: {A} is the same picture as a.jpg at line 2, with other boxes" in told
    assert "line 9: other.jpg has another sha256 than the file says" in told
    assert [row.sha256 for row in stored(sqlite)] == [A]


def test_a_file_that_was_never_audited_needs_its_folder(annotate: Annotate) -> None:
    Path("new.jpg").write_bytes(picture_bytes(2))
    ran = annotate("import", boxes("new.jpg,1,1,2,2"), "--by", "anna")
    assert ran.code == 1
    assert "line 2: new.jpg was never audited; --images FOLDER stores it, so that it can train" in words(ran)


def test_a_name_of_several_pictures_is_ambiguous(annotate: Annotate, sqlite: Database) -> None:
    with sqlite.write() as session:
        jobs.add_jobs(session, [NewJob(source="a.jpg", sha256=B, bytes=9, client_ref="third", submission="s")])
    ran = annotate("import", boxes("a.jpg,1,1,2,2"), "--by", "anna")
    assert ran.code == 1
    assert "line 2: a.jpg is the name of 2 pictures; give their sha256" in words(ran)


def test_pictures_whose_bytes_are_gone_are_counted(annotate: Annotate, sqlite: Database) -> None:
    with sqlite.write() as session:
        session.delete(session.get_one(Picture, A))
    ran = annotate("import", boxes("a.jpg,1,1,2,2", "ref-b,1,1,2,2"), "--by", "anna")
    assert ran.code == 0
    assert "1 pictures cannot train, because their bytes are not kept; --images FOLDER stores them" in words(ran)


def test_an_audits_size_goes_before_the_files_and_the_others_go_on(annotate: Annotate, sqlite: Database) -> None:
    """What the audit measured is what masks and boxes are drawn on."""
    data = picture_bytes(1)
    sha256 = hashlib.sha256(data).hexdigest()
    with sqlite.write() as session:
        (job,) = jobs.add_jobs(session, [NewJob(source="t", sha256=sha256, bytes=9, client_ref="t", submission="s")])
        session.add(result_of(job.id))
    Path("pictures").mkdir()
    Path("pictures/t.jpg").write_bytes(data)
    file = boxes("t.jpg,20,10,60,50,,", "a.jpg,1,2,20,25,,", "t2.jpg,1,1,2,2,72,96", columns=",width,height")
    Path("pictures/t2.jpg").write_bytes(picture_bytes(2))
    ran = annotate("import", file, "--by", "anna", "--images", "pictures")
    assert ran.code == 1
    assert "line 2: t.jpg: annotation of" in words(ran) and "not inside the picture of 40 x 30" in words(ran)
    assert "line 4: t2.jpg: annotation of" in words(ran) and "stated size 72 x 96 is not the upright picture's, 96 x 72" in words(
        ran
    )
    assert [row.sha256 for row in stored(sqlite)] == [A]


def test_coco_and_authentic_pictures(annotate: Annotate, sqlite: Database) -> None:
    images = [
        {"id": 1, "file_name": "a.jpg", "width": 40, "height": 30, "source_id": "c1"},
        {"id": 2, "file_name": "ref-b", "kind": "authentic"},
        {"id": 3, "file_name": "unseen.jpg"},
    ]
    text = json.dumps({"images": images, "annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}]})
    ran = annotate("import", write(text, "boxes.json"), "--by", "anna")
    assert ran.code == 0
    assert "2 added" in ran.out and "1 images have neither a box nor kind authentic" in words(ran)
    first, second = stored(sqlite)
    assert (first.pixel_boxes[0].as_tuple(), first.source_id) == ((1, 2, 4, 6), "c1")
    assert (second.kind.value, second.boxes) == ("authentic", [])
    assert annotate("import", write(text, "boxes.txt"), "--by", "anna", "--format", "coco").code == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("import", "nowhere.csv", "--by", "anna"), "nowhere.csv cannot be read: No such file or directory"),
        (("import", "nowhere.csv", "--by", " "), "--by: no annotator is named"),
        (("import", "nowhere.csv", "--by", "a", "--images", "no"), "--images no is not a folder"),
        (("undo", "77", "--by", "anna", "--reason", "x"), "no annotation 77"),
        (("review", "77", "--decision", "unsure", "--by", "anna"), "no result 77; it may have been purged"),
        (("show", "77"), "no result 77"),
        (("undo", str(2**64), "--by", "anna", "--reason", "x"), "9223372036854775807"),
        (("show", "fff777"), "no picture fff777"),
        (("show", "a.jpg"), "'a.jpg' is neither a result's number nor at least 6 digits of a sha256"),
    ],
)
def test_what_cannot_be_done_is_said(annotate: Annotate, argv: tuple[str, ...], message: str) -> None:
    ran = annotate(*argv)
    assert (ran.code, ran.out) == (2, "")
    assert message in words(ran)


@pytest.mark.usefixtures("as_in_a_terminal")
def test_ctrl_c_stops_between_batches(annotate: Annotate, sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    file, store = boxes("a.jpg,1,2,20,25", "ref-b,1,1,2,2"), annotation_import._store

    def store_and_stop(*args: Any) -> None:
        store(*args)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(annotation_import, "_BATCH", 1)
        patch.setattr(annotation_import, "_store", store_and_stop)
        ran = annotate("import", file, "--by", "anna")
    assert ran.code == 130 and "run the same command again for the rest" in words(ran)
    assert len(stored(sqlite)) == 1
    assert "1 added, 1 known before" in annotate("import", file, "--by", "anna").out


def test_without_a_store(tamperwatch: Tamperwatch) -> None:
    ran = tamperwatch("annotate", "import", boxes("a.jpg,1,2,20,25"), "--by", "anna")
    assert ran.code == 3
    assert "run `tamperwatch migrate`" in words(ran)


def test_the_list_shows_what_people_agree_on(annotate: Annotate) -> None:
    assert "no such pictures" in annotate("list").err
    annotate("import", boxes("a.jpg,0,0,20,20", "ref-b,0,0,20,20"), "--by", "anna")
    annotate("import", boxes("a.jpg,0,0,20,10"), "--by", "ben")
    annotate("import", write("image,kind\nref-b,authentic\n"), "--by", "[b]en")
    ran = annotate("list")
    rows = ran.out.splitlines()
    assert ran.code == 0 and "\x1b" not in ran.out
    assert rows[0].split()[:4] == ["sha256", "outcome", "IoU", "by"]
    # The newest word first.
    assert rows[1].split()[:3] == [B[:12], "disputed", "0%"] and "contested:" in ran.out and "[b]en" in ran.out
    (agreed,) = [row.split() for row in rows if row.startswith(A[:12])]
    assert agreed[1:5] == ["boxes", "50%", "anna,", "ben"]
    assert [row[:12] for row in annotate("list", "--disputed").out.splitlines()[1:] if row[0] != " "] == [B[:12]]
    assert A[:12] in annotate("list", "--by", "ben").out and B[:12] not in annotate("list", "--by", "ben").out


def test_the_list_as_json(annotate: Annotate) -> None:
    annotate("import", boxes("a.jpg,0,0,20,20,c", columns=",source_id"), "--by", "anna")
    annotate("import", boxes("a.jpg,0,0,20,11", "ref-b,1,1,2,2"), "--by", "ben")
    other, picture = (json.loads(line) for line in annotate("list", "--json").out.splitlines())
    assert (other["sha256"], other["image"], other["agreement"]) == (B, HOSTILE, None)
    at = [each.pop("created_at") for each in picture["annotations"]]
    assert all(each.endswith("+00:00") for each in at)
    assert picture == {
        "sha256": A,
        "image": "a.jpg",
        "width": 40,
        "height": 30,
        "outcome": "boxes",
        "boxes": [[0, 0, 20, 16]],
        "contested": [],
        "agreement": 0.55,
        "source_id": "c",
        "annotations": [
            {"id": 1, "annotator": "anna", "kind": "boxes", "boxes": [[0, 0, 20, 20]], "origin": "import"},
            {"id": 2, "annotator": "ben", "kind": "boxes", "boxes": [[0, 0, 20, 11]], "origin": "import"},
        ],
    }
    assert len(annotate("list", "--json", "--limit", "1").out.splitlines()) == 1


def test_show_is_the_whole_history(annotate: Annotate) -> None:
    assert "nobody has said anything" in annotate("show", "2").out
    annotate("import", boxes("a.jpg,0,0,20,20", "ref-b,1,1,2,2"), "--by", "anna")
    annotate("import", boxes("a.jpg,0,0,21,21"), "--by", "anna")
    assert annotate("undo", "3", "--by", "boss", "--reason", "wrong [/] picture").out == (
        "annotation 3 of a0a0a0a0a0a0 is taken back (as 4)\n"
    )
    annotate("import", write("image,kind\na.jpg,authentic\n"), "--by", "ben")
    assert "review 1" in annotate("review", "1", "--decision", "unsure", "--by", "anna").out
    ran = annotate("review", "1", "--decision", "manipulated", "--by", "anna", "--note", "the hand")
    assert ran.out == "result 1: manipulated, by anna (review 2)\n"
    for name in ("1", A, A[:12], A[:6].upper()):
        told = words(annotate("show", name))
        assert told.startswith(f"{A} a.jpg")
        for part in (
            "0,0 – 20,20",
            "in place of 1",
            "took back 3",
            "wrong [/] picture",
            "stands 5",
            "the hand",
            "unsure",
            "authentic",
        ):
            assert part in told, part
        assert told.count("stands") == 1
    hostile = annotate("show", "2")
    assert "[red]x[/]" in hostile.out and "\x1b" not in hostile.out


def test_the_beginning_of_two_pictures(annotate: Annotate, sqlite: Database) -> None:
    with sqlite.write() as session:
        for last in "12":
            session.add(Picture(sha256="e" * 63 + last, bytes=1))
    ran = annotate("show", "eeeeee")
    assert ran.code == 2
    assert "eeeeee is the beginning of 2 pictures; give more digits" in words(ran)


def test_an_undo_says_who_was_faster(annotate: Annotate, sqlite: Database) -> None:
    annotate("import", boxes("a.jpg,0,0,20,20"), "--by", "anna")
    annotate("undo", "1", "--by", "ben", "--reason", "first")
    ran = annotate("undo", "1", "--by", "boss", "--reason", "second")
    assert ran.code == 2
    assert "annotation 1 was taken back by ben (2): first" in words(ran)
    with sqlite.read() as session:
        assert annotation_queries.standing(session, [A]) == {}


@pytest.mark.parametrize("verb", ["import", "list", "show", "undo", "review"])
def test_every_verb_explains_itself(annotate: Annotate, verb: str) -> None:
    ran = annotate(verb, "--help")
    assert ran.code == 0
    assert f"tamperwatch annotate {verb}" in ran.out and "Example" in ran.out
