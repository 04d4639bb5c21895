"""All versions at a glance: each in the place that the record of decisions gives it."""

import pytest
from sqlmodel import Session

from storage import model_shelf, registry
from storage.database import Database
from storage.model_shelf import shelf


def register(session: Session, *names: str) -> None:
    for name in names:
        registry.register(session, name, {}, "package", "tester", "made")


def test_nothing_is_there_yet(database: Database) -> None:
    with database.read() as session:
        found = shelf(session)
    assert (found.live, list(found.candidates), list(found.former), found.back_to) == (None, [], [], None)


def test_each_in_its_place(database: Database) -> None:
    with database.write() as session:
        registry.ensure_live(session, "first", {}, "package")
        register(session, "second", "third", "bad", "waits", "waits-too")
        registry.promote(session, "second", "anna", "better")
        registry.promote(session, "third", "anna", "better still")
        registry.reject(session, "bad", "rule", "worse")
        registry.reject(session, "second", "anna", "it was not")

    with database.read() as session:
        found = shelf(session)

    assert found.live is not None and found.live.version == "third"
    assert [row.version for row in found.candidates] == ["waits-too", "waits"]
    assert {each.version: each.reason for each in found.rejected} == {
        "second": "rejected: it was not",
        "bad": "rejected: worse",
    }
    assert [each.version for each in found.former] == ["first"]
    assert (list(found.others), found.more, found.back_to) == ([], False, "first")


def test_a_rejected_version_that_is_promoted_all_the_same_is_rejected_no_more(sqlite: Database) -> None:
    with sqlite.write() as session:
        registry.ensure_live(session, "first", {}, "package")
        register(session, "again", "last")
        registry.reject(session, "again", "rule", "worse")
        registry.promote(session, "again", "anna", "the rule erred", override=True)
        registry.promote(session, "last", "anna", "better")

    with sqlite.read() as session:
        found = shelf(session)

    assert [each.version for each in found.rejected] == []
    assert {each.version for each in found.former} == {"first", "again"}


def test_years_of_nights_are_cut_short(sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_shelf, "MOST_RETIRED", 2)
    with sqlite.write() as session:
        registry.ensure_live(session, "first", {}, "package")
        register(session, *(f"night-{number}" for number in range(4)))
        for number in range(4):
            registry.reject(session, f"night-{number}", "rule", "worse")

    with sqlite.read() as session:
        found = shelf(session)

    assert ([each.version for each in found.rejected], found.more) == (["night-3", "night-2"], True)
