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

from cli.model_report_pictures import ChangedPicture
from web import wording
from web.learning.account import Account
from web.learning.words import decision_words, when


@dataclass(frozen=True)
class ModelReport:
    """Everything on the page.

    Attributes:
        account: of the version, and the one it is held against.
        curves_png: of its training, if kept.
        pictures: changed most.
        created: when the report was made.
    """

    account: Account
    curves_png: bytes | None
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
    return _environment().get_template("model_report.html.j2").render(report=report, account=report.account, style=_style())


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cli"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters: dict[str, Any] = {
        "shown": lambda text: wording.shown(str(text)),
        "when": when,
        "did": decision_words,
        "score": wording.score_text,
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
