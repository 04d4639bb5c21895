"""From SQL rows to the records that people, scripts and the API read."""

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
        return AuditRecord(image=job.source, sha256=job.sha256, source_profile=job.source_profile, status="failed", error=error)
    return AuditRecord(
        image=job.source,
        sha256=job.sha256,
        source_profile=job.source_profile,
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
        reused_from=own.reused_from,
    )


def _profile(result: AuditResult) -> ProfileRecord:
    return ProfileRecord(score=result.score, verdict=result.verdict, mask_agreement=result.mask_agreement)
