import csv
import io
import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.exports.text import COLUMNS, csv_writer, fields_of, jsonl_writer, safe_cell
from schemas.states import Verdict
from storage.export_rows import ExportRow

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1", '=HYPERLINK("http://x")', "'=1"]  # noqa: RUF001


def row(**changes: Any) -> ExportRow:
    values: dict[str, Any] = {
        "cursor": 7, "image": "a.jpg", "sha256": None, "source_profile": "weibo",
        "profile": "none", "score": 0.5, "verdict": Verdict.FLAG,
        "second_score": None, "stable": True, "area": 0.25, "mask_agreement": 1.0,
        "regions": [{"box": {"x0": 0, "y0": 0, "x1": 2, "y1": 1}, "score": 0.75}], "model_version": "m1", "width": 4, "height": 3,
        "latency_ms": 1.23456, "created_at": datetime(2026, 11, 1, tzinfo=UTC), "job_id": uuid.UUID(int=1), "submission": "s",
        "client_ref": None, "reused_from": 3,
    }  # fmt: skip
    return ExportRow(**values | changes)


def as_csv(*rows: ExportRow) -> list[dict[str, str]]:
    file = io.BytesIO()
    with csv_writer(file) as write:
        assert write(rows) == []
    return list(csv.DictReader(io.StringIO(file.getvalue().decode(), newline="")))


def test_csv_has_a_header_and_plain_values() -> None:
    (line,) = as_csv(row())
    assert tuple(line) == COLUMNS
    assert (line["cursor"], line["verdict"], line["score"], line["stable"]) == ("7", "flag", "0.5", "true")
    assert (line["source_profile"], line["reused_from"]) == ("weibo", "3")
    assert (line["sha256"], line["second_score"], line["client_ref"]) == ("", "", "")
    assert line["created_at"] == "2026-11-01T00:00:00+00:00"
    assert json.loads(line["regions"])[0]["box"]["x1"] == 2


def test_csv_of_nothing_is_its_header() -> None:
    file = io.BytesIO()
    with csv_writer(file):
        pass
    assert file.getvalue().decode() == ",".join(COLUMNS) + "\r\n"


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_begins_like_a_formula(text: str) -> None:
    (line,) = as_csv(row(image=text, client_ref=text, submission=text, model_version=text))
    for name in ("image", "client_ref", "submission", "model_version"):
        assert line[name] == f"'{text}"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00")))
def test_names_survive_csv(text: str) -> None:
    (line,) = as_csv(row(image=text))
    found = line["image"]
    assert found.removeprefix("'") == text
    assert not found.lstrip().startswith(("=", "+", "-", "@"))


@pytest.mark.parametrize("value", [0, -1, 1e-9, None])
def test_numbers_stay_numbers(value: float | None) -> None:
    assert safe_cell(value) is value


def test_jsonl_is_one_object_a_line() -> None:
    file = io.BytesIO()
    with jsonl_writer(file) as write:
        write([row(image="é\n=1"), row(cursor=8)])
        write([row(cursor=9)])
    lines = [json.loads(line) for line in file.getvalue().decode().splitlines()]
    assert [line["cursor"] for line in lines] == [7, 8, 9]
    assert lines[0]["image"] == "é\n=1"  # JSON needs no apostrophe
    assert lines[0] == fields_of(row(image="é\n=1"))
    assert (lines[0]["latency_ms"], lines[0]["job_id"]) == (1.23, str(uuid.UUID(int=1)))
