"""Commands and names in the deployment's documents exist."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.known import DEPLOY, ROOT, command, setting_names

DOCUMENTS = [
    ROOT / "docs" / "deploy.md",
    ROOT / "docs" / "runbook.md",
    DEPLOY / "helm" / "tamperwatch" / "templates" / "NOTES.txt",
]
_CODE = re.compile(r"```\w*\n(.*?)```|`([^`\n]+)`", re.DOTALL)


def _commands(text: str) -> list[str]:
    shown = [block or inline for block, inline in _CODE.findall(text)] or [text]
    lines = [line for part in shown for line in re.sub(r"\\\n", " ", part).splitlines()]
    ours = [re.search(r"(?:^|-- |run --rm migrate |&& )tamperwatch (?=[a-z])(.*)", line) for line in lines]
    migrated = [re.search(r"run --rm migrate (?=[a-z])(.*)", line) for line in lines]
    return [re.split(r" [#<]|[;&|']", found.group(1))[0].strip() for found in [*ours, *migrated] if found]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_of_ours_exists_with_its_options(path: Path) -> None:
    found = _commands(path.read_text(encoding="utf-8"))
    assert found
    for line in found:
        words = shlex.split(line)
        node: Any = command()
        while words and words[0] in getattr(node, "commands", {}):
            node = node.commands[words.pop(0)]
        assert node is not command(), line
        options = {name for each in node.params for name in (*each.opts, *each.secondary_opts)} | {"--help"}
        assert {word for word in words if word.startswith("--")} - options == set(), line


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_variable_exists(path: Path) -> None:
    named = set(re.findall(r"TAMPERWATCH_[A-Z0-9_]*[A-Z0-9]", path.read_text(encoding="utf-8")))
    assert named - setting_names() == set()


def test_what_is_written_of_files_is_there() -> None:
    named = set(re.findall(r"(?:deploy|docs|\.ci)/[\w./-]+\w", (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")))
    made = {"deploy/secrets/grafana_password", "deploy/secrets"}
    assert {name for name in named - made if not (ROOT / name).exists()} == set()


def test_what_stops_a_threat_is_shown_by_a_test_that_exists() -> None:
    rows = [line for line in (ROOT / "docs" / "security.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")][
        1:
    ]
    assert len(rows) > 10
    for row in rows:
        named = re.findall(r"`(tests/[\w/.]+)`", row)
        assert named, row
        assert [path for path in named if not (ROOT / path).exists()] == [], row


def test_a_benchmark_that_is_named_can_be_run() -> None:
    text = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("deploy.md", "operations.md"))
    named = set(re.findall(r"python -m benchmarks\.(\w+)", text))
    assert {name for name in named if not (ROOT / "benchmarks" / f"{name}.py").is_file()} == set()
