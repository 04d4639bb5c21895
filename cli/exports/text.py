"""CSV and JSON lines."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

from storage.export_rows import ExportRow

Write = Callable[[Sequence[ExportRow]], list[str]]
"""Writes one page; returns one line for each row that had to be left out, saying why."""

COLUMNS = (
    "cursor", "image", "sha256", "source_profile", "profile", "score", "verdict", "second_score", "stable", "area",
    "mask_agreement", "regions", "model_version", "width", "height", "latency_ms", "created_at", "job_id", "submission",
    "client_ref", "reused_from",
)  # fmt: skip
"""Names as in results.jsonl, and what tells one result from another."""

# What makes Excel, LibreOffice and Google Sheets take a cell for a formula; full-width signs do so in some locales.
_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001


def fields_of(row: ExportRow) -> dict[str, Any]:
    """A row as plain values by column name: numbers, texts, lists, True, False or None."""
    fields = {name: getattr(row, name) for name in COLUMNS}
    return fields | {
        "verdict": row.verdict.value,
        "latency_ms": round(row.latency_ms, 2),
        "created_at": row.created_at.isoformat(),
        "job_id": str(row.job_id),
    }


@contextmanager
def jsonl_writer(file: BinaryIO) -> Iterator[Write]:
    """One JSON object a line, UTF-8."""

    def write(rows: Sequence[ExportRow]) -> list[str]:
        file.write("".join(json.dumps(fields_of(row), ensure_ascii=False) + "\n" for row in rows).encode())
        return []

    yield write


@contextmanager
def csv_writer(file: BinaryIO) -> Iterator[Write]:
    """RFC 4180 with a header, UTF-8; regions as JSON, nothing for what is not known, cells made safe by `safe_cell`."""
    buffer = io.StringIO(newline="")
    lines = csv.writer(buffer)

    def flush() -> None:
        file.write(buffer.getvalue().encode())
        buffer.seek(0)
        buffer.truncate()

    def write(rows: Sequence[ExportRow]) -> list[str]:
        lines.writerows([safe_cell(value) for value in fields_of(row).values()] for row in rows)
        flush()
        return []

    lines.writerow(COLUMNS)
    flush()
    yield write


def safe_cell(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula.

    A text that begins like one, also after spaces, gets an apostrophe in front; so does one that begins with an
    apostrophe. Taking one leading apostrophe off therefore gives the text back.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    if not isinstance(value, str):
        return value
    bare = value.lstrip().lstrip("\ufeff").lstrip()
    return f"'{value}" if value.startswith(("'", *_FORMULA_SIGNS)) or bare.startswith(_FORMULA_SIGNS) else value
