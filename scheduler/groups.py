"""The source or annotator that a candidate does worst by, compared with the live model."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from scheduler.scores import PictureScores

Pair = tuple[PictureScores, PictureScores]


class Group(NamedTuple):
    """One group's figures; `difference` is candidate minus live."""

    name: str
    n: int
    candidate: float
    live: float
    difference: float


def worst_group(pairs: Sequence[Pair], figure: Callable[[PictureScores], float], sign: int, least: int) -> Group | None:
    """The group with the largest loss.

    Args:
        pairs: (candidate's, live model's) scores of the same picture.
        figure: of one picture.
        sign: +1 where higher is better, -1 where lower is.
        least: groups with fewer pictures are pooled, sources and annotators apart; a pool still below that is not judged.

    Returns:
        None where no group is large enough.
    """
    members: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        for key in _groups(pair[0]):
            members.setdefault(key, []).append(pair)
    pooled: dict[str, dict[str, Pair]] = {}
    judged = {f"{kind} {name}": group for (kind, name), group in members.items() if len(group) >= least}
    for (kind, _), group in members.items():
        if len(group) < least:
            # A picture of two small annotators counts once.
            pooled.setdefault(f"all small {kind}s", {}).update({pair[0].sha256: pair for pair in group})
    judged |= {name: list(pool.values()) for name, pool in pooled.items() if len(pool) >= least}
    groups = [_figures(name, group, figure) for name, group in sorted(judged.items())]
    return min(groups, key=lambda group: sign * group.difference, default=None)


def _groups(picture: PictureScores) -> list[tuple[str, str]]:
    sources = [("source", picture.source_id)] if picture.source_id is not None else []
    return [*sources, *(("annotator", name) for name in picture.annotators)]


def _figures(name: str, group: Sequence[Pair], figure: Callable[[PictureScores], float]) -> Group:
    new, old = np.array([(figure(mine), figure(other)) for mine, other in group], dtype=np.float64).T
    return Group(name, len(group), float(new.mean()), float(old.mean()), float((new - old).mean()))
