"""The log of decisions: one chain, whatever happens at once, and no change of it that stays unseen."""

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlmodel import Session, select

from schemas.errors import InvalidInput, StoreUnavailable
from schemas.geometry import PixelBox
from schemas.learning_tables import BoxAnnotation, Review
from schemas.people_tables import LogEntry
from schemas.states import AnnotationKind, AnnotationOrigin, ReviewDecision, Role, Scope
from schemas.tables import AuditResult
from storage import annotations, api_keys, audit_log, jobs, people, registry, reviews
from storage.annotation_checks import NewAnnotation
from storage.audit_log import Head, Verification
from storage.database import Database
from storage.jobs import NewJob

SHA = "ab" * 32


def log(database: Database, *actions: str) -> None:
    for action in actions:
        with database.write() as session:
            audit_log.append(session, "anna", action, "result 1", note="ä\u2028", number=0.1, nothing=None)


def verified(database: Database, noted: Head | None = None) -> Verification:
    with database.read() as session:
        return audit_log.verify(session, noted)


def logged(database: Database) -> list[tuple[str, str, str]]:
    with database.read() as session:
        return [(entry.who, entry.action, entry.subject) for entry in audit_log.entries(session)]


def tamper(database: Database, *statements: str) -> None:
    """Change the log as whoever owns the database can."""
    with database.write() as session:
        if database.url.startswith("sqlite"):
            for change in ("update", "delete"):
                session.execute(text(f"DROP TRIGGER IF EXISTS decision_log_{change}"))
        else:
            session.execute(text("ALTER TABLE decision_log DISABLE TRIGGER ALL"))
        for statement in statements:
            session.execute(text(statement))


def test_entries_follow_each_other(database: Database) -> None:
    assert verified(database) == Verification(0, None, None)
    log(database, "a", "b", "c")
    found = verified(database)
    assert (found.entries, found.problem) == (3, None)
    with database.read() as session:
        rows = list(audit_log.entries(session))
        assert [row.action for row in audit_log.newest(session, 2)] == ["c", "b"]
    assert [row.number for row in rows] == [1, 2, 3]
    assert [row.previous_hash for row in rows] == [audit_log.START, rows[0].hash, rows[1].hash]
    assert found.head == Head(3, rows[2].hash)
    assert rows[0].details == {"note": "ä\u2028", "number": 0.1, "nothing": None}


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["UPDATE decision_log SET who = 'ben' WHERE number = 2"], "entry 2 was changed"),
        (["UPDATE decision_log SET details = '{}' WHERE number = 3"], "entry 3 was changed"),
        (["UPDATE decision_log SET at = '2020-01-01 00:00:00' WHERE number = 1"], "entry 1 was changed"),
        (["DELETE FROM decision_log WHERE number = 2"], "entry 2 is missing"),
        (["DELETE FROM decision_log WHERE number = 1"], "entry 1 is missing"),
        (
            ["DELETE FROM decision_log WHERE number = 2", "UPDATE decision_log SET number = number - 1 WHERE number > 2"],
            "entry 2 does not follow",
        ),
        (
            [f"UPDATE decision_log SET number = {new} WHERE number = {old}" for old, new in ((2, 9), (3, 2), (9, 3))],
            "entry 2 does not follow",
        ),
        (
            [
                *(f"UPDATE decision_log SET number = {number + 1} WHERE number = {number}" for number in (4, 3)),
                "INSERT INTO decision_log SELECT 3, at, who, action, subject, details, hash, hash FROM decision_log "
                "WHERE number = 2",
            ],
            "entry 3 was changed",
        ),
    ],
    ids=["who", "details", "time", "deleted", "first deleted", "deleted, closed up", "reordered", "inserted"],
)
def test_whatever_is_done_to_an_entry_is_seen(database: Database, statements: list[str], words: str) -> None:
    log(database, "a", "b", "c", "d")
    assert verified(database).problem is None
    tamper(database, *statements)
    assert words in (verified(database).problem or "")


