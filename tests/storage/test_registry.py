"""Versions, their stages, and the record of who moved them and why."""

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlmodel import Session

from schemas.errors import InvalidInput, StoreUnavailable
from schemas.states import ModelAction, ModelStage
from schemas.tables import ModelVersion
from storage import registry
from storage.database import Database


def register(session: Session, version: str) -> ModelVersion:
    return registry.register(session, version, {"name": version}, f"/models/{version}", "ada", "trained")


def promote(database: Database, version: str, **changes: object) -> ModelVersion:
    with database.write() as session:
        register(session, version)
        return registry.promote(session, version, "ada", f"{version} is better", **changes)  # type: ignore[arg-type]


def rollback(database: Database, **changes: object) -> str:
    with database.write() as session:
        return registry.rollback(session, "bob", "it misses faces", **changes).version  # type: ignore[arg-type]


def reject(database: Database, version: str) -> None:
    with database.write() as session:
        registry.reject(session, version, "bob", "worse on WeChat.")


def stages(database: Database) -> dict[str, ModelStage]:
    with database.read() as session:
        return {row.version: row.stage for row in registry.versions(session)}


def live(database: Database) -> str:
    with database.read() as session:
        row = registry.live(session)
        assert row is not None
        return row.version


def told(database: Database, version: str | None = None) -> list[tuple[str, str, str | None, str]]:
    with database.read() as session:
        return [(each.version, each.action.value, each.from_version, each.who) for each in registry.decisions(session, version)]


def test_the_packaged_student_becomes_live_where_nothing_ever_was(database: Database) -> None:
    for _ in range(2):
        with database.write() as session:
            row = registry.ensure_live(session, "student-1", {"a": 1}, registry.PACKAGE_LOCATION)
            assert (row.version, row.stage, row.card) == ("student-1", ModelStage.LIVE, {"a": 1})
    assert stages(database) == {"student-1": ModelStage.LIVE}
    assert told(database) == [
        ("student-1", "register", None, registry.OURSELVES),
        ("student-1", "promote", None, registry.OURSELVES),
    ]


def test_a_new_release_does_not_replace_what_is_live(database: Database) -> None:
    with database.write() as session:
        registry.ensure_live(session, "student-1", {}, registry.PACKAGE_LOCATION)
    with database.write() as session:
        assert registry.ensure_live(session, "student-2", {}, registry.PACKAGE_LOCATION).version == "student-1"
    assert stages(database) == {"student-1": ModelStage.LIVE, "student-2": ModelStage.CANDIDATE}


def test_promoting_a_version_retires_the_other_and_says_so(database: Database) -> None:
    run = uuid.uuid4()
    promote(database, "a")
    promote(database, "b", run_id=run, figures={"f1": 0.7})
    assert stages(database) == {"a": ModelStage.RETIRED, "b": ModelStage.LIVE}
    with database.read() as session:
        assert registry.get(session, "a").reason == "replaced by b"
        assert registry.get(session, "b").reason == "b is better"
        *_, decision = registry.decisions(session)
    assert (decision.action, decision.version, decision.from_version) == (ModelAction.PROMOTE, "b", "a")
    assert (decision.who, decision.reason, decision.run_id, decision.figures) == ("ada", "b is better", run, {"f1": 0.7})


def test_a_live_version_promoted_again_keeps_its_reason_and_adds_no_row(database: Database) -> None:
    promote(database, "a")
    before = told(database)
    with database.write() as session:
        assert registry.promote(session, "a", "bob", "again", from_version="whatever").reason == "a is better"
    assert told(database) == before


def test_a_change_that_fails_leaves_neither_stage_nor_record(database: Database) -> None:
    promote(database, "a")
    with pytest.raises(ZeroDivisionError), database.write() as session:
        register(session, "b")
        registry.promote(session, "b", "ada", "better")
        raise ZeroDivisionError
    assert stages(database) == {"a": ModelStage.LIVE}
    assert {version for version, *_ in told(database)} == {"a"}


