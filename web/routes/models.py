"""Which model versions there are, and decisions about them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session

from schemas.errors import Conflict, InvalidInput, NotFound
from schemas.tables import ModelVersion
from storage import registry
from web import examples
from web.access import Admin, Reader
from web.context import ContextDep
from web.problems import documented
from web.views import ModelDetails, ModelView, model_details, model_view

router = APIRouter(prefix="/v1/models", tags=["models"])

_VERSION = r"^[^\x00-\x1f/]{1,64}$"
Version = Annotated[str, Path(pattern=_VERSION)]
Reason = Annotated[str, Field(min_length=1, max_length=4000, pattern=r"\S", description="why; recorded with the key's name")]


class Decision(BaseModel):
    """A decision about a version."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": examples.DECISION})

    reason: Reason


class Promotion(Decision):
    """A decision to make a version live."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": examples.PROMOTION})

    from_version: str | None = Field(default=None, max_length=64, description="the live version that you looked at")
    override: bool = Field(default=False, description="although it was rejected")


class Rollback(Decision):
    """A decision to go back."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": examples.ROLLBACK})

    to: str | None = Field(default=None, max_length=64, description="a version that was live once; by default the one before")


@router.get("", response_model=list[ModelView], responses=documented(), summary="All versions, newest first")
def versions(context: ContextDep, _caller: Reader) -> list[ModelView]:
    with context.database.read() as session:
        return [model_view(row) for row in registry.versions(session)]


@router.get("/{version}", response_model=ModelDetails, responses=documented(404), summary="One version")
def show(context: ContextDep, _caller: Reader, version: Version) -> ModelDetails:
    """Its card, and every decision about it."""
    with context.database.read() as session:
        return _details(session, _known(session, version))


@router.post("/{version}/promote", response_model=ModelDetails, responses=documented(404, 409), summary="Make a version live")
def promote(context: ContextDep, caller: Admin, version: Version, given: Promotion) -> ModelDetails:
    """Workers take it up within seconds, between two batches. Name `from_version`, and a faster decision of another is told."""
    with context.database.write() as session, _as_conflict():
        _known(session, version)
        row = registry.promote(
            session, version, caller.who, given.reason, from_version=given.from_version, override=given.override
        )
        return _details(session, row)


@router.post("/{version}/reject", response_model=ModelDetails, responses=documented(404, 409), summary="Retire a version")
def reject(context: ContextDep, caller: Admin, version: Version, given: Decision) -> ModelDetails:
    """Neither a roll-back nor a promotion without override makes it live any more."""
    with context.database.write() as session, _as_conflict():
        _known(session, version)
        return _details(session, registry.reject(session, version, caller.who, given.reason))


@router.post("/{version}/rollback", response_model=ModelDetails, responses=documented(404, 409), summary="Go back from a version")
def rollback(context: ContextDep, caller: Admin, version: Version, given: Rollback) -> ModelDetails:
    """From the version that is live, to the one that was before it. Named, so that a repeated request goes back no further."""
    with context.database.write() as session, _as_conflict():
        for each in filter(None, (version, given.to)):
            _known(session, each)
        return _details(session, registry.rollback(session, caller.who, given.reason, given.to, from_version=version))


def _known(session: Session, version: str) -> ModelVersion:
    row = session.get(ModelVersion, version)
    if row is None:
        raise NotFound(f"no model version {version!r}; GET /v1/models lists them")
    return row


def _details(session: Session, row: ModelVersion) -> ModelDetails:
    return model_details(row, registry.decisions(session, row.version))


@contextmanager
def _as_conflict() -> Iterator[None]:
    """Of a decision whose form was checked, the registry refuses only what does not fit what stands."""
    try:
        yield
    except InvalidInput as error:
        raise Conflict(error.message) from error
