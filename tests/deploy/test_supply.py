"""What the CPU image is made of: pinned, hashed, and under licences that the documents name."""

import importlib.util
import re
import sys
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.requirements import requirements
from tests.deploy.known import DEPLOY, ROOT

HASHES = (DEPLOY / "hashes-cpu.txt").read_text(encoding="utf-8")
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)", HASHES, re.MULTILINE))
CONSTRAINTS = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
}


@pytest.fixture(scope="module")
def licences() -> ModuleType:
    """`.ci/licences.py`, which is no package's."""
    spec = importlib.util.spec_from_file_location("licences", ROOT / ".ci" / "licences.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["licences"] = module
    spec.loader.exec_module(module)
    return module


def test_the_hashed_versions_are_those_that_the_tests_run_with() -> None:
    assert PINS
    assert {name: version for name, version in PINS.items() if CONSTRAINTS.get(canonicalize_name(name)) != version} == {}, (
        "run: make hashes"
    )


def test_every_package_has_hashes_and_no_host_is_named() -> None:
    blocks = re.findall(r"^[\w.-]+==\S+.*?(?=^[\w.-]+==|\Z)", HASHES, re.MULTILINE | re.DOTALL)
    assert len(blocks) == len(PINS)
    assert [block for block in blocks if not re.search(r"--hash=sha256:[0-9a-f]{64}", block)] == []
    assert "://" not in HASHES and "--index-url" not in HASHES and "WARNING" not in HASHES


def test_what_the_image_needs_is_in_the_list(monkeypatch: pytest.MonkeyPatch, licences: ModuleType) -> None:
    monkeypatch.chdir(ROOT)
    listed = {canonicalize_name(name) for name in PINS}
    asked = [Requirement(each) for each in requirements(["web", "otel"])]
    wanted = {canonicalize_name(each.name) for each in asked if each.marker is None or each.marker.evaluate()}
    assert wanted - listed == set(), "run: make hashes"
    inside = {name for name, part in licences.needed().items() if part in ("base", "[web]", "[otel]")}
    assert inside - listed == set(), "run: make hashes"


def test_the_image_holds_no_torch() -> None:
    assert [name for name in PINS if "torch" in name or "nvidia" in name] == []


def test_the_table_of_licences_is_that_of_what_is_installed(licences: ModuleType) -> None:
    assert licences.DOCUMENT.read_text(encoding="utf-8") == licences.written(), "run: make licences"


def test_a_licence_that_asks_for_something_is_explained(licences: ModuleType) -> None:
    text = licences.DOCUMENT.read_text(encoding="utf-8")
    explained = text.partition("<!-- written")[0]
    asking = [row for row in licences.table().splitlines() if re.search(r"GPL|SSPL|RSAL|[Pp]roprietary|[Nn]on-?commercial", row)]
    assert asking
    assert [row for row in asking if row.split(" | ")[0].removeprefix("| ").partition("-")[0] not in explained] == []
    assert "research use" in explained and "AGPL" in explained