def test_a_noted_hash_shows_what_the_chain_alone_cannot(database: Database) -> None:
    log(database, "a", "b", "c")
    noted = verified(database).head
    assert noted is not None
    log(database, "d")
    assert verified(database, noted).problem is None
    tamper(database, "DELETE FROM decision_log WHERE number > 2")
    assert verified(database).problem is None  # what is cut off the end leaves no hole
    assert "entry 3, which was noted, is missing" in (verified(database, noted).problem or "")
    log(database, "another c")
    assert verified(database).problem is None
    assert "entry 3 is not the one that was noted" in (verified(database, noted).problem or "")


@pytest.mark.parametrize(
    "statement", ["UPDATE decision_log SET who = 'ben'", "DELETE FROM decision_log", "TRUNCATE decision_log"]
)
def test_the_database_refuses_changes(database: Database, statement: str) -> None:
    log(database, "a")
    if statement.startswith("TRUNCATE") and database.url.startswith("sqlite"):
        statement = "DELETE FROM decision_log WHERE number = 1"
    with pytest.raises(StoreUnavailable, match="only added to"), database.write() as session:
        session.execute(text(statement))
    assert verified(database).entries == 1


def test_what_is_rolled_back_was_never_decided(database: Database) -> None:
    with pytest.raises(RuntimeError), database.write() as session:
        audit_log.append(session, "anna", "a", "result 1")
        raise RuntimeError
    with Session(database.engine) as session:
        audit_log.append(session, "anna", "b", "result 1")
        session.rollback()
        audit_log.append(session, "anna", "c", "result 1")
        session.commit()
        audit_log.append(session, "anna", "d", "result 1")
        session.commit()
    assert [action for _, action, _ in logged(database)] == ["c", "d"]
    assert verified(database).problem is None


def test_writers_at_once_make_one_chain(database: Database) -> None:
    writers, each = 6, 8
    begin = threading.Barrier(writers)

    def write(who: int) -> None:
        begin.wait()
        for number in range(each):
            with database.write() as session:
                for part in range(2):
                    audit_log.append(session, f"writer {who}", "a", f"result {number}", part=part)

    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(write, range(writers)))
    found = verified(database)
    assert (found.entries, found.problem) == (writers * each * 2, None)
    # What one transaction decided stands together, in its order.
    with database.read() as session:
        rows = list(audit_log.entries(session))
    for one, other in zip(rows[::2], rows[1::2], strict=True):
        assert (one.who, one.subject, one.details["part"]) == (other.who, other.subject, 0)


