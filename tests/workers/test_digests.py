import sqlite3
from pathlib import Path

import pytest

from workers.digests import Digests

STAMPS = {"a\udcff": "ab" * 32, "b": "cd" * 32}


def test_what_was_remembered_is_known_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "digests.db"
    with Digests(path) as digests:
        assert digests.known(STAMPS) == {}
        digests.remember(STAMPS)
    with Digests(path) as digests:
        assert digests.known([*STAMPS, "c"]) == STAMPS
        digests.remember({"b": "ef" * 32})
        assert digests.known(["b"]) == {"b": "ef" * 32}


def test_without_a_file_nothing_is_known() -> None:
    with Digests(None) as digests:
        digests.remember(STAMPS)
        assert digests.known(STAMPS) == {}


@pytest.mark.parametrize("content", [b"no database" * 100, None], ids=["damaged", "a folder"])
def test_a_file_that_cannot_be_used_only_costs_time(
    tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "digests.db"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with Digests(path) as digests:
        digests.remember(STAMPS)
        assert digests.known(STAMPS) == {}
    assert "is not used, everything is read" in caplog.text


def test_a_file_that_breaks_under_way_only_costs_time(tmp_path: Path) -> None:
    path = tmp_path / "digests.db"
    with Digests(path) as digests:
        digests.remember(STAMPS)
        other = sqlite3.connect(path)
        other.execute("DROP TABLE digest")
        other.close()
        assert digests.known(STAMPS) == {}
        digests.remember(STAMPS)
        assert digests.known(STAMPS) == {}
