"""`tamperwatch audit` when the last files cannot be written: what was found is shown all the same, and the reason after it."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from cli import audit
from schemas.records import AuditRecord
from schemas.settings import Settings
from schemas.states import Verdict
from tests.cli.conftest import Tamperwatch

VERSION = SimpleNamespace(version="student-9")


class NoStack:
    """The embedded stack's place, with nothing behind it."""

    def __init__(self, folder: Path, settings: Settings, *_: object) -> None:
        folder.mkdir(parents=True)
        self.database, self.settings = None, settings

    def __enter__(self) -> "NoStack":
        return self

    def __exit__(self, *_: object) -> None:
        pass


class NoRun(NoStack):
    """A run that finds every picture suspicious."""

    def __init__(self, *_: object) -> None:
        pass

    def finish(self, files: Sequence[object]) -> list[AuditRecord]:
        found = {"status": "done", "score": 0.9, "verdict": Verdict.FLAG, "area": 0.5, "width": 1, "height": 1}
        return [AuditRecord(image=f"picture-{number}.jpg", **found) for number in range(len(files))]

    def thumbnails(self, _: AuditRecord) -> None:
        return None


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(audit, "EmbeddedStack", NoStack)
    monkeypatch.setattr(audit, "AuditRun", NoRun)
    monkeypatch.setattr(audit, "live_version", lambda _: VERSION)
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"x")
    return folder


@pytest.mark.parametrize("name", ["results.jsonl", "report.html"])
@pytest.mark.parametrize("as_json", [True, False], ids=["json", "table"])
def test_a_full_disk_does_not_hide_what_was_found(
    tamperwatch: Tamperwatch, pictures: Path, tmp_path: Path, name: str, as_json: bool
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f".{name}.part").symlink_to("/dev/full")

    ran = tamperwatch("audit", str(pictures), "--out", "out", *(["--json"] if as_json else []))

    assert ran.code == 3
    assert "picture-0.jpg" in ran.out and "flag" in ran.out
    assert ran.err.startswith(f"error (disk_full): no space left to write out/{name}; free some")


def test_with_room_everything_is_written_and_said(tamperwatch: Tamperwatch, pictures: Path, tmp_path: Path) -> None:
    ran = tamperwatch("audit", str(pictures), "--out", "[/]out")

    assert ran.code == 0
    assert "1 picture: 1 flag, 0 review, 0 pass, 0 failed" in ran.out
    assert "report    [/]out/report.html" in ran.out
    assert {path.name for path in (tmp_path / "[" / "]out").iterdir()} == {".tamperwatch", "results.jsonl", "report.html"}
