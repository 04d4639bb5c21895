"""Parquet, through pyarrow (the extra `export`)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

from cli.exports.text import COLUMNS, Write
from schemas.errors import EnvironmentMissing
from storage.export_rows import ExportRow


@contextmanager
def parquet_writer(file: BinaryIO) -> Iterator[Write]:
    """One row group a page, zstd; times in UTC, regions as a list of {box, score}.

    Raises:
        EnvironmentMissing: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise EnvironmentMissing("Parquet needs pyarrow: pip install 'tamperwatch[export]'") from error
    schema = _schema(pyarrow)

    def write(rows: Sequence[ExportRow]) -> list[str]:
        columns = {name: [_value(row, name) for row in rows] for name in COLUMNS}
        writer.write_table(pyarrow.table(columns, schema=schema))
        return []

    # Not closed: that would close the file, which is the caller's.
    sink = pyarrow.PythonFile(file, mode="w")
    with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        yield write
    sink.flush()


def _value(row: ExportRow, name: str) -> Any:
    if name == "verdict":
        return row.verdict.value
    return str(row.job_id) if name == "job_id" else getattr(row, name)


def _schema(pyarrow: Any) -> Any:
    text, real, small = pyarrow.string(), pyarrow.float64(), pyarrow.int32()
    box = pyarrow.struct([(side, small) for side in ("x0", "y0", "x1", "y1")])
    special = {
        **dict.fromkeys(("cursor", "reused_from"), pyarrow.int64()),
        **dict.fromkeys(("score", "second_score", "area", "mask_agreement", "latency_ms"), real),
        "stable": pyarrow.bool_(),
        "regions": pyarrow.list_(pyarrow.struct([("box", box), ("score", real)])),
        **dict.fromkeys(("width", "height"), small),
        "created_at": pyarrow.timestamp("us", tz="UTC"),
    }
    return pyarrow.schema([(name, special.get(name, text)) for name in COLUMNS])
