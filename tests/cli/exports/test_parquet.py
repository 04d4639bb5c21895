import io
import sys
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from pyarrow import parquet

from cli.exports.parquet import parquet_writer
from cli.exports.text import COLUMNS
from schemas.errors import EnvironmentMissing
from schemas.states import Verdict
from storage.export_rows import ExportRow

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)


def row(cursor: int, **changes: Any) -> ExportRow:
    values: dict[str, Any] = {
        "image": "=a.jpg", "sha256": None, "source_profile": "weibo",
        "profile": "none", "score": 0.5, "verdict": Verdict.FLAG, "second_score": None,
        "stable": None, "area": 0.25, "mask_agreement": 1.0, "regions": [], "model_version": "m1", "width": 4, "height": 3,
        "latency_ms": 1.5, "created_at": AT, "job_id": uuid.UUID(int=1), "submission": None, "client_ref": None,
        "reused_from": None,
    }  # fmt: skip
    return ExportRow(cursor, **values | changes)


def test_pages_become_row_groups_with_types() -> None:
    region = {"box": {"x0": 0, "y0": 1, "x1": 2, "y1": 3}, "score": 0.75}
    file = io.BytesIO()
    with parquet_writer(file) as write:
        assert write([row(1), row(2, stable=True, reused_from=2**40, regions=[region])]) == []
        write([row(3)])
    file.seek(0)
    read = parquet.ParquetFile(file)
    assert (read.num_row_groups, read.schema_arrow.names) == (2, list(COLUMNS))
    lines = read.read().to_pylist()
    assert [line["cursor"] for line in lines] == [1, 2, 3]
    assert (lines[0]["source_profile"], lines[0]["reused_from"], lines[1]["reused_from"]) == ("weibo", None, 2**40)
    assert (lines[0]["image"], lines[0]["verdict"], lines[0]["created_at"]) == ("=a.jpg", "flag", AT)
    assert (lines[0]["stable"], lines[0]["sha256"], lines[1]["stable"]) == (None, None, True)
    assert lines[1]["regions"] == [region]


def test_a_file_of_nothing_is_whole_and_stays_open() -> None:
    file = io.BytesIO()
    with parquet_writer(file):
        pass
    file.seek(0)
    assert parquet.ParquetFile(file).metadata.num_rows == 0


def test_without_pyarrow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(EnvironmentMissing, match=r"tamperwatch\[export\]"), parquet_writer(io.BytesIO()):
        pass
