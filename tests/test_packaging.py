import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NOT_SHIPPED = {"tests", "samples", "benchmarks", "docs"}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rooms(project: dict[str, Any]) -> list[str]:
    packages: list[str] = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    return packages


def test_every_room_on_disk_is_in_the_wheel(rooms: list[str]) -> None:
    on_disk = {path.parent.name for path in ROOT.glob("*/__init__.py")} - NOT_SHIPPED
    assert on_disk == set(rooms)


def test_no_other_distribution_owns_one_of_our_names(rooms: list[str]) -> None:
    owners = packages_distributions()
    assert {room: set(owners.get(room, [])) - {"tamperwatch"} for room in rooms} == {room: set() for room in rooms}
    assert not set(rooms) & sys.stdlib_module_names


def test_rooms_are_checked_by_types_and_import_rules(project: dict[str, Any], rooms: list[str]) -> None:
    code = set(rooms) - {"deploy"}  # migrations are run by Alembic, not imported
    assert set(project["tool"]["mypy"]["packages"]) == code
    assert set(project["tool"]["importlinter"]["root_packages"]) == code


def test_pins_name_versions_and_no_hosts() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins
    assert [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)] == []


def test_what_the_package_needs_is_pinned(project: dict[str, Any]) -> None:
    pinned = {_normal(line.partition("==")[0]) for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()}
    declared = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["test"]]
    needed = {_normal(re.split(r"[\[<>=; ]", requirement)[0]) for requirement in declared}
    assert needed - pinned == set()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
