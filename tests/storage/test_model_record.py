"""Where a version comes from: by the runs that made it, by what cards say, and never in circles."""

from typing import Any

from sqlmodel import Session

from schemas.learning_tables import RetrainRun
from schemas.states import RetrainTrigger
from storage import registry
from storage.database import Database
from storage.model_record import model_record


def made(session: Session, version: str, parent: str | None = None, initial: Any = None) -> None:
    card = {"training": {"initial": initial}} if initial is not None else {}
    registry.register(session, version, card, "-", "tester", "test")
    if parent is not None:
        session.add(RetrainRun(trigger=RetrainTrigger.MANUAL, candidate_version=version, parent_version=parent))
        session.flush()


def line(database: Database, version: str) -> list[tuple[str, bool]]:
    with database.read() as session:
        return [(each.name, each.row is not None) for each in model_record(session, version).ancestors]


def test_parents_to_the_root(sqlite: Database) -> None:
    with sqlite.write() as session:
        made(session, "a", initial="start at step 1500 (b2fb325b1196)")
        made(session, "b", initial="a (0123456789ab)")
        made(session, "c", parent="b", initial="somebody else (0)")
        made(session, "d", parent="gone")
        made(session, "e", initial=["no text"])
    assert line(sqlite, "c") == [("b", True), ("a", True), ("start at step 1500 (b2fb325b1196)", False)]
    assert line(sqlite, "d") == [("gone", False)]
    assert line(sqlite, "e") == []


def test_a_circle_ends(sqlite: Database) -> None:
    with sqlite.write() as session:
        made(session, "a", parent="b")
        made(session, "b", parent="a")
    assert line(sqlite, "a") == [("b", True)]


def test_the_newest_run_of_a_version_counts_and_decisions_are_those_that_concern_it(sqlite: Database) -> None:
    with sqlite.write() as session:
        made(session, "a", parent="x")
        session.add(RetrainRun(trigger=RetrainTrigger.MANUAL, candidate_version="a", parent_version="y"))
        made(session, "b")
        registry.promote(session, "a", "tester", "test")
        registry.promote(session, "b", "tester", "test")
        registry.reject(session, "a", "tester", "test")
    with sqlite.read() as session:
        record = model_record(session, "a")
    assert record.run is not None and record.run.parent_version == "y"
    assert [(each.action.value, each.version) for each in record.decisions] == [
        ("register", "a"),
        ("promote", "a"),
        ("promote", "b"),
        ("reject", "a"),
    ]
