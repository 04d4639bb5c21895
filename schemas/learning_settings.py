"""What the learning loop takes for training, and what a candidate must show before it goes live."""

from pydantic import BaseModel, ConfigDict, Field


class _Group(BaseModel):
    """A misspelt variable is an error, not silence."""

    model_config = ConfigDict(extra="forbid")


class SelectionSettings(_Group):
    """What a night trains on, and what is kept apart to measure it."""

    holdout_share: float = Field(default=0.2, gt=0, lt=1, description="chance of a source or cluster to be held out for good")
    holdout_salt: str = Field(default="", description="secret word in the draw, so that nobody can tell what is held out")
    holdout_most: int = Field(default=2000, ge=1, description="held-out pictures measured in one run at most")
    tuning_share: float = Field(default=0.1, gt=0, lt=0.5, description="share of training pictures kept for early stop")
    least_new: int = Field(default=20, ge=1, description="newly annotated pictures that make a run worth while")
    least_tampered: int = Field(default=20, ge=2, description="manipulated training pictures below which no run starts")
    least_authentic: int = Field(default=10, ge=2, description="the same for authentic ones")
    replay_ratio: float = Field(default=3.0, ge=0, description="pictures of earlier nights for each new one at most")
    replay_least: int = Field(default=200, ge=0, description="the earlier nights may always give this many")
    base_most: int = Field(default=2000, ge=0, description="pictures of the base set in one run at most")
    annotator_share: float = Field(default=0.5, gt=0, le=1, description="largest share of the boxes that rest on one annotator")
    annotator_most: int = Field(default=500, ge=1, description="pictures that rest on one annotator at most")
    source_share: float = Field(default=0.5, gt=0, le=1, description="largest share of the boxes from one source")
    source_most: int = Field(default=500, ge=1, description="pictures from one source at most")
    cap_floor: int = Field(default=100, ge=0, description="shares never cut an annotator or a source below this many pictures")
    class_share: float = Field(default=0.9, ge=0.5, le=1, description="largest share of manipulated, or of authentic, pictures")


class PromotionSettings(_Group):
    """When a candidate is better than the live model. Figures are compared on the same held-out pictures."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="of every interval, two-sided")
    resamples: int = Field(default=4000, ge=200, description="draws of each bootstrap")
    least_gain: float = Field(default=0.002, ge=0, description="pixel F1 must rise by at least this, beside being surely above 0")
    least_tampered: int = Field(default=60, ge=2, description="manipulated held-out pictures below which nothing is promoted")
    least_authentic: int = Field(default=30, ge=2, description="the same for authentic ones")
    least_clusters: int = Field(default=30, ge=2, description="independent sources or clusters among each of the two kinds")
    profile_margin: float = Field(default=0.02, ge=0, description="largest loss of pixel F1 through a simulated delivery")
    area_margin: float = Field(default=0.01, ge=0, description="largest rise of the false-alarm area of authentic pictures")
    brier_margin: float = Field(default=0.02, ge=0, description="largest rise of the Brier score of the calibrated score")
    verdict_margin: float = Field(default=0.05, ge=0, description="largest rise of false flags, or of missed manipulations")
    pointing_margin: float = Field(default=0.04, ge=0, description="largest loss against the boxes themselves, without a teacher")
    group_margin: float = Field(default=0.05, ge=0, description="largest loss of any source or annotator, in F1 or area")
    group_least: int = Field(default=20, ge=2, description="sources and annotators with fewer held-out pictures are pooled")
    parity_limit: float = Field(default=0.001, gt=0, description="largest difference between the export and torch")
    slower_ratio: float = Field(default=1.25, gt=0, description="most time a picture, as a ratio to the live model")
    larger_ratio: float = Field(default=1.25, gt=0, description="largest size of the weights, as a ratio to the live model")
