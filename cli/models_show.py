"""`tamperwatch models show`: one version answers which boxes, which teacher, which parent, which figures, and who decided."""

from contextlib import closing
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from cli.console import load_settings, stdout
from cli.store import open_store
from schemas.learning_tables import ModelDecision
from storage.blobs import open_blob_store
from storage.learned_boxes import BoxCounts, boxes_of
from storage.model_record import ModelRecord, model_record
from web.learning.words import decision_words, facts_of, when
from web.wording import shown
from workers.runtime import live_version


def show_version(
    version: Annotated[str | None, typer.Argument(help="A version; the live one if left out.")] = None,
    whole_card: Annotated[bool, typer.Option("--card", help="Print its whole card as well.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show where one version comes from, what it learned from, how it measures, and what was decided about it.

    \b
    Examples:
      tamperwatch models show
      tamperwatch models show student-3-1f0c9a77 --json
    """
    settings = load_settings()
    with closing(open_store(settings.database_url)) as database:
        chosen = version or live_version(database).version
        with database.read() as session:
            record = model_record(session, chosen)
    boxes = boxes_of(record.run, open_blob_store(settings.blobs))
    if as_json:
        stdout.print_json(data=record_json(record, boxes))
        return
    _show(record, boxes)
    if whole_card:
        stdout.print(_pairs([leaf for name, value in record.row.card.items() for leaf in _leaves(name, value)]))


def decisions_table(decisions: list[ModelDecision]) -> Table:
    """One row a decision, oldest first."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("when (UTC)", no_wrap=True)
    for title in ("who", "what", "why"):
        table.add_column(title, overflow="fold")
    for each in decisions:
        what = f"{each.version} {decision_words(each)}"
        table.add_row(when(each.created_at), *(Text(shown(words)) for words in (each.who, what, each.reason)))
    return table


def record_json(record: ModelRecord, boxes: BoxCounts) -> dict[str, Any]:
    """Everything as JSON: the version's row with its card, its run, its line of parents, its decisions."""
    return {
        **record.row.model_dump(mode="json"),
        "run": record.run.model_dump(mode="json") if record.run else None,
        "boxes": {name: value for name, value in vars(boxes).items() if name != "why_not"} if not boxes.why_not else None,
        "parents": [each.name for each in record.ancestors],
        "decisions": [each.model_dump(mode="json") for each in record.decisions],
    }


def _show(record: ModelRecord, boxes: BoxCounts) -> None:
    row = record.row
    # Text, not markup: versions and reasons come from outside.
    stdout.print(Text.assemble((shown(row.version), "bold"), f"  {row.stage.value} since {when(row.stage_changed_at)} UTC"))
    stdout.print(Text(shown(row.reason)))
    stdout.print()
    stdout.print(_pairs([(fact.about, fact.words) for fact in facts_of(record, boxes)]))
    if record.run is not None and record.run.decision.get("checks"):
        stdout.print()
        stdout.print(_checks(record.run.decision["checks"]))
    if record.decisions:
        stdout.print()
        stdout.print(decisions_table(record.decisions))


def _checks(checks: list[dict[str, Any]]) -> Table:
    """What the promotion rule found: one row a check."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("rule")
    table.add_column("what it found", overflow="fold")
    for check in checks:
        passed = bool(check.get("passed"))
        words = Text("passed" if passed else "failed", "green" if passed else "bold red")
        table.add_row(words, Text(shown(str(check.get("sentence", "")))))
    return table


def _pairs(rows: list[tuple[str, Any]]) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(shown(name)), Text(shown(str(value))))
    return table


def _leaves(name: str, value: Any) -> list[tuple[str, Any]]:
    """A nested card as dotted names; numbers are rounded for reading."""
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in _leaves(f"{name}.{key}", inner)]
    return [(name, round(value, 4) if isinstance(value, float) else value)]
