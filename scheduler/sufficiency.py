"""Whether a hold-out is large enough for a candidate to be judged on it."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from schemas.learning_settings import PromotionSettings


class Labelled(Protocol):
    """A manifest's entry, or a picture's scores."""

    @property
    def tampered(self) -> bool: ...

    @property
    def cluster(self) -> str: ...


def shortages(pictures: Iterable[Labelled], settings: PromotionSettings) -> list[str]:
    """What is lacking, in words; nothing where there is enough."""
    held_out = list(pictures)
    kinds = (("manipulated", True, settings.least_tampered), ("authentic", False, settings.least_authentic))
    found = [
        _shortage([picture for picture in held_out if picture.tampered == tampered], word, least, settings.least_clusters)
        for word, tampered, least in kinds
    ]
    return [said for said in found if said]


def _shortage(pictures: Sequence[Labelled], word: str, least: int, least_clusters: int) -> str:
    clusters = len({picture.cluster for picture in pictures})
    if len(pictures) >= least and clusters >= least_clusters:
        return ""
    held = f"{len(pictures)} {word} pictures from {clusters} sources or clusters are held out"
    return f"{held}; it takes {least} from {least_clusters} to judge a candidate"