def test_the_database_itself_refuses_two_live_versions(database: Database) -> None:
    with database.write() as session:
        register(session, "b"), register(session, "c")
    promote(database, "a")
    with pytest.raises(StoreUnavailable, match=r"(?i)unique"), database.write() as session:
        session.connection().execute(text("UPDATE model_version SET stage = 'live' WHERE version = 'b'"))
    with database.write() as session:  # any number may be retired
        session.connection().execute(text("UPDATE model_version SET stage = 'retired' WHERE version <> 'a'"))
    assert stages(database) == {"a": ModelStage.LIVE, "b": ModelStage.RETIRED, "c": ModelStage.RETIRED}


def test_registering_a_known_version_changes_nothing(database: Database) -> None:
    with database.write() as session:
        register(session, "a")
        again = registry.register(session, "a", {"other": 1}, "/elsewhere", "bob", "again", action=ModelAction.IMPORT)
        assert (again.card, again.location, again.reason) == ({"name": "a"}, "/models/a", "trained")
    assert told(database) == [("a", "register", None, "ada")]


def test_an_unknown_version_is_named(database: Database) -> None:
    with database.read() as session, pytest.raises(InvalidInput, match="no model version 'x'"):
        registry.get(session, "x")
    changes: list[Callable[[Session], object]] = [
        lambda session: registry.promote(session, "x", "ada", "why not"),
        lambda session: registry.reject(session, "x", "ada", "why not"),
        lambda session: registry.rollback(session, "ada", "why not", "x"),
    ]
    for change in changes:
        with pytest.raises(InvalidInput, match="no model version 'x'"), database.write() as session:
            change(session)


@pytest.mark.parametrize(("who", "reason", "words"), [(" ", "r", "who decides"), ("w" * 129, "r", "who"), ("w", " ", "say why")])
def test_nothing_is_decided_by_nobody_or_for_no_reason(sqlite: Database, who: str, reason: str, words: str) -> None:
    promote(sqlite, "a")
    promote(sqlite, "b")
    changes: list[Callable[[Session], object]] = [
        lambda session: registry.register(session, "c", {}, "-", who, reason),
        lambda session: registry.promote(session, "a", who, reason),
        lambda session: registry.reject(session, "a", who, reason),
        lambda session: registry.rollback(session, who, reason),
    ]
    for change in changes:
        with pytest.raises(InvalidInput, match=words), sqlite.write() as session:
            change(session)
    assert live(sqlite) == "b"


def test_a_rejected_version_is_promoted_only_by_an_override_that_is_recorded(database: Database) -> None:
    promote(database, "a")
    with database.write() as session:
        register(session, "b")
    reject(database, "b")
    assert stages(database)["b"] is ModelStage.RETIRED
    with pytest.raises(InvalidInput, match=r"b was rejected by bob \(worse on WeChat\)"):
        promote(database, "b")
    assert live(database) == "a"
    promote(database, "b", override=True, figures={"f1": 0.5})
    assert live(database) == "b"
    with database.read() as session:
        assert registry.decisions(session, "b")[-1].figures == {"f1": 0.5, "override": True}
    promote(database, "a")
    promote(database, "b", override=True)  # it went live since, so there was nothing to override
    with database.read() as session:
        assert registry.decisions(session, "b")[-1].figures == {}


def test_the_live_version_cannot_be_rejected(database: Database) -> None:
    promote(database, "a")
    with pytest.raises(InvalidInput, match="a is live; roll back"):
        reject(database, "a")
    assert told(database, "a")[-1][1] == "promote"


def test_rolling_back_again_goes_further_back_and_a_promotion_starts_from_there(database: Database) -> None:
    for version in ("a", "b", "c"):
        promote(database, version)
    assert [rollback(database), rollback(database)] == ["b", "a"]
    with database.read() as session:
        assert registry.get(session, "a").reason == "back from b: it misses faces"
    with pytest.raises(InvalidInput, match="no version was live before"):
        rollback(database)
    promote(database, "d")
    assert rollback(database) == "a"  # neither b nor c: they were rolled back from
    assert told(database)[-2:] == [("d", "promote", "a", "ada"), ("a", "rollback", "d", "bob")]
    assert stages(database) == {"d": ModelStage.RETIRED, "c": ModelStage.RETIRED, "b": ModelStage.RETIRED, "a": ModelStage.LIVE}


