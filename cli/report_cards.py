"""One card of the report: an audit record put into words a moderator reads. Text only; the template escapes it."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from schemas.records import AuditRecord, ProfileRecord, Region
from schemas.states import Verdict
from web.wording import NETWORK_NAMES, duration_text, likelihood, mending, score_text, shown

FAILED = "failed"
STATES = (*(verdict.value for verdict in (Verdict.FLAG, Verdict.REVIEW, Verdict.PASS)), FAILED)

HEADLINES = {
    "flag": "Flagged: look at this first",
    "review": "Review: look when there is time",
    "pass": "Passed: nothing to do",
    "failed": "Not audited",
}

# Width / height of a thumbnail's frame; a 1 x 5000 picture is shown stretched rather than not at all.
_RATIO_RANGE = (0.2, 5.0)
_MOST_REGIONS = 12


@dataclass(frozen=True)
class RegionLine:
    """A marked region: its number, its place in percent of the picture, and what is said about it."""

    number: int
    left: float
    top: float
    width: float
    height: float
    box_text: str
    score_text: str


@dataclass(frozen=True)
class NetworkLine:
    """One row of the delivery check."""

    name: str
    score_text: str
    verdict_text: str
    changed: bool
    agreement_text: str


@dataclass(frozen=True)
class ReportCard:
    """Everything the template shows about one picture. Empty strings stand for what is not known."""

    number: int
    folder: str
    file_name: str
    state: str
    headline: str
    score: float | None
    score_text: str
    likelihood: str
    stability_text: str
    area: float | None
    area_text: str
    latency_ms: float | None
    latency_text: str
    size_text: str
    ratio: float
    regions: list[RegionLine]
    regions_left_out: int
    networks: list[NetworkLine]
    source_text: str
    reuse_text: str
    model_version: str
    sha256: str
    error_code: str
    error_message: str
    mending: str
    mask_href: str
    overlay_href: str


def card_of(record: AuditRecord, number: int, report_folder: Path) -> ReportCard:
    """Put a record into words.

    Args:
        record: the outcome of one picture.
        number: its place in the report, from 1.
        report_folder: where the report will lie; links are relative to it.
    """
    folder, _, file_name = shown(record.image).rpartition("/")
    state = state_of(record)
    mask = _href(record.mask, report_folder)
    error = record.error
    return ReportCard(
        number=number,
        folder=folder,
        file_name=file_name,
        state=state,
        headline=HEADLINES[state],
        score=record.score,
        score_text=score_text(record.score),
        likelihood=likelihood(record.score),
        stability_text=stability_text(record),
        area=record.area,
        area_text=percent_text(record.area),
        latency_ms=record.latency_ms,
        latency_text=duration_text(record.latency_ms),
        size_text=f"{record.width} × {record.height} px" if record.width and record.height else "",
        ratio=_frame_ratio(record),
        regions=[_region_line(region, i, record) for i, region in enumerate(record.regions[:_MOST_REGIONS], start=1)],
        regions_left_out=max(0, len(record.regions) - _MOST_REGIONS),
        networks=[_network_line(name, profile, record.verdict) for name, profile in record.profiles.items()],
        source_text=source_text(record.source_profile),
        reuse_text="the same bytes were audited before: that result stands here again" if record.reused_from is not None else "",
        model_version=record.model_version or "",
        sha256=record.sha256 or "",
        error_code=error.code if error else "",
        error_message=shown(error.message) if error else "",
        mending=mending(error.code) if error else "",
        mask_href=mask,
        overlay_href=mask.removesuffix(".mask.png") + ".overlay.png" if mask.endswith(".mask.png") else "",
    )


def state_of(record: AuditRecord) -> str:
    """`flag`, `review` or `pass`; `failed` for a picture without a verdict."""
    return record.verdict.value if record.status == "done" and record.verdict else FAILED


def suspicion(record: AuditRecord) -> tuple[int, float, str]:
    """Sort key: flagged first, failed last, higher scores first within a verdict, then by name."""
    return STATES.index(state_of(record)), -(record.score or 0.0), record.image


def stability_text(record: AuditRecord) -> str:
    """What scoring again after a mild recompression gave; empty where the score lies far from the thresholds."""
    if record.second_score is None:
        return ""
    again = score_text(record.second_score)
    if record.stable:
        return f"stable: a mild recompression scores {again}, the same verdict"
    return f"unstable: a mild recompression scores {again}, another verdict, so it goes to review"


def source_text(source_profile: str | None) -> str:
    """The network a picture was taken from, by the name people know it under."""
    return f"taken from {NETWORK_NAMES.get(source_profile, shown(source_profile))}" if source_profile else ""


def percent_text(share: float | None) -> str:
    """A share of the picture, in percent."""
    if share is None:
        return ""
    percent = 100 * share
    number = (
        "0"
        if percent == 0
        else "<\N{NO-BREAK SPACE}0.1"
        if percent < 0.1
        else f"{percent:.1f}"
        if percent < 10
        else f"{percent:.0f}"
    )
    return f"{number}\N{NO-BREAK SPACE}%"


def _region_line(region: Region, number: int, record: AuditRecord) -> RegionLine:
    box, width, height = region.box, record.width or region.box.x1, record.height or region.box.y1
    return RegionLine(
        number=number,
        left=100 * box.x0 / width,
        top=100 * box.y0 / height,
        width=100 * box.width / width,
        height=100 * box.height / height,
        box_text=f"{box.width} × {box.height} px at {box.x0}, {box.y0}",
        score_text=score_text(region.score),
    )


def _network_line(name: str, profile: ProfileRecord, own: Verdict | None) -> NetworkLine:
    return NetworkLine(
        name=NETWORK_NAMES.get(name, shown(name)),
        score_text=score_text(profile.score),
        verdict_text=profile.verdict.value,
        changed=own is not None and profile.verdict != own,
        agreement_text=f"{profile.mask_agreement:.2f}",
    )


def _frame_ratio(record: AuditRecord) -> float:
    if not record.width or not record.height:
        return 4 / 3
    low, high = _RATIO_RANGE
    return round(min(high, max(low, record.width / record.height)), 4)


def _href(path: str | None, report_folder: Path) -> str:
    """A relative URL from the report to a file that is named absolutely or relative to the report's folder."""
    if not path:
        return ""
    relative = PurePosixPath(Path(os.path.relpath(report_folder / path, report_folder)).as_posix())
    # The leading ./ keeps a colon in the first name from being read as a scheme.
    return "./" + quote(os.fsencode(str(relative)))
