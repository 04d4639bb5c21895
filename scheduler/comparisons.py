"""The figures that are compared picture by picture, and the interval of their difference."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from model.sweeps import AS_IS
from scheduler.bootstrap import Interval, paired_interval
from scheduler.checks import Check
from scheduler.scores import PictureScores
from schemas.learning_settings import PromotionSettings

Figure = Callable[[PictureScores], float]


@dataclass(frozen=True)
class Compared:
    """A figure over the pictures of one label.

    Attributes:
        name: for the record.
        words: in sentences.
        tampered: the label of the pictures.
        figure: of one picture.
        sign: +1 where higher is better, -1 where lower is.
        margin: largest loss.
    """

    name: str
    words: str
    tampered: bool | None
    figure: Figure
    sign: int
    margin: float

    def applies(self, picture: PictureScores) -> bool:
        return self.tampered is None or picture.tampered == self.tampered


def compared_figures(pictures: Sequence[PictureScores], settings: PromotionSettings) -> list[Compared]:
    """What must not become worse."""
    profiles = sorted({name for picture in pictures for name in picture.f1} - {AS_IS})
    area, pointing, verdicts = settings.area_margin, settings.pointing_margin, settings.verdict_margin
    false_area = "false-alarm area of authentic pictures"
    return [
        *(Compared(f"f1 {name}", _through(name), True, f1_of(name), 1, settings.profile_margin) for name in profiles),
        Compared("boxes found", "share of boxes found", True, _found, 1, pointing),
        Compared("inside boxes", "share of the alarm inside boxes", True, _inside, 1, pointing),
        Compared("false area", false_area, False, area_as_is, -1, area),
        Compared("false area delivered", f"{false_area} through the simulated networks", False, _delivered_area, -1, area),
        Compared("brier", "Brier score", None, _squared_error, -1, settings.brier_margin),
        Compared("false flags", "share of authentic pictures flagged", False, _flagged, -1, verdicts),
        Compared("missed", "share of manipulated pictures passed", True, _passed, -1, verdicts),
    ]


def difference(
    compared: Compared, ours: Sequence[PictureScores], theirs: Sequence[PictureScores], settings: PromotionSettings, seed: int
) -> tuple[Check, Interval | None, int]:
    """Compare one figure over the pictures it applies to, of which there is at least one.

    Args:
        ours, theirs: the candidate's and the live model's scores of the same pictures, in the same order.

    Returns:
        A check with its figures that is still to be judged, the interval of the difference, and the number of pictures.
    """
    pairs = [(mine, other) for mine, other in zip(ours, theirs, strict=True) if compared.applies(mine)]
    new, old = np.array([(compared.figure(mine), compared.figure(other)) for mine, other in pairs], dtype=np.float64).T
    clusters = [mine.cluster for mine, _ in pairs]
    interval = paired_interval(new - old, clusters, settings.confidence, settings.resamples, seed)
    check = Check(
        name=compared.name,
        passed=False,
        sentence="",
        candidate=float(new.mean()),
        live=float(old.mean()),
        difference=float((new - old).mean()),
        interval=interval,
        margin=compared.margin,
    )
    return check, interval, len(pairs)


def f1_of(name: str) -> Figure:
    """Pixel F1 of a manipulated picture under one variant."""
    return lambda picture: picture.f1[name]


def area_as_is(picture: PictureScores) -> float:
    """Fraction of the picture as it is that is marked."""
    return picture.alarm_area[AS_IS]


def _through(name: str) -> str:
    return f"pixel F1 through simulated {name}"


def _delivered_area(picture: PictureScores) -> float:
    """Mean over the simulated networks; the picture as it is where none was simulated."""
    areas = [area for name, area in picture.alarm_area.items() if name != AS_IS]
    return float(np.mean(areas)) if areas else area_as_is(picture)


def _found(picture: PictureScores) -> float:
    return picture.found or 0.0


def _inside(picture: PictureScores) -> float:
    return picture.inside or 0.0


def _squared_error(picture: PictureScores) -> float:
    return (picture.score - picture.tampered) ** 2


def _flagged(picture: PictureScores) -> float:
    return float(picture.verdict == "flag")


def _passed(picture: PictureScores) -> float:
    return float(picture.verdict == "pass")
