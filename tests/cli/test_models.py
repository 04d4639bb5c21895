"""`tamperwatch models list|show`: versions and their cards, whatever their text holds."""

import json

import pytest

from model.card import Card, builtin_directory
from storage import registry
from storage.database import Database
from tests.cli.conftest import Tamperwatch

CARD = {"version": "odd-1", "notes": ["[red]not markup[/]"], "metrics": {"overall": {"f1": 0.123456789}}, "licence": "test"}


@pytest.fixture
def versions(sqlite: Database) -> str:
    """The packaged student, live, and a candidate with odd words; the database's URL."""
    card = Card.load(builtin_directory())
    with sqlite.write() as session:
        registry.ensure_live(session, card.version, card.model_dump(mode="json"), registry.PACKAGE_LOCATION)
        registry.register(session, "odd-1", CARD, "/somewhere", "tester", "because [/] of \x1b[31mreasons")
    return sqlite.url


def test_list_shows_each_version_with_its_stage(tamperwatch: Tamperwatch, versions: str) -> None:
    ran = tamperwatch("models", "list", DATABASE_URL=versions)

    rows = ran.out.splitlines()
    assert ran.code == 0
    assert rows[0].split() == ["version", "stage", "since", "(UTC)", "why"]
    assert [row.split()[:2] for row in rows[1:3]] == [["odd-1", "candidate"], [Card.load(builtin_directory()).version, "live"]]
    assert "because [/] of" in rows[1]
    assert "\x1b" not in ran.out


def test_show_is_the_live_one_by_default(tamperwatch: Tamperwatch, versions: str) -> None:
    card = Card.load(builtin_directory())

    ran = tamperwatch("models", "show", DATABASE_URL=versions)

    assert ran.code == 0
    assert ran.out.splitlines()[0].split()[:2] == [card.version, "live"]
    said = " ".join(ran.out.split())
    assert "teacher grabcut-320" in said and "1662 pictures: nist16 294" in said
    assert "first model of" in said and "ships with the release" in said


def test_show_a_named_one_with_its_card(tamperwatch: Tamperwatch, versions: str) -> None:
    ran = tamperwatch("models", "show", "odd-1", "--card", DATABASE_URL=versions)

    assert ran.code == 0
    assert "metrics.overall.f1" in ran.out and "0.1235" in ran.out
    assert "[red]not markup[/]" in ran.out
    assert "\x1b" not in ran.out


def test_show_as_json_is_everything(tamperwatch: Tamperwatch, versions: str) -> None:
    ran = tamperwatch("models", "show", "odd-1", "--json", DATABASE_URL=versions)

    told = json.loads(ran.out)
    assert told["card"] == CARD
    assert (told["version"], told["stage"], told["run"], told["boxes"], told["parents"]) == ("odd-1", "candidate", None, None, [])
    assert [(each["action"], each["who"]) for each in told["decisions"]] == [("register", "tester")]


def test_an_unknown_version(tamperwatch: Tamperwatch, versions: str) -> None:
    ran = tamperwatch("models", "show", "[/]nobody", DATABASE_URL=versions)

    assert (ran.code, ran.out) == (2, "")
    assert "no model version '[/]nobody'; `tamperwatch models list` shows them" in ran.err


def test_there_is_always_a_live_one(tamperwatch: Tamperwatch, sqlite: Database) -> None:
    ran = tamperwatch("models", "show", DATABASE_URL=sqlite.url)

    assert ran.code == 0
    assert Card.load(builtin_directory()).version in ran.out
