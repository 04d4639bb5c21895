"""What leaves the system: one `AuditRecord` a picture, one JSON line in results.jsonl."""

from typing import Literal

from pydantic import BaseModel, Field, field_validator

from schemas.geometry import PixelBox
from schemas.states import Verdict


class Region(BaseModel):
    """One connected part of the mask above 0.5."""

    box: PixelBox
    score: float = Field(ge=0, le=1, description="mean mask probability inside the region")


class ProfileRecord(BaseModel):
    """The same picture as one social network would deliver it (simulated)."""

    score: float = Field(ge=0, le=1)
    verdict: Verdict
    mask_agreement: float = Field(ge=0, le=1, description="IoU with the picture's own mask, both above 0.5; 1 if both are empty")


class ErrorRecord(BaseModel):
    """Why a picture has no result."""

    code: str
    message: str

    @field_validator("message")
    @classmethod
    def _storable(cls, message: str) -> str:
        # Decoders quote the bytes they choke on; PostgreSQL takes neither NUL nor lone surrogates.
        return message.replace("\x00", "").encode("utf-8", "replace").decode()


class AuditRecord(BaseModel):
    """The outcome of one picture, as results.jsonl, `results --json` and the report show it."""

    image: str = Field(description="path as given, relative to the folder that was named")
    sha256: str | None = None
    source_profile: str | None = Field(default=None, description="the network the picture was taken from, if its submitter knew")
    status: Literal["done", "failed"]
    error: ErrorRecord | None = None
    score: float | None = Field(default=None, ge=0, le=1, description="calibrated probability that the picture was manipulated")
    verdict: Verdict | None = None
    second_score: float | None = Field(
        default=None, ge=0, le=1, description="score after a mild recompression; only where the score lies near a threshold"
    )
    stable: bool | None = Field(default=None, description="whether the verdict survived that; where not, it is review")
    area: float | None = Field(default=None, ge=0, le=1, description="fraction of pixels above 0.5")
    regions: list[Region] = []
    mask: str | None = Field(default=None, description="path of the 8-bit probability mask, the picture's own size")
    model_version: str | None = None
    width: int | None = None
    height: int | None = None
    latency_ms: float | None = Field(default=None, description="from taking the message to having the result")
    profiles: dict[str, ProfileRecord] = {}
    reused_from: int | None = Field(
        default=None,
        description="number of the earlier result of the same bytes that stands here again; no second audit was made",
    )


class SimilarRecord(AuditRecord):
    """A stored picture that looks like another, with its newest outcome."""

    distance_bits: int = Field(ge=0, le=256, description="how many bits of their perceptual hashes differ")