def test_a_version_that_was_live_twice_is_gone_back_to_twice(database: Database) -> None:
    for version in ("a", "b", "a", "c"):
        promote(database, version)
    assert [rollback(database), rollback(database), rollback(database)] == ["a", "b", "a"]


def test_rolling_back_to_a_named_version(database: Database) -> None:
    for version in ("a", "b", "c"):
        promote(database, version)
    assert rollback(database, to="a") == "a"
    assert rollback(database, to="c") == "c"  # back to what was rolled back from
    assert rollback(database) == "a"
    with pytest.raises(InvalidInput, match="a is live already"):
        rollback(database, to="a")
    with database.write() as session:
        register(session, "d")
    with pytest.raises(InvalidInput, match="d was never live"):
        rollback(database, to="d")


def test_what_was_rejected_since_is_not_gone_back_to(database: Database) -> None:
    for version in ("a", "b", "c"):
        promote(database, version)
    reject(database, "b")
    with pytest.raises(InvalidInput, match="b was rejected since"):
        rollback(database, to="b")
    assert rollback(database) == "a"


def test_a_version_made_live_before_decisions_were_recorded_is_gone_back_to(database: Database) -> None:
    with database.write() as session:
        session.add(ModelVersion(version="old", stage=ModelStage.LIVE, location="-", card={}, reason="of old"))
    promote(database, "new")
    assert rollback(database) == "old"


def test_a_decision_against_a_version_that_is_live_no_more_changes_nothing(database: Database) -> None:
    promote(database, "a")
    promote(database, "b", from_version="a")
    with pytest.raises(InvalidInput, match="c was to replace a, but b is live by now"):
        promote(database, "c", from_version="a")
    with pytest.raises(InvalidInput, match="a was to replace x, but b is live by now"):
        rollback(database, from_version="x")
    assert live(database) == "b"


@pytest.mark.parametrize("against", [None, "a"])
def test_of_two_promotions_at_once_one_is_told_that_it_came_too_late(database: Database, against: str | None) -> None:
    """Both have seen `a` live before either changes anything."""
    promote(database, "a")
    with database.write() as session:
        register(session, "b"), register(session, "c")
    both_looked = threading.Barrier(2)

    def promote_after_looking(version: str) -> str:
        seen = live(database)
        both_looked.wait(30)
        try:
            promote(database, version, from_version=against and seen)
        except InvalidInput as error:
            return error.message
        return "done"

    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(promote_after_looking, ("b", "c")))
    if against is None:  # they go one after the other, and both are recorded
        assert answers == ["done", "done"]
    else:
        late = "c" if answers[0] == "done" else "b"
        winner = "b" if late == "c" else "c"
        assert answers.count("done") == 1
        assert f"{late} was to replace a, but {winner} is live by now" in "".join(answers)
    assert list(stages(database).values()).count(ModelStage.LIVE) == 1
    promoted = [version for version, action, *_ in told(database) if action == "promote"]
    assert promoted[-1] == live(database)
    assert len(promoted) == (3 if against is None else 2)


def test_two_workers_that_start_on_an_empty_store_agree(database: Database) -> None:
    at_once = threading.Barrier(2)

    def start(_: int) -> str:
        at_once.wait(30)
        with database.write() as session:
            return registry.ensure_live(session, "student-1", {}, registry.PACKAGE_LOCATION).version

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(start, range(2))) == ["student-1", "student-1"]
    assert [action for _, action, *_ in told(database)] == ["register", "promote"]


def test_versions_come_newest_first(database: Database) -> None:
    for name in ("a", "b", "c"):
        with database.write() as session:
            register(session, name)
    assert list(stages(database)) == ["c", "b", "a"]


def test_nothing_is_live_before_the_first(database: Database) -> None:
    with database.read() as session:
        assert registry.live(session) is None