def test_decisions_on_the_same_things_in_any_order_wait_for_nobody_for_ever(database: Database, pictures: list[int]) -> None:
    """Each transaction decides about two results; half of them begin with the one, half with the other, and all must log."""
    begin = threading.Barrier(4)

    def decide(who: int) -> None:
        order = pictures if who % 2 else pictures[::-1]
        begin.wait()
        for result_id in order:
            with database.write() as session:
                reviews.add_review(session, result_id, ReviewDecision.MANIPULATED, f"person {who}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(decide, range(4)))
    assert (verified(database).entries, verified(database).problem) == (8, None)


@pytest.fixture
def pictures(database: Database, new_job: Callable[..., NewJob], new_result: Callable[..., AuditResult]) -> list[int]:
    """Results of two pictures."""
    with database.write() as session:
        made = jobs.add_jobs(session, [new_job("a", sha256=SHA), new_job("b", sha256="cd" * 32)])
        results = [new_result(job.id) for job in made]
        session.add_all(results)
        session.flush()
        return [result.id or 0 for result in results]


def test_every_kind_of_decision_has_its_entry(database: Database, pictures: list[int]) -> None:
    with database.write() as session:
        reviews.add_review(session, pictures[0], ReviewDecision.AUTHENTIC, "anna", "a mirror")
    with database.write() as session:
        new = NewAnnotation(
            sha256=SHA,
            annotator="anna",
            kind=AnnotationKind.BOXES,
            origin=AnnotationOrigin.PAGE,
            boxes=(PixelBox(x0=0, y0=0, x1=2, y1=2),),
            width_px=4,
            height_px=3,
        )
        row_id = annotations.add_annotation(session, new).annotation.id or 0
        annotations.add_annotation(session, new)  # said before: nothing new
    with database.write() as session:
        annotations.retract(session, row_id, "ben", "wrong picture", AnnotationOrigin.PAGE)
    with database.write() as session:
        for version in ("v1", "v2"):
            registry.register(session, version, {}, "/models", "trainer", "trained", uuid.uuid4(), {"f1": 0.5})
            registry.promote(session, version, "carla", "better")
        registry.rollback(session, "carla", "worse after all")
        registry.reject(session, "v2", "carla", "never again")
    with database.write() as session:
        api_keys.create(session, "shop", [Scope.SUBMIT], by="carla")
        api_keys.revoke(session, "shop", by="carla")
        api_keys.revoke(session, "shop", by="carla")
        people.add(session, "Dora", Role.VIEWER, "carla")
        people.set_role(session, people.get(session, "dora"), Role.ADMIN, "carla")
        people.set_password(session, people.get(session, "dora"), "$argon2id$", "carla")
        people.set_disabled(session, people.get(session, "dora"), True, "carla")
        people.set_disabled(session, people.get(session, "dora"), False, "carla")
    assert logged(database) == [
        ("anna", "review.add", f"result {pictures[0]}"),
        ("anna", "annotation.add", f"picture {SHA}"),
        ("ben", "annotation.undo", f"picture {SHA}"),
        ("trainer", "model.register", "model v1"),
        ("carla", "model.promote", "model v1"),
        ("trainer", "model.register", "model v2"),
        ("carla", "model.promote", "model v2"),
        ("carla", "model.rollback", "model v1"),
        ("carla", "model.reject", "model v2"),
        ("carla", "key.create", "key shop"),
        ("carla", "key.revoke", "key shop"),
        ("carla", "person.add", "person Dora"),
        ("carla", "person.role", "person Dora"),
        ("carla", "person.password", "person Dora"),
        ("carla", "person.disable", "person Dora"),
        ("carla", "person.enable", "person Dora"),
    ]
    assert verified(database).problem is None
    with database.read() as session:
        entry = next(audit_log.entries(session, subject=f"result {pictures[0]}"))
        review = session.exec(select(Review)).one()
        undone = session.exec(select(BoxAnnotation)).all()[-1]
        undo = [each for each in audit_log.entries(session, subject=f"picture {SHA}") if each.action == "annotation.undo"]
    assert (entry.details["row"], entry.details["decision"], entry.details["note"]) == (review.id, "authentic", "a mirror")
    assert (undo[0].details["row"], undo[0].details["note"], undo[0].details["replaces"]) == (undone.id, "wrong picture", row_id)


def test_a_decision_that_is_refused_is_not_logged(database: Database, pictures: list[int]) -> None:
    with pytest.raises(InvalidInput), database.write() as session:
        reviews.add_review(session, pictures[0], ReviewDecision.AUTHENTIC, "anna")
        reviews.add_review(session, 999, ReviewDecision.AUTHENTIC, "anna")
    assert logged(database) == []


def test_long_logs_are_read_in_pages(sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "_PAGE", 3)
    log(sqlite, *"abcdefgh")
    with sqlite.read() as session:
        assert [entry.action for entry in audit_log.entries(session, after=2)] == list("cdefgh")
        assert len(session.identity_map) == 0
        assert [entry.number for entry in audit_log.entries(session, subject="result 1")] == list(range(1, 9))
        assert session.exec(select(LogEntry)).first() is not None
    assert verified(sqlite).entries == 8
