"""Records as a table in the terminal."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from cli.console import VERDICT_STYLE
from schemas.records import AuditRecord
from schemas.states import Verdict
from web.wording import shown

_LONGEST_NAME = 120
_URGENCY = {Verdict.FLAG: 0, Verdict.REVIEW: 1, None: 2, Verdict.PASS: 3}


def by_urgency(records: Sequence[AuditRecord]) -> list[AuditRecord]:
    """Flagged first, then review, then what failed, then pass; the highest score first within each."""
    return sorted(records, key=lambda record: (_URGENCY[record.verdict], -(record.score or 0.0), record.image))


def results_table(records: Sequence[AuditRecord]) -> Table:
    """One row a picture, in the order given; with profiles, a column that names each delivery on a line of its own."""
    table = Table(header_style="bold", pad_edge=False, box=None, padding=(0, 2, 0, 0))
    table.add_column("verdict", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("area", justify="right", no_wrap=True)
    table.add_column("picture", overflow="fold", min_width=12)
    taken = any(record.source_profile for record in records)
    if taken:
        table.add_column("taken from", no_wrap=True)
    delivered = any(record.profiles for record in records)
    if delivered:
        table.add_column("as delivered by (same mask)", no_wrap=True)
    table.add_column("where (x0,y0 – x1,y1)" if any(record.regions for record in records) else "", min_width=14)
    # Beside other results a failure is one line, cut if need be: results.jsonl and the report have the whole message.
    whole = all(record.error for record in records)
    for record in records:
        verdict, score, area, name, where = _row(record)
        where.no_wrap, where.overflow = not whole, "fold" if whole else "ellipsis"
        source = [Text(shown(record.source_profile or ""))] if taken else []
        table.add_row(verdict, score, area, name, *source, *([_delivered(record)] if delivered else []), where)
    return table


def _row(record: AuditRecord) -> tuple[Text, str, str, Text, Text]:
    # Text, not markup: names and messages come from outside.
    name = Text(_shortened(shown(record.image)))
    if record.error is not None:
        why = Text.assemble((record.error.code, "magenta"), ": ", shown(record.error.message))
        return Text("failed", "magenta"), "", "", name, why
    if record.verdict is None or record.score is None or record.area is None:
        raise ValueError(f"{record.image}: a done record carries a verdict, a score and an area")
    boxes = [region.box for region in record.regions[:2]]
    where = "; ".join(f"{box.x0},{box.y0} – {box.x1},{box.y1}" for box in boxes)
    more = len(record.regions) - len(boxes)
    verdict, area = _verdict(record.verdict), f"{record.area:.1%}"
    return verdict, f"{record.score:.2f}", area, name, Text(where + (f" and {more} more" if more > 0 else ""))


def _verdict(verdict: Verdict) -> Text:
    return Text(verdict.value, VERDICT_STYLE[verdict.value])


def _delivered(record: AuditRecord) -> Text:
    """A line for each profile: its verdict, its score, and how much of the mask is the same."""
    widest = max((len(name) for name in record.profiles), default=0)
    lines = [
        Text.assemble(f"{name:<{widest}}  {each.score:.2f} ", _verdict(each.verdict), f" ({each.mask_agreement:.0%})")
        for name, each in record.profiles.items()
    ]
    return Text("\n").join(lines)


def _shortened(name: str) -> str:
    """A name that fits into a few lines; its ends say most."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 40]}…{name[-39:]}"
