from datetime import datetime
from pathlib import Path

import pytest

from schemas.errors import BlobStoreUnavailable, StoreUnavailable
from schemas.settings import BlobSettings
from storage.blobs import BlobStore, open_blob_store
from storage.database import Database
from storage.telemetry_health import Health, check_blobs, check_store, store_checks


def fine() -> str:
    return "answers"


def refuse() -> str:
    raise StoreUnavailable("postgresql://me:hunter2@db does not answer")


def defect() -> str:
    raise ZeroDivisionError


def test_all_parts_well_is_well() -> None:
    ok, report = Health("worker", {"a": fine}, {"b": fine}).live()
    assert ok
    assert (report["role"], report["ok"], list(report["parts"])) == ("worker", True, ["a"])
    assert report["parts"]["a"]["words"] == "answers"
    assert datetime.fromisoformat(report["parts"]["a"]["since"]).tzinfo is not None


def test_one_part_unwell_is_named_with_its_reason_and_no_password() -> None:
    health = Health("worker", {}, {"a": fine, "b": refuse, "c": defect})
    ok, report = health.ready()
    assert not ok
    assert [(name, part["ok"]) for name, part in report["parts"].items()] == [("a", True), ("b", False), ("c", False)]
    assert report["parts"]["b"]["words"] == "postgresql://me:***@db does not answer"
    assert report["parts"]["c"]["words"] == "ZeroDivisionError"
    assert health.live() == (True, {"role": "worker", "ok": True, "parts": {}})


def test_since_is_when_it_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(datetime.fromisoformat(f"2026-01-01T00:00:0{second}+00:00") for second in range(9))
    monkeypatch.setattr("storage.telemetry_health.now", lambda: next(times))
    checks = {"a": fine}
    health = Health("worker", checks, {"a": lambda: checks["a"]()})

    def since() -> str:
        return str(health.ready()[1]["parts"]["a"]["since"][-8:-6])

    assert [since(), since()] == ["00", "00"]
    checks["a"] = refuse
    assert [since(), since()] == ["01", "01"]
    checks["a"] = fine
    assert since() == "02"


def test_the_stores_are_asked(database: Database, blobs: BlobStore) -> None:
    assert check_store(database) == check_blobs(blobs) == "answers"
    assert Health("web", {}, store_checks(database, blobs)).ready()[0]


def test_a_store_that_is_not_there_is_an_error() -> None:
    gone = Database("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    with pytest.raises(StoreUnavailable):
        check_store(gone)
    gone.close()


def test_a_blob_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("")
    with pytest.raises(BlobStoreUnavailable, match="cannot use"):
        check_blobs(open_blob_store(BlobSettings(directory=tmp_path / "blobs")))
