import pytest
from sqlalchemy import text
from sqlmodel import Session

from schemas.errors import InvalidInput, StoreUnavailable
from schemas.states import ModelStage
from schemas.tables import ModelVersion
from storage import registry
from storage.database import Database


def register(session: Session, version: str) -> ModelVersion:
    return registry.register(session, version, {"name": version}, f"/models/{version}", "trained")


def stages(database: Database) -> dict[str, ModelStage]:
    with database.read() as session:
        return {row.version: row.stage for row in registry.versions(session)}


def test_the_packaged_student_becomes_live_where_nothing_ever_was(database: Database) -> None:
    for _ in range(2):
        with database.write() as session:
            row = registry.ensure_live(session, "student-1", {"a": 1}, registry.PACKAGE_LOCATION)
            assert (row.version, row.stage, row.card) == ("student-1", ModelStage.LIVE, {"a": 1})
    assert stages(database) == {"student-1": ModelStage.LIVE}


def test_a_new_release_does_not_replace_what_is_live(database: Database) -> None:
    with database.write() as session:
        registry.ensure_live(session, "student-1", {}, registry.PACKAGE_LOCATION)
    with database.write() as session:
        assert registry.ensure_live(session, "student-2", {}, registry.PACKAGE_LOCATION).version == "student-1"
    assert stages(database) == {"student-1": ModelStage.LIVE, "student-2": ModelStage.CANDIDATE}


def test_making_a_version_live_retires_the_other_and_rolling_back_reverses_it(database: Database) -> None:
    with database.write() as session:
        register(session, "a"), register(session, "b")
        registry.set_live(session, "a", "first")
    with database.write() as session:
        registry.set_live(session, "b", "better on the hold-out")
    assert stages(database) == {"a": ModelStage.RETIRED, "b": ModelStage.LIVE}
    with database.read() as session:
        assert registry.get(session, "a").reason == "replaced by b"
        assert registry.get(session, "b").reason == "better on the hold-out"
    with database.write() as session:
        registry.set_live(session, "a", "rolled back")
    assert stages(database) == {"a": ModelStage.LIVE, "b": ModelStage.RETIRED}
    with database.read() as session:
        live = registry.live(session)
        assert live is not None and (live.version, live.reason) == ("a", "rolled back")


def test_a_live_version_made_live_again_keeps_its_reason(database: Database) -> None:
    with database.write() as session:
        register(session, "a")
        registry.set_live(session, "a", "first")
        assert registry.set_live(session, "a", "second").reason == "first"


def test_a_flip_that_fails_leaves_the_old_version_live(database: Database) -> None:
    with database.write() as session:
        register(session, "a"), register(session, "b")
        registry.set_live(session, "a", "first")
    with pytest.raises(ZeroDivisionError), database.write() as session:
        registry.set_live(session, "b", "better")
        raise ZeroDivisionError
    assert stages(database) == {"a": ModelStage.LIVE, "b": ModelStage.CANDIDATE}


def test_the_database_itself_refuses_two_live_versions(database: Database) -> None:
    with database.write() as session:
        register(session, "a"), register(session, "b"), register(session, "c")
        registry.set_live(session, "a", "first")
    with pytest.raises(StoreUnavailable, match=r"(?i)unique"), database.write() as session:
        session.connection().execute(text("UPDATE model_version SET stage = 'live' WHERE version = 'b'"))
    with database.write() as session:  # any number may be retired
        session.connection().execute(text("UPDATE model_version SET stage = 'retired' WHERE version <> 'a'"))
    assert stages(database) == {"a": ModelStage.LIVE, "b": ModelStage.RETIRED, "c": ModelStage.RETIRED}


def test_registering_a_known_version_changes_nothing(database: Database) -> None:
    with database.write() as session:
        register(session, "a")
        again = registry.register(session, "a", {"other": 1}, "/elsewhere", "again")
        assert (again.card, again.location, again.reason) == ({"name": "a"}, "/models/a", "trained")


def test_an_unknown_version_is_named(database: Database) -> None:
    with database.read() as session, pytest.raises(InvalidInput, match="no model version 'x'"):
        registry.get(session, "x")
    with pytest.raises(InvalidInput, match="no model version 'x'"), database.write() as session:
        registry.set_live(session, "x", "why not")


def test_versions_come_newest_first(database: Database) -> None:
    for name in ("a", "b", "c"):
        with database.write() as session:
            register(session, name)
    assert list(stages(database)) == ["c", "b", "a"]


def test_nothing_is_live_before_the_first(database: Database) -> None:
    with database.read() as session:
        assert registry.live(session) is None
