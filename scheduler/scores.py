"""How a student did on each held-out picture: what the promotion rule compares, and what a report shows."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from model.calibration import VerdictWord
from model.sweeps import AS_IS

Truth = Literal["mask", "teacher"]
"""What F1 is held against: a true mask, or the teacher's pseudo-mask of a person's boxes."""


class PictureScores(BaseModel):
    """One picture.

    Attributes:
        sha256, tampered, cluster, source_id, annotators: as in the manifest.
        truth: None for an authentic picture.
        f1: pixel F1 by variant ("none" is the picture as it is); empty for an authentic picture.
        alarm_area: fraction of pixels above 0.5, by variant.
        inside: share of what is marked that lies in boxes, 0 where nothing is marked; None for an authentic picture.
        found: share of boxes that were hit; None for an authentic picture.
        score: calibrated probability of manipulation, and the verdict, of the picture as it is.
    """

    model_config = ConfigDict(frozen=True)

    sha256: str
    tampered: bool
    cluster: str
    source_id: str | None = None
    annotators: tuple[str, ...] = ()
    truth: Truth | None = None
    f1: dict[str, float] = {}
    alarm_area: dict[str, float]
    inside: float | None = None
    found: float | None = None
    score: float
    verdict: VerdictWord

    @property
    def facts(self) -> tuple[object, ...]:
        """What does not depend on the student, and must be the same for both."""
        kinds = (sorted(self.f1), sorted(self.alarm_area), self.inside is None, self.found is None)
        return (self.sha256, self.tampered, self.cluster, self.source_id, self.annotators, self.truth, *kinds)

    @property
    def complete(self) -> bool:
        """Whether the figures that its label calls for are there, for the picture as it is and every other variant."""
        pointing = [value is not None for value in (self.inside, self.found)]
        wanted = set(self.alarm_area) if self.tampered else set()
        return AS_IS in self.alarm_area and set(self.f1) == wanted and pointing == [self.tampered] * 2

    @property
    def numbers(self) -> list[float]:
        """Every figure."""
        pointing = [value for value in (self.inside, self.found) if value is not None]
        return [*self.f1.values(), *self.alarm_area.values(), *pointing, self.score]


class StudentScores(BaseModel):
    """One student on the hold-out.

    Attributes:
        version: as in its card.
        weights_sha256, weights_bytes: of the file that serves.
        parity: largest difference between the exported network and torch; None where its card does not say.
        ms_per_picture: time of the network alone.
        pictures: in the manifest's order.
        failures: pictures without figures, by hash, and why.
    """

    model_config = ConfigDict(frozen=True)

    version: str
    weights_sha256: str
    weights_bytes: int
    parity: float | None
    ms_per_picture: float
    pictures: tuple[PictureScores, ...]
    failures: dict[str, str] = {}
