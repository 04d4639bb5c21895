"""CSV that a person or a spreadsheet wrote: UTF-8 with or without BOM, any line ends, fields in quotes where they hold commas."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from model.problems import Kind, Problem
from schemas.errors import InvalidInput

Line = tuple[int, dict[str, str]]

SURPLUS = "\0"
"""A column name that no text we accept can hold."""

SURPLUS_REMEDY = "more fields than the first line has; quote fields that contain commas"


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
        numbered = list(records(io.StringIO(content.decode("utf-8-sig"), newline="")))
    except ValueError as error:
        raise InvalidInput(f"{file} cannot be read: {error}") from error
    if not numbered:
        raise InvalidInput(f"{file} has no rows")
    missing = [name for name in required if name not in numbered[0][1]]
    if missing:
        raise InvalidInput(f"{file} lacks columns: {', '.join(missing)}; its first line names them, separated by commas")
    problems = [Problem(Kind.LINE, f"line {number}", SURPLUS_REMEDY) for number, record in numbered if SURPLUS in record]
    lines = [
        (number, {name: value.strip() for name, value in record.items()}) for number, record in numbered if SURPLUS not in record
    ]
    return lines, problems


def records(lines: Iterable[str]) -> Iterator[Line]:
    """Records after the first line, one by one, with the number of their last line; fields beyond its columns under `SURPLUS`.

    Args:
        lines: an open file, or a text's lines, with their own line ends.

    Raises:
        ValueError: not CSV.
    """
    reader = csv.DictReader(_without_nul(lines), restkey=SURPLUS, restval="", strict=True)
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


def _without_nul(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if "\0" in line:
            raise ValueError("it holds NUL bytes; save it as CSV in UTF-8")
        yield line
