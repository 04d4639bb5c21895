"""CSV that a person or a spreadsheet wrote: UTF-8 with or without BOM, any line ends, fields in quotes where they hold commas."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from model.problems import Kind, Problem
from schemas.errors import InvalidInput

Line = tuple[int, dict[str, str]]

_SURPLUS = "\0"  # a column name that no text we accept can hold


def read_lines(file: Path, content: bytes, required: Sequence[str]) -> tuple[list[Line], list[Problem]]:
    """The lines after the first, which names the columns; empty lines are passed over.

    Args:
        file: named in errors.
        content: the file's bytes.
        required: columns that must be there.

    Returns:
        Values by column, without surrounding blanks, with the number of the line they end on; and problems of lines that
        have more fields than the first.

    Raises:
        InvalidInput: not UTF-8, quotes that do not match, a field that is too long, no lines, or a missing column.
    """
    try:
        numbered = list(_records(content.decode("utf-8-sig")))
    except ValueError as error:
        raise InvalidInput(f"{file} cannot be read: {error}") from error
    if not numbered:
        raise InvalidInput(f"{file} has no rows")
    missing = [name for name in required if name not in numbered[0][1]]
    if missing:
        raise InvalidInput(f"{file} lacks columns: {', '.join(missing)}; its first line names them, separated by commas")
    surplus = "more fields than the first line has; quote fields that contain commas"
    problems = [Problem(Kind.LINE, f"line {number}", surplus) for number, record in numbered if _SURPLUS in record]
    lines = [
        (number, {name: value.strip() for name, value in record.items()}) for number, record in numbered if _SURPLUS not in record
    ]
    return lines, problems


def _records(text: str) -> Iterator[Line]:
    """Records with the number of their last line, surplus fields under `_SURPLUS`.

    Raises:
        ValueError: not CSV.
    """
    if "\0" in text:
        raise ValueError("it holds NUL bytes; save it as CSV in UTF-8")
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey=_SURPLUS, restval="", strict=True)
    read = 0
    try:
        reader.fieldnames = names = [name.strip() for name in reader.fieldnames or []]
        if any(name and names.count(name) > 1 for name in names):
            raise ValueError("its first line names a column twice")
        for record in reader:
            read = reader.line_num
            yield read, record
    except csv.Error as error:
        raise ValueError(f"{f'after line {read}' if read else 'at its beginning'}: {error}; do all quotes match?") from error
