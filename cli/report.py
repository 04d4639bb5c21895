"""The report a moderator opens: one self-contained HTML file that works offline and sends nothing anywhere.

Cards are rendered and written one after another, and thumbnails made just before their card, so that thousands of
pictures cost no more memory than a few. Every text from outside is escaped by Jinja, and a Content-Security-Policy in
the page itself forbids every script but its own and every request.
"""

import base64
import hashlib
import importlib.resources
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from cli import report_cards
from cli.report_cards import ReportCard
from model import render
from model.card import Calibration
from schemas.records import AuditRecord
from web import wording

THUMBNAIL_LONG_SIDE_PX = 320
_THUMBNAIL_QUALITY = 74
# Pieces of the page written at once; a piece may hold two thumbnails, so this bounds memory to a few MB.
_PIECES_AT_ONCE = 64


@dataclass(frozen=True)
class Thumbnails:
    """Two small JPEGs of the same size: the picture, and the picture with its mask painted over it."""

    picture_jpeg: bytes
    overlay_jpeg: bytes


@dataclass(frozen=True)
class ReportSummary:
    """What the report says about the run as a whole.

    Args:
        source: what was audited, in the user's words: a folder, a query.
        created: when the report was made, with a time zone.
        model_version: the version that judged, or None if nothing was judged.
        calibration: thresholds of that version, put into words in the report; None leaves them out.
        elapsed_s: how long the run took.
    """

    source: str
    created: datetime
    model_version: str | None = None
    calibration: Calibration | None = None
    elapsed_s: float | None = None


ThumbnailSource = Callable[[AuditRecord], Thumbnails | None]


def make_thumbnails(image: Image.Image, overlay: Image.Image) -> Thumbnails:
    """Reduce a picture and its overlay for the report.

    Args:
        image: RGB, EXIF orientation applied.
        overlay: RGB, the same size, from `model.render.overlay`.
    """
    small = (render.thumbnail_jpeg(each, THUMBNAIL_LONG_SIDE_PX, _THUMBNAIL_QUALITY) for each in (image, overlay))
    return Thumbnails(*small)


def no_thumbnails(_: AuditRecord) -> Thumbnails | None:
    """The thumbnail source of a report without pictures."""
    return None


def write_report(
    records: Sequence[AuditRecord],
    out: Path,
    title: str,
    summary: ReportSummary,
    thumbnails: ThumbnailSource = no_thumbnails,
) -> Path:
    """Write the report, most suspicious picture first, and replace an older one only when it is complete.

    Args:
        records: outcomes in any order. `mask` is absolute or relative to the report's folder; an overlay is linked
            as the file beside the mask whose name ends in .overlay.png instead of .mask.png.
        out: the HTML file to write; its folder is made if missing.
        title: the heading.
        summary: the run as a whole.
        thumbnails: called once for each record that has a result, in the report's order, while the report is being
            written; None leaves a plain panel instead.

    Returns:
        `out`.

    Raises:
        OSError: the file cannot be written; an older report is left as it was.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    ordered = sorted(records, key=report_cards.suspicion)
    stream = (
        _environment()
        .get_template("report.html.j2")
        .stream(
            title=wording.shown(title),
            summary=summary,
            created=summary.created.astimezone(UTC),
            counts=_counts(records),
            causes=_causes(records),
            headlines=report_cards.HEADLINES,
            cards=_cards(ordered, out.parent, thumbnails),
            **_inlined(),
        )
    )
    stream.enable_buffering(_PIECES_AT_ONCE)
    # Hidden, so that an audit of the folder does not take a half-written report for a picture.
    part = out.with_name(f".{out.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(stream)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return out


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cli"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["rate"] = lambda share: f"{100 * share:g}\N{NO-BREAK SPACE}%"
    environment.filters["score"] = wording.score_text
    environment.filters["data_uri"] = _data_uri
    environment.filters["duration"] = lambda seconds: wording.duration_text(1000 * seconds)
    environment.filters["shown"] = wording.shown
    return environment


def _inlined() -> dict[str, Any]:
    """Our own style and script, the only text that goes in unescaped, and the hash the policy lets the script run by."""
    templates = importlib.resources.files("cli") / "templates"
    style, script = ((templates / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {"style": Markup(style), "script": Markup(script), "script_hash": f"sha256-{digest}"}


def _data_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _counts(records: Sequence[AuditRecord]) -> dict[str, int]:
    found = Counter(report_cards.state_of(record) for record in records)
    return {"all": len(records)} | {state: found[state] for state in report_cards.STATES}


def _causes(records: Sequence[AuditRecord]) -> list[tuple[str, int, str]]:
    """(error code, how many pictures, how to mend it), the commonest first."""
    found = Counter(record.error.code for record in records if record.error)
    return [(code, count, wording.mending(code)) for code, count in found.most_common()]


def _cards(
    ordered: Sequence[AuditRecord], folder: Path, thumbnails: ThumbnailSource
) -> Iterator[tuple[ReportCard, Thumbnails | None]]:
    for number, record in enumerate(ordered, start=1):
        judged = report_cards.state_of(record) != report_cards.FAILED
        yield report_cards.card_of(record, number, folder), thumbnails(record) if judged else None
