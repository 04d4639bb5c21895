"""What several people's words about one picture come to.

The rule. First the question whether the picture was manipulated: the greater number wins, and a tie is disputed. Then,
if it was, where: boxes of different people are the same box where their IoU is at least `SAME_BOX_IOU`, and a box is
agreed when more than half of all who annotated the picture have it (those who called it authentic count as not having
it). An agreed box is the median of its edges. If no box is agreed, the picture is disputed. What only a minority drew is
contested: kept beside the agreed boxes for people to see, and neither manipulated nor unmanipulated for certain.

The outcome depends on what was said alone, not on the order in which it was said. One person's boxes are agreed.
"""

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from schemas.geometry import PixelBox

SAME_BOX_IOU = 0.5
"""Boxes drawn by hand in a few seconds around the same thing rarely overlap less."""


class Outcome(StrEnum):
    """What annotators agree on; DISPUTED pictures train nothing."""

    BOXES = "boxes"
    AUTHENTIC = "authentic"
    DISPUTED = "disputed"


@dataclass(frozen=True)
class Consensus:
    """What the annotators of one picture agree on.

    Attributes:
        boxes: agreed boxes in original pixels, sorted; none unless the outcome is BOXES.
        contested: boxes that only a minority drew, sorted.
        agreement: mean over all pairs of annotators of the IoU of the areas they marked, 1 where neither marked any;
            None where there is only one annotator.
        n_annotators: how many people's words it is made of.
    """

    outcome: Outcome
    boxes: tuple[PixelBox, ...]
    contested: tuple[PixelBox, ...]
    agreement: float | None
    n_annotators: int


def agree(opinions: Mapping[str, Sequence[PixelBox]]) -> Consensus:
    """Apply the rule of this module.

    Args:
        opinions: by annotator, the boxes they drew; none means that they called the picture authentic.

    Raises:
        ValueError: there is no opinion at all.
    """
    if not opinions:
        raise ValueError("no opinions, no consensus")
    n_authentic = sum(not boxes for boxes in opinions.values())
    n_manipulated = len(opinions) - n_authentic
    agreed, contested = _agreed_boxes(opinions)
    if n_authentic > n_manipulated:
        outcome = Outcome.AUTHENTIC
    else:
        outcome = Outcome.BOXES if agreed and n_manipulated > n_authentic else Outcome.DISPUTED
    if outcome is not Outcome.BOXES:
        agreed, contested = (), tuple(sorted({box for boxes in opinions.values() for box in boxes}, key=PixelBox.as_tuple))
    return Consensus(outcome, agreed, contested, _agreement(opinions), len(opinions))


def box_iou(first: PixelBox, second: PixelBox) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    width = min(first.x1, second.x1) - max(first.x0, second.x0)
    height = min(first.y1, second.y1) - max(first.y0, second.y0)
    common = max(0, width) * max(0, height)
    return common / (first.area + second.area - common)


def area_iou(first: Sequence[PixelBox], second: Sequence[PixelBox]) -> float:
    """Intersection over union of the areas that two sets of boxes cover; 1 where both are empty."""
    boxes = (*first, *second)
    if not boxes:
        return 1.0
    xs = sorted({edge for box in boxes for edge in (box.x0, box.x1)})
    ys = sorted({edge for box in boxes for edge in (box.y0, box.y1)})
    # One cell between two neighbouring edges: exact, and as small as the number of boxes, whatever the picture's size.
    cells = np.outer(np.diff(ys), np.diff(xs))
    covered = [_covered(each, xs, ys) for each in (first, second)]
    return float(cells[covered[0] & covered[1]].sum() / cells[covered[0] | covered[1]].sum())


def _covered(boxes: Iterable[PixelBox], xs: list[int], ys: list[int]) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    covered = np.zeros((len(ys) - 1, len(xs) - 1), dtype=np.bool_)
    column, row = ({edge: number for number, edge in enumerate(edges)} for edges in (xs, ys))
    for box in boxes:
        covered[row[box.y0] : row[box.y1], column[box.x0] : column[box.x1]] = True
    return covered


def _agreement(opinions: Mapping[str, Sequence[PixelBox]]) -> float | None:
    # fsum: the same figure whatever the order of the pairs.
    pairs = [area_iou(first, second) for first, second in itertools.combinations(opinions.values(), 2)]
    return math.fsum(pairs) / len(pairs) if pairs else None


_Mark = tuple[str, PixelBox]


def _agreed_boxes(opinions: Mapping[str, Sequence[PixelBox]]) -> tuple[tuple[PixelBox, ...], tuple[PixelBox, ...]]:
    """Agreed and contested boxes, each sorted."""
    agreed: set[PixelBox] = set()
    contested: set[PixelBox] = set()
    for cluster in _clusters(opinions):
        if 2 * len(cluster) > len(opinions):
            agreed.add(_median([box for _, box in cluster]))
        else:
            contested.update(box for _, box in cluster)
    return tuple(sorted(agreed, key=PixelBox.as_tuple)), tuple(sorted(contested, key=PixelBox.as_tuple))


def _clusters(opinions: Mapping[str, Sequence[PixelBox]]) -> list[list[_Mark]]:
    """Boxes that are the same one, at most one of each annotator; all of a cluster overlap each other enough.

    The best matching pair is joined first. Ties go by the boxes' own numbers, so that no order of input matters.
    """
    marks = [(name, box) for name, boxes in opinions.items() for box in set(boxes)]
    marks.sort(key=lambda mark: (mark[1].as_tuple(), mark[0]))
    overlaps = {
        (first, second): iou
        for first, second in itertools.combinations(marks, 2)
        if first[0] != second[0] and (iou := box_iou(first[1], second[1])) >= SAME_BOX_IOU
    }
    cluster_of = {mark: [mark] for mark in marks}
    for (first, second), _ in sorted(overlaps.items(), key=lambda pair: -pair[1]):
        one, other = cluster_of[first], cluster_of[second]
        if one is not other and all((a, b) in overlaps or (b, a) in overlaps for a in one for b in other):
            one += other
            cluster_of.update(dict.fromkeys(other, one))
    return list({id(cluster): cluster for cluster in cluster_of.values()}.values())


def _median(boxes: Sequence[PixelBox]) -> PixelBox:
    """The box of the median edges; a half pixel is given to the box."""
    x0, y0, x1, y1 = (statistics.median(edges) for edges in zip(*(box.as_tuple() for box in boxes), strict=True))
    return PixelBox(x0=math.floor(x0), y0=math.floor(y0), x1=math.ceil(x1), y1=math.ceil(y1))
