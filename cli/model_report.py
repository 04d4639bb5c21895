"""The report on one model version: one self-contained HTML file that works offline and sends nothing anywhere.

Every text is escaped by Jinja; a Content-Security-Policy in the page forbids scripts and every request.
"""

import base64
import importlib.resources
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cli import report_cards
from cli.model_figures import CheckRow, FigureRow
from cli.model_report_pictures import ChangedPicture
from cli.model_words import Fact, decision_words, when
from schemas.learning_tables import ModelDecision, RetrainRun
from schemas.tables import ModelVersion
from storage.shadow_scores import ShadowSummary


@dataclass(frozen=True)
class Forebear:
    """One step of the line: a version, when it was made, and what is said of it."""

    name: str
    made: str
    words: str
    figures: str


@dataclass(frozen=True)
class ModelReport:
    """Everything on the page.

    Attributes:
        row: the version.
        run: that made it, if any.
        against: the version it is held against; None where there is none.
        facts: where it comes from.
        line: root first, this version last.
        checks: what the promotion rule found.
        held_out: means over the pictures that were held out from its run.
        figures: validation figures of both cards, in groups.
        same_data: whether both cards were measured on the same pictures; None where the other card has no figures.
        curves_png: of its training, if kept.
        decisions: about it, and those that put another in its place; oldest first.
        shadow: it beside live traffic, if it was.
        pictures: changed most.
        created: when the report was made.
    """

    row: ModelVersion
    run: RetrainRun | None
    against: ModelVersion | None
    facts: Sequence[Fact]
    line: Sequence[Forebear]
    checks: Sequence[CheckRow]
    held_out: Sequence[FigureRow]
    figures: Sequence[tuple[str, Sequence[FigureRow]]]
    same_data: bool | None
    curves_png: bytes | None
    decisions: Sequence[ModelDecision]
    shadow: ShadowSummary | None
    pictures: Sequence[ChangedPicture]
    created: datetime


def write_model_report(report: ModelReport, out: Path) -> None:
    """Write the report, replacing an older one only when it is complete.

    Raises:
        OSError: the file cannot be written.
    """
    part = out.with_name(f".{out.name}.part")
    try:
        part.write_text(rendered(report), encoding="utf-8", newline="\n")
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def rendered(report: ModelReport) -> str:
    """The page."""
    return _environment().get_template("model_report.html.j2").render(report=report, style=_style())


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cli"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters: dict[str, Any] = {
        "shown": lambda text: report_cards.shown(str(text)),
        "when": when,
        "did": decision_words,
        "score": report_cards.score_text,
        "jpeg": lambda data: _data_uri(data, "image/jpeg"),
        "png": lambda data: _data_uri(data, "image/png"),
        "percent": lambda share: f"{100 * share:.1f}\N{NO-BREAK SPACE}%",
    }
    environment.filters.update(filters)
    return environment


def _style() -> Markup:
    """Our own, the only text that goes in unescaped: that of the audit report, and what this page has beside it."""
    templates = importlib.resources.files("cli") / "templates"
    return Markup("\n".join((templates / name).read_text(encoding="utf-8") for name in ("report.css", "model_report.css")))


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
