"""What crosses the broker: versioned JSON, nothing else. Any producer may send these."""

import json
import uuid
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.errors import InvalidMessage
from schemas.states import AuditQueue

AUDIT_TASK = "audit.image"
MAX_URL = 2048
# Any network's name, also of one that no profile simulates.
SOURCE_PROFILE = r"^[a-z0-9][a-z0-9_.-]{0,31}$"


class AuditMessage(BaseModel):
    """Version 1 of "please audit this picture", the single argument of the Celery task `audit.image`.

    The picture's bytes must lie in the blob store under `storage.blobs.picture_key(sha256)` before the message is sent;
    or the message names, instead of `sha256`, a `url` at which the worker finds them. What that URL may be is the worker's
    to say, and a URL it does not fetch fails the job, not the message. A job row need not exist: the worker makes it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    job_id: uuid.UUID
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$", description="of the picture's bytes")
    url: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_URL,
        pattern=r"^[^\x00]*$",
        description="where the bytes are, in place of sha256",
    )
    source: str = Field(max_length=4096, pattern=r"^[^\x00]*$", description="a name people recognise the picture by")
    queue: AuditQueue = AuditQueue.DEFAULT
    profiles: tuple[str, ...] = Field(default=(), max_length=8, description="social-media profiles to audit as well")
    source_profile: str | None = Field(
        default=None, pattern=SOURCE_PROFILE, description="the network the picture was taken from; kept with the job"
    )

    @model_validator(mode="after")
    def _names_one_picture(self) -> "AuditMessage":
        if (self.sha256 is None) == (self.url is None):
            raise ValueError("give either sha256 or url")
        return self

    def payload(self) -> dict[str, Any]:
        """The message as plain JSON types. What it does not say is left out, so that workers of an earlier release read it."""
        return self.model_dump(mode="json", exclude_none=True)

    @classmethod
    def parse(cls, payload: object) -> "AuditMessage":
        """Read a message from the broker.

        Raises:
            InvalidMessage: naming each field that is wrong.
        """
        if isinstance(payload, dict) and payload.get("version", 1) != 1:
            raise InvalidMessage(f"audit message version {payload['version']!r} is not known here; this release reads version 1")
        try:
            # Through JSON, so that strictness is the wire format's own: "…" for a UUID, a list for a tuple.
            return cls.model_validate_json(json.dumps(payload))
        except (ValidationError, TypeError, ValueError, RecursionError) as error:
            raise InvalidMessage(f"not a version 1 audit message: {error}") from error
