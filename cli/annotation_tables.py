"""Annotations as tables in the terminal and as JSON."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from schemas.geometry import PixelBox
from schemas.learning_tables import BoxAnnotation, Review
from schemas.states import AnnotationKind
from storage.annotation_queries import JudgedPicture
from storage.consensus import Outcome
from web.wording import shown

SHORT_SHA256 = 12
_OUTCOME_STYLE = {Outcome.BOXES: "red", Outcome.AUTHENTIC: "green", Outcome.DISPUTED: "bold yellow"}
_TIME = "%Y-%m-%d %H:%M"
_BOXES_SHOWN = 3


def pictures_table(pictures: Sequence[JudgedPicture], names: dict[str, str]) -> Table:
    """One row a picture.

    Args:
        names: by sha256, what people know the picture as; if there are none, there is no column for them.
    """
    table = _table("sha256", "outcome", "IoU")
    table.add_column("by", min_width=8)
    table.add_column("where (x0,y0 – x1,y1)", no_wrap=True)
    if names:
        table.add_column("picture", overflow="fold", min_width=12)
    for picture in pictures:
        consensus = picture.consensus
        agreement = "" if consensus.agreement is None else f"{consensus.agreement:.0%}"
        contested = ["contested:", *box_lines(consensus.contested)] if consensus.contested else []
        cells = [
            Text(picture.sha256[:SHORT_SHA256]),
            Text(consensus.outcome.value, _OUTCOME_STYLE[consensus.outcome]),
            Text(agreement),
            Text(shown(", ".join(each.annotator for each in picture.annotations))),
            Text("\n".join([*box_lines(consensus.boxes), *contested])),
        ]
        table.add_row(*cells, *([Text(shown(names.get(picture.sha256, "")))] if names else []))
    return table


def history_table(rows: Sequence[BoxAnnotation], standing: set[int | None]) -> Table:
    """One row an annotation, oldest first; those that stand are marked."""
    table = _table("", "id", "when (UTC)")
    table.add_column("who", min_width=8)
    table.add_column("said", no_wrap=True)
    table.add_column("via", no_wrap=True)
    table.add_column("note", overflow="fold", min_width=8)
    for row in rows:
        mark = Text("stands", "green") if row.id in standing else Text("")
        at, said = row.created_at.strftime(_TIME), Text("\n".join(_said(row)))
        table.add_row(mark, str(row.id), at, Text(shown(row.annotator)), said, row.origin.value, Text(shown(row.note)))
    return table


def _said(row: BoxAnnotation) -> list[str]:
    if row.kind is AnnotationKind.RETRACTED:
        return [f"took back {row.replaces}"]
    what = box_lines(row.pixel_boxes) if row.kind is AnnotationKind.BOXES else [row.kind.value]
    return what if row.replaces is None else [*what, f"in place of {row.replaces}"]


def reviews_table(reviews: Sequence[Review]) -> Table:
    """One row a decision about a result, oldest first."""
    table = _table("review", "when (UTC)", "who", "result", "decision", "in place of")
    table.add_column("note", overflow="fold")
    for row in reviews:
        replaced = "" if row.replaces is None else str(row.replaces)
        who, note = Text(shown(row.reviewer)), Text(shown(row.note))
        table.add_row(str(row.id), row.created_at.strftime(_TIME), who, str(row.result_id), row.decision.value, replaced, note)
    return table


def box_lines(boxes: Sequence[PixelBox]) -> list[str]:
    """A few boxes, a line each."""
    first = [f"{box.x0},{box.y0} – {box.x1},{box.y1}" for box in boxes[:_BOXES_SHOWN]]
    return first + ([f"and {len(boxes) - _BOXES_SHOWN} more"] if len(boxes) > _BOXES_SHOWN else [])


def picture_json(picture: JudgedPicture, name: str | None) -> dict[str, Any]:
    """A picture as plain JSON types; boxes are [x0, y0, x1, y1], ends exclusive, in original pixels."""
    width_px, height_px = picture.size_px or (None, None)
    return {
        "sha256": picture.sha256,
        "image": name,
        "width": width_px,
        "height": height_px,
        "outcome": picture.consensus.outcome.value,
        "boxes": [box.as_tuple() for box in picture.consensus.boxes],
        "contested": [box.as_tuple() for box in picture.consensus.contested],
        "agreement": picture.consensus.agreement,
        "source_id": picture.source_id,
        "annotations": [
            {
                "id": row.id,
                "annotator": row.annotator,
                "kind": row.kind.value,
                "boxes": [box.as_tuple() for box in row.pixel_boxes],
                "origin": row.origin.value,
                "created_at": row.created_at.isoformat(),
            }
            for row in picture.annotations
        ],
    }


def _table(*titles: str) -> Table:
    """A table that begins with narrow columns."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for title in titles:
        table.add_column(title, no_wrap=True)
    return table
