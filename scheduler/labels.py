"""What is known of each picture when a run chooses: what people agreed on, and whether earlier runs have seen it."""

from dataclasses import dataclass

from scheduler.frozen_manifest import Origin
from scheduler.holdout import Side
from schemas.geometry import PixelBox


@dataclass(frozen=True)
class LabelledPicture:
    """What people agreed on about one picture, or what the base set says of it.

    Attributes:
        sha256: of its bytes.
        tampered: the label.
        boxes: original pixels; none for an authentic picture.
        annotators: those who agree; empty for the base set.
        last_annotation_id: the newest annotation that counts; 0 for the base set.
        source_id: scene, campaign or account it comes from.
        cluster, side: from the ledger.
        weight: 0..1, how far the annotators agree.
        disputed: they contradict each other.
        problem: why it cannot be used, in words for a count ("its bytes are gone").
        base: from the base set.
    """

    sha256: str
    tampered: bool
    boxes: tuple[PixelBox, ...]
    annotators: tuple[str, ...]
    last_annotation_id: int
    source_id: str | None
    cluster: str
    side: Side
    weight: float = 1.0
    disputed: bool = False
    problem: str | None = None
    base: bool = False


@dataclass(frozen=True)
class History:
    """How far earlier runs have read the annotations, by their numbers; 0 for none.

    Attributes:
        finished: of the last run that ended promoted or rejected. Later ones are new.
        learned: of the run that made the live model. Those in between were part of runs that were refused.
    """

    finished: int = 0
    learned: int = 0


def origin_of(picture: LabelledPicture, history: History) -> Origin:
    """Where a picture comes from, as the manifest says it."""
    if picture.base:
        return "base"
    if picture.last_annotation_id > history.finished:
        return "new"
    return "refused" if picture.last_annotation_id > history.learned else "old"
