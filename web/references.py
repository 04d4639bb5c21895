"""Pictures that are named instead of sent: by the sha256 of stored bytes, by URL, or by S3 address."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from model.compress import PROFILES
from schemas.messages import MAX_URL, SOURCE_PROFILE
from schemas.states import AuditQueue
from storage.annotation_checks import storable
from web import examples

MOST_REFERENCES: Final = 1000
MAX_NAME: Final = 1024
_MOST_PROFILES: Final = 8
_PATH_TRICK: Final = re.compile(r"^[/\\]|(^|[/\\])\.\.([/\\]|$)|\\")


def _shown_name(text: str) -> str:
    """A name for people; it must not lead anywhere should somebody take it for a path."""
    if not storable(text) or not text.isprintable():
        raise ValueError("holds characters that cannot be shown")
    if _PATH_TRICK.search(text):
        raise ValueError("must not begin with a slash, hold a backslash, or lead upwards")
    return text


def _plain(text: str) -> str:
    if not storable(text) or not text.isprintable():
        raise ValueError("holds characters that cannot be shown")
    return text


def known_profiles(names: tuple[str, ...]) -> tuple[str, ...]:
    """Profile names, each once.

    Raises:
        ValueError: one is unknown.
    """
    unknown = [name for name in names if name not in PROFILES]
    if unknown:
        raise ValueError(f"unknown profile; choose from {', '.join(PROFILES)}")
    return tuple(dict.fromkeys(names))


Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME), AfterValidator(_shown_name)]
ClientRef = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_plain)]
Profiles = Annotated[tuple[str, ...], Field(max_length=_MOST_PROFILES), AfterValidator(known_profiles)]
SourceProfile = Annotated[str, Field(pattern=SOURCE_PROFILE)]


class Wishes(BaseModel):
    """How pictures are audited.

    Attributes:
        queue: high, default or bulk.
        profiles: social networks to audit each picture as well as they would deliver it.
        source_profile: the network the pictures were taken from; kept with them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    queue: AuditQueue = AuditQueue.DEFAULT
    profiles: Profiles | None = Field(default=None, description="null: as the settings say for the queue")
    source_profile: SourceProfile | None = Field(default=None, description="the network the pictures were taken from")


class PictureReference(BaseModel):
    """One picture by exactly one of `sha256`, `url` and `s3`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$", description="of bytes that are stored already")
    url: str | None = Field(default=None, min_length=1, max_length=MAX_URL, description="where a worker fetches the bytes")
    s3: str | None = Field(
        default=None, min_length=6, max_length=1200, description="s3://bucket/key; copied when it is asked for"
    )
    name: Name | None = Field(default=None, description="what people will see")
    client_ref: ClientRef | None = Field(default=None, description="your own name; the same one is audited once, for all keys")
    queue: AuditQueue | None = None
    profiles: Profiles | None = None
    source_profile: SourceProfile | None = None

    @model_validator(mode="after")
    def _names_one_picture(self) -> "PictureReference":
        if [self.sha256, self.url, self.s3].count(None) != 2:
            raise ValueError("give exactly one of sha256, url and s3")
        return self


class AuditOrder(Wishes):
    """A list of pictures to audit."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": examples.ORDER})

    pictures: list[PictureReference] = Field(min_length=1, max_length=MOST_REFERENCES)
