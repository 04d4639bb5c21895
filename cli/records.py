"""From SQL rows to the records people and scripts read."""

from pathlib import Path

from schemas.records import AuditRecord, ErrorRecord, ProfileRecord, Region
from schemas.states import JobState
from schemas.tables import OWN_PICTURE, AuditResult
from storage.queries import AuditedJob


def record_of(audited: AuditedJob, mask: str | None = None) -> AuditRecord:
    """One ended job as one line of results.jsonl.

    Args:
        audited: the job and its results.
        mask: path of the rendered mask, if there is one.
    """
    job, own = audited.job, audited.own
    if job.state is not JobState.DONE or own is None:
        error = ErrorRecord(code=job.error_code or "internal_error", message=job.error_message or "no result was stored")
        return AuditRecord(image=job.source, sha256=job.sha256, status="failed", error=error)
    return AuditRecord(
        image=job.source,
        sha256=job.sha256,
        status="done",
        score=own.score,
        verdict=own.verdict,
        second_score=own.second_score,
        stable=own.stable,
        area=own.area,
        regions=[Region.model_validate(region) for region in own.regions],
        mask=mask,
        model_version=own.model_version,
        width=own.width_px,
        height=own.height_px,
        latency_ms=round(own.latency_ms, 2),
        profiles={name: _profile(result) for name, result in sorted(audited.results.items()) if name != OWN_PICTURE},
    )


def failed_record(record: AuditRecord, error: ErrorRecord) -> AuditRecord:
    """The record of a picture whose audit went well but whose files could not be written."""
    return AuditRecord(image=record.image, sha256=record.sha256, status="failed", error=error)


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


def _profile(result: AuditResult) -> ProfileRecord:
    return ProfileRecord(score=result.score, verdict=result.verdict, mask_agreement=result.mask_agreement)
