"""What people say of pictures: every change is a row, and one word an annotator stands."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import Session, col, delete, select

from schemas.errors import InvalidInput, StoreUnavailable
from schemas.geometry import PixelBox
from schemas.learning_tables import BoxAnnotation
from schemas.states import AnnotationKind, AnnotationOrigin
from schemas.tables import AuditResult
from storage import annotation_queries, annotations, jobs
from storage.annotation_checks import NewAnnotation
from storage.annotation_queries import NewWords
from storage.annotations import Added
from storage.consensus import Outcome
from storage.database import Database
from storage.jobs import NewJob

MakeJob = Callable[..., NewJob]
MakeResult = Callable[..., AuditResult]
SHA = "ab" * 32
OTHER = "cd" * 32
BOX = PixelBox.of(0, 0, 2, 2)
WIDER = PixelBox.of(0, 0, 4, 3)


def word(annotator: str = "anna", *boxes: PixelBox, sha256: str = SHA, **changes: Any) -> NewAnnotation:
    """Boxes on a picture of 4 x 3, or that it is authentic."""
    kind = AnnotationKind.BOXES if boxes else AnnotationKind.AUTHENTIC
    values: dict[str, Any] = {"origin": AnnotationOrigin.PAGE, "width_px": 4, "height_px": 3}
    return NewAnnotation(sha256, annotator, kind, boxes=boxes, **values | changes)


def add(database: Database, *new: NewAnnotation, again: bool = False) -> list[Added]:
    with database.write() as session:
        added = annotations.add_annotations(session, new, again)
        session.expunge_all()
    return added


def add_one(database: Database, new: NewAnnotation) -> BoxAnnotation:
    return add(database, new)[0].annotation


def retract(database: Database, annotation_id: int | None, who: str = "boss", reason: str = "careless") -> BoxAnnotation:
    with database.write() as session:
        row = annotations.retract(session, annotation_id or 0, who, reason, AnnotationOrigin.API)
        session.expunge_all()
    return row


def standing(database: Database, sha256: str = SHA, up_to: int | None = None) -> list[int | None]:
    with database.read() as session:
        return [row.id for row in annotation_queries.standing(session, [sha256], up_to).get(sha256, [])]


def test_what_was_said_is_stored(database: Database) -> None:
    added = add_one(database, word("anna", WIDER, BOX, source_id="campaign-7", note="the face", origin=AnnotationOrigin.API))
    with database.read() as session:
        (row,) = annotation_queries.history(session, SHA)
    assert row == added
    assert (row.kind, row.pixel_boxes, row.width_px, row.height_px) == (AnnotationKind.BOXES, (BOX, WIDER), 4, 3)
    assert (row.annotator, row.source_id, row.note, row.origin) == ("anna", "campaign-7", "the face", AnnotationOrigin.API)
    assert row.replaces is None
    assert row.boxes == [{"x0": 0, "y0": 0, "x1": 2, "y1": 2}, {"x0": 0, "y0": 0, "x1": 4, "y1": 3}]


def test_a_change_of_mind_is_a_new_row(database: Database) -> None:
    first = add_one(database, word("anna", BOX))
    second = add_one(database, word("anna", WIDER))
    third = add_one(database, word("anna"))
    assert (second.replaces, third.replaces) == (first.id, second.id)
    assert standing(database) == [third.id]
    with database.read() as session:
        assert [row.id for row in annotation_queries.history(session, SHA)] == [first.id, second.id, third.id]


def test_each_annotator_has_their_own_word(database: Database) -> None:
    mine, yours = add_one(database, word("anna", BOX)), add_one(database, word("ben"))
    other = add_one(database, word("anna", sha256=OTHER))
    assert standing(database) == [mine.id, yours.id]
    assert standing(database, OTHER) == [other.id]
    assert standing(database, "ef" * 32) == []


def test_saying_the_same_again_adds_nothing(database: Database) -> None:
    first, second = add(database, word("anna", BOX, WIDER), word("anna", WIDER, BOX))
    assert (first.is_new, second.is_new) == (True, False)
    assert second.annotation.id == first.annotation.id
    (third,) = add(database, word("anna", BOX, WIDER, note="again"))
    assert not third.is_new


def test_another_corrects_what_one_said(database: Database) -> None:
    mine = add_one(database, word("anna", BOX))
    correction = word("ben", WIDER, replaces=mine.id)
    yours = add_one(database, correction)
    assert standing(database) == [yours.id]
    assert add(database, correction)[0] == Added(yours, is_new=False)  # sent twice
    with pytest.raises(InvalidInput, match=rf"annotation {mine.id} was replaced by {yours.id} of ben"):
        add(database, word("carl", WIDER, replaces=mine.id))
    again = add_one(database, word("anna", BOX))  # and anna may insist
    assert standing(database) == [yours.id, again.id]


def test_a_correction_by_someone_who_had_their_say_leaves_them_one_word(database: Database) -> None:
    yours, mine = add_one(database, word("ben", BOX)), add_one(database, word("anna", BOX))
    corrected = add_one(database, word("ben", WIDER, replaces=mine.id))
    assert standing(database) == [corrected.id]
    with pytest.raises(InvalidInput, match=f"not the newest of ben on this picture any more; {corrected.id} is"):
        retract(database, yours.id)
    retract(database, corrected.id)
    assert standing(database) == []  # what ben said before does not come back by itself


@pytest.mark.parametrize("number", ["other", "missing"])
def test_only_the_same_pictures_rows_can_be_corrected(database: Database, number: str) -> None:
    other = add_one(database, word("anna", sha256=OTHER))
    wrong = other.id if number == "other" else 10**9
    with pytest.raises(InvalidInput, match=f"annotation {wrong}, which is to be replaced, is not one of picture abab"):
        add(database, word("anna", BOX, replaces=wrong))


def test_taking_back_is_a_row_too(database: Database) -> None:
    yours, mine = add_one(database, word("boss", BOX)), add_one(database, word("anna", WIDER, source_id="c"))
    undo = retract(database, mine.id, who=" boss ", reason=" wrong picture ")
    assert (undo.kind, undo.replaces, undo.annotator, undo.note) == (AnnotationKind.RETRACTED, mine.id, "boss", "wrong picture")
    assert (undo.boxes, undo.source_id, undo.origin) == ([], "c", AnnotationOrigin.API)
    assert standing(database) == [yours.id]  # the boss's own word is not touched by taking back another's
    again = add_one(database, word("anna", WIDER))
    assert standing(database) == [yours.id, again.id]


def test_what_does_not_stand_cannot_be_taken_back(database: Database) -> None:
    first = add_one(database, word("anna", BOX))
    second = add_one(database, word("anna", WIDER))
    with pytest.raises(InvalidInput, match=f"annotation {first.id} was replaced by {second.id} of anna"):
        retract(database, first.id)
    undo = retract(database, second.id)
    with pytest.raises(InvalidInput, match=rf"annotation {second.id} was taken back by boss \({undo.id}\): careless"):
        retract(database, second.id)
    with pytest.raises(InvalidInput, match=f"annotation {undo.id} took back {second.id}; to say it again"):
        retract(database, undo.id)
    with pytest.raises(InvalidInput, match="no annotation 1000000"):
        retract(database, 1_000_000)
    with database.read() as session:
        assert len(annotation_queries.history(session, SHA)) == 3


@pytest.mark.parametrize(("who", "reason", "message"), [("", "r", "no annotator"), ("b", " ", "a reason is needed")])
def test_taking_back_needs_a_name_and_a_reason(database: Database, who: str, reason: str, message: str) -> None:
    mine = add_one(database, word("anna", BOX))
    with pytest.raises(InvalidInput, match=message):
        retract(database, mine.id, who, reason)
    assert standing(database) == [mine.id]


def test_an_import_adds_nothing_twice_and_undoes_nothing(database: Database) -> None:
    def imported(*boxes: PixelBox) -> NewAnnotation:
        return word("anna", *boxes, origin=AnnotationOrigin.IMPORT)

    (old,) = add(database, imported(BOX))
    (new,) = add(database, imported(WIDER))
    assert [each.is_new for each in add(database, imported(BOX)) + add(database, imported(WIDER))] == [False, False]
    retract(database, new.annotation.id)
    assert not add(database, imported(WIDER))[0].is_new
    assert standing(database) == []
    (meant,) = add(database, imported(BOX), again=True)
    assert meant.is_new and standing(database) == [meant.annotation.id]
    assert not add(database, imported(BOX), again=True)[0].is_new
    assert old.annotation.id != meant.annotation.id


def test_one_wrong_annotation_leaves_nothing_behind(database: Database) -> None:
    with pytest.raises(InvalidInput, match="not inside the picture"):
        add(database, word("anna", BOX), word("ben", PixelBox.of(0, 0, 5, 3)))
    assert standing(database) == []


@pytest.fixture
def audited(database: Database, new_job: MakeJob, new_result: MakeResult) -> int:
    """The id of a result of picture SHA, of 4 x 3 pixels."""
    with database.write() as session:
        (job,) = jobs.add_jobs(session, [new_job("a")])
        session.add(result := new_result(job.id))
        session.add(new_result(job.id, profile="wechat", width_px=2, height_px=2))
        session.flush()
        assert result.id is not None
        return result.id


def test_an_audit_tells_the_size(database: Database, audited: int) -> None:
    row = add_one(database, word("anna", WIDER, width_px=None, height_px=None, result_id=audited))
    assert (row.width_px, row.height_px, row.result_id) == (4, 3, audited)
    with pytest.raises(InvalidInput, match="stated size 3 x 4 is not the upright picture's, 4 x 3"):
        add(database, word("ben", BOX, width_px=3, height_px=4))


def test_an_earlier_annotation_tells_the_size(database: Database) -> None:
    add(database, word("anna", BOX))
    assert add_one(database, word("ben", WIDER, width_px=None, height_px=None)).width_px == 4
    with pytest.raises(InvalidInput, match="size is not known"):
        add(database, word("ben", BOX, sha256=OTHER, width_px=None, height_px=None))


def test_the_result_must_be_the_pictures(database: Database, audited: int) -> None:
    for result_id in (audited + 1000, audited):
        sha256 = SHA if result_id != audited else OTHER
        with pytest.raises(InvalidInput, match=f"result {result_id} is not one of picture {sha256[:12]}"):
            add(database, word("anna", BOX, sha256=sha256, result_id=result_id))


def test_a_word_outlives_its_result(database: Database, audited: int) -> None:
    row = add_one(database, word("anna", BOX, result_id=audited))
    with database.write() as session:
        session.execute(delete(AuditResult).where(col(AuditResult.id) == audited))
    assert standing(database) == [row.id]


def test_what_stood_at_an_earlier_time_never_changes(database: Database) -> None:
    rows = [add_one(database, word("anna", BOX)), add_one(database, word("ben", BOX)), add_one(database, word("anna", WIDER))]
    rows.append(retract(database, rows[1].id))
    rows.append(add_one(database, word("ben", WIDER, replaces=rows[2].id)))
    ids = [row.id for row in rows]
    assert [standing(database, up_to=each) for each in ids] == [ids[:1], ids[:2], [ids[1], ids[2]], [ids[2]], [ids[4]]]
    assert standing(database, up_to=0) == []


def test_pictures_are_judged_page_by_page(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotation_queries, "_PAGE", 2)
    pictures = [f"{number:064x}" for number in range(5)]
    added = add(database, *[word(who, BOX, sha256=sha, source_id=who) for sha in reversed(pictures) for who in ("anna", "ben")])
    retract(database, add(database, word("anna", sha256=pictures[1]))[0].annotation.id)
    retract(
        database,
        next(
            each.annotation.id for each in added if each.annotation.sha256 == pictures[1] and each.annotation.annotator == "ben"
        ),
    )
    late = add_one(database, word("carl", sha256=OTHER))
    with database.read() as session:
        now = list(annotation_queries.judged_pictures(session))
        before = list(annotation_queries.judged_pictures(session, up_to=added[-1].annotation.id))
    assert [each.sha256 for each in now] == [pictures[0], *pictures[2:], OTHER]
    assert [each.sha256 for each in before] == pictures
    assert {each.consensus.outcome for each in before} == {Outcome.BOXES}
    assert (now[0].size_px, now[0].source_id, now[0].consensus.boxes) == ((4, 3), "ben", (BOX,))
    assert (now[-1].newest_id, now[-1].consensus.outcome) == (late.id, Outcome.AUTHENTIC)


def test_new_words_are_counted(database: Database) -> None:
    first = add_one(database, word("anna", BOX, WIDER))
    add(database, word("ben", BOX), word("ben", sha256=OTHER))
    dropped = add_one(database, word("carl", BOX, WIDER))
    retract(database, dropped.id)

    def count(after: int | None, up_to: int | None = None) -> NewWords:
        with database.read() as session:
            return annotation_queries.count_new(session, after or 0, up_to)

    assert count(0) == NewWords(pictures=2, annotations=3, boxes=3)
    assert count(first.id) == NewWords(pictures=2, annotations=2, boxes=1)
    assert count(0, up_to=first.id) == NewWords(1, 1, 2)
    assert count(dropped.id) == NewWords(0, 0, 0)


def read(database: Database, after: int, limit: int = 100, patience_s: float = 15) -> list[int]:
    with database.read() as session:
        return [row.id or 0 for row in annotation_queries.read_annotations(session, after, limit, patience_s)]


def test_the_feed_goes_by_number_and_shows_every_row(database: Database) -> None:
    assert read(database, 0) == []
    first = add_one(database, word("anna", BOX))
    undo = retract(database, first.id)
    assert read(database, 0) == [first.id, undo.id]
    assert read(database, first.id or 0, limit=1) == [undo.id]
    with database.write() as session:  # a number is never given again, or a reader would skip the new row
        session.execute(delete(BoxAnnotation))
    later = add_one(database, word("anna", BOX))
    assert read(database, undo.id or 0) == [later.id]
    with database.read() as session:
        assert annotation_queries.newest_annotation(session) == later.id


@pytest.fixture
def postgres(migrated_postgres_url: str) -> Any:
    database = Database(migrated_postgres_url)
    yield database
    database.close()


@pytest.mark.slow
def test_a_lower_number_that_commits_later_is_waited_for(postgres: Database) -> None:
    with Session(postgres.engine) as early, Session(postgres.engine) as late:
        first = annotations.add_annotation(early, word("anna", BOX)).annotation.id
        second = annotations.add_annotation(late, word("anna", BOX, sha256=OTHER)).annotation.id
        late.commit()
        with postgres.read() as session:  # what a reader who goes by number alone would take
            assert session.exec(select(BoxAnnotation.id)).all() == [second]
            with pytest.raises(StoreUnavailable, match="writes to box_annotation has been open for over 0 s"):
                annotation_queries.newest_annotation(session, patience_s=0)
        with pytest.raises(StoreUnavailable, match="writes to box_annotation"):
            read(postgres, 0, patience_s=0)
        with ThreadPoolExecutor(1) as thread:
            page = thread.submit(read, postgres, 0)
            early.commit()
            assert page.result(30) == [first, second]


@pytest.mark.slow
def test_a_storm_of_annotators_under_a_reader(postgres: Database) -> None:
    committed: list[int] = []
    done = threading.Event()

    def write(seed: int) -> None:
        chance = random.Random(seed)
        for number in range(12):
            with Session(postgres.engine) as session:
                pictures = [f"{chance.randrange(4):064x}" for _ in range(chance.randint(1, 3))]
                each = [word(f"{seed}-{number}", BOX, sha256=sha256) for sha256 in pictures]
                ids = {added.annotation.id for added in annotations.add_annotations(session, each)}
                session.connection().execute(text("SELECT pg_sleep(:s)"), {"s": chance.random() / 100})
                if chance.random() < 0.2:
                    session.rollback()
                    continue
                session.commit()
            committed.extend(each for each in ids if each)

    def write_all() -> None:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(write, range(4)))

    seen: list[int] = []
    with ThreadPoolExecutor(1) as thread:
        written = thread.submit(write_all)
        written.add_done_callback(lambda _: done.set())
        while True:
            over = done.is_set()
            page = read(postgres, max([0, *seen]), limit=5)
            seen += page
            if over and not page:
                break
        written.result()
    assert len(committed) > 20
    assert seen == sorted(committed)


def test_the_same_file_imported_by_many_at_once_is_stored_once(database: Database) -> None:
    pictures = [f"{number:064x}" for number in range(12)]

    def imported(seed: int) -> int:
        mine = random.Random(seed).sample(pictures, len(pictures))
        return sum(
            each.is_new
            for each in add(database, *[word("anna", BOX, sha256=sha, origin=AnnotationOrigin.IMPORT) for sha in mine])
        )

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(imported, range(4))) == len(pictures)


def test_of_two_who_change_the_same_row_at_once_one_is_told(database: Database) -> None:
    mine = add_one(database, word("anna", BOX))
    ready = threading.Barrier(2)

    def change(name: str) -> str:
        ready.wait(30)
        try:
            add(database, word(name, WIDER, replaces=mine.id))
        except InvalidInput as error:
            return error.message
        return "done"

    with ThreadPoolExecutor(2) as threads:
        outcomes = sorted(threads.map(change, ("ben", "carl")))
    assert outcomes[0].startswith(f"annotation {mine.id} was replaced by") and outcomes[1] == "done"
    assert len(standing(database)) == 1
