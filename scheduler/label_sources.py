"""Where labelled pictures come from: what people said in the store, and the rows of a base set's manifest."""

from model.manifest import ManifestRow
from model.near_duplicates import fingerprint_of
from scheduler.holdout import Arrival, Pin, Placed, packed
from scheduler.labels import LabelledPicture
from schemas.learning_tables import BoxAnnotation
from storage.annotation_queries import JudgedPicture
from storage.consensus import SAME_BOX_IOU, Outcome, box_iou

CONTESTED_WEIGHT = 0.5
"""Of a picture where a minority drew boxes that are not agreed: what lies in them is neither clean nor manipulated."""


def arrival(judged: JudgedPicture, data: bytes | None) -> Arrival:
    """A picture people spoke of, for the ledger; without its bytes (None) it resembles nothing."""
    return Arrival(judged.sha256, judged.source_id, packed(fingerprint_of(data or b"")))


def base_arrival(row: ManifestRow, sha256: str, data: bytes, pinned: Pin) -> Arrival:
    """A picture of the base set: its training side has trained the student that ships or was brought along."""
    return Arrival(sha256, _base_source(row), packed(fingerprint_of(data)), pinned, used=pinned == "trains")


def from_annotations(judged: JudgedPicture, placed: Placed, problem: str | None = None) -> LabelledPicture:
    """A picture as its annotators agree on it.

    Args:
        judged: from `storage.annotation_queries.judged_pictures`.
        placed: its place in the ledger.
        problem: why it cannot be used, if so.
    """
    consensus = judged.consensus
    return LabelledPicture(
        sha256=judged.sha256,
        tampered=consensus.outcome is Outcome.BOXES,
        boxes=consensus.boxes,
        annotators=tuple(sorted(each.annotator for each in judged.annotations if _agrees(each, judged))),
        last_annotation_id=judged.newest_id,
        source_id=judged.source_id,
        cluster=placed.cluster,
        side=placed.side,
        weight=CONTESTED_WEIGHT if consensus.contested else 1.0,
        disputed=consensus.outcome is Outcome.DISPUTED,
        problem=problem,
    )


def from_base(row: ManifestRow, sha256: str, placed: Placed) -> LabelledPicture:
    """A picture of the base set."""
    return LabelledPicture(
        sha256=sha256,
        tampered=row.tampered,
        boxes=row.boxes if row.tampered else (),
        annotators=(),
        last_annotation_id=0,
        source_id=_base_source(row),
        cluster=placed.cluster,
        side=placed.side,
        base=True,
    )


def _base_source(row: ManifestRow) -> str:
    """Scene names of the base set are not people's source ids, even where they read the same."""
    return f"base:{row.scene}"


def _agrees(annotation: BoxAnnotation, judged: JudgedPicture) -> bool:
    """Whether an annotator stands behind what the picture is taken for: with an agreed box, or without any box."""
    agreed, boxes = judged.consensus.boxes, annotation.pixel_boxes
    if not agreed:
        return not boxes
    return any(box_iou(mine, box) >= SAME_BOX_IOU for mine in boxes for box in agreed)
