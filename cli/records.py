"""The records of an audit as a file, and of pictures whose files could not be written."""

from pathlib import Path

from schemas.records import AuditRecord, ErrorRecord


def failed_record(record: AuditRecord, error: ErrorRecord) -> AuditRecord:
    """The record of a picture whose audit went well but whose files could not be written."""
    return AuditRecord(
        image=record.image, sha256=record.sha256, source_profile=record.source_profile, status="failed", error=error
    )


def write_jsonl(records: list[AuditRecord], path: Path) -> None:
    """One JSON object a line, moved into place whole.

    Raises:
        OSError: the file cannot be written; an older one is left as it was.
    """
    # Hidden, so that an audit of the folder does not take it for a picture.
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            for record in records:
                file.write(record.model_dump_json() + "\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
