"""How the trainer is put together."""

import os
from pathlib import Path

import pytest

from cli.trainer import serve
from schemas.settings import BlobSettings, Settings


def test_what_makes_workers_stop_at_once_is_not_the_trainers(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []
    monkeypatch.setenv("REMAP_SIGTERM", "SIGQUIT")
    monkeypatch.setattr("scheduler.trainer_role.run_trainer", lambda *_: seen.append(os.environ.get("REMAP_SIGTERM")))
    serve(Settings(database_url=sqlite_url, blobs=BlobSettings(directory=tmp_path / "blobs")))
    assert seen == [None]
