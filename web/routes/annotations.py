"""What people say of pictures: boxes, or that they are authentic."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlmodel import Session

from schemas.errors import Conflict, InvalidInput, NotFound
from schemas.geometry import PixelBox
from schemas.learning_tables import BoxAnnotation
from schemas.states import AnnotationKind, AnnotationOrigin
from storage import annotation_queries, annotations, pictures
from storage.annotation_checks import MOST_BOXES, NewAnnotation
from storage.reviews import picture_of
from web import examples
from web.access import Reader, Reviewer
from web.context import ContextDep
from web.problems import documented
from web.routes.results import MAX_NUMBER
from web.views import AnnotationPage, AnnotationView, annotation_view

router = APIRouter(prefix="/v1/annotations", tags=["annotations"])

_SHA256 = r"^[0-9a-f]{64}$"
_Person = Annotated[str | None, Field(min_length=1, max_length=60, description="the person, where several use the same key")]


class Said(BaseModel):
    """Where a picture was manipulated, or that it was not."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": examples.NEW_ANNOTATION})

    sha256: str | None = Field(default=None, pattern=_SHA256, description="the picture; or name a result of it")
    result_id: int | None = Field(default=None, ge=1, le=MAX_NUMBER, description="the result that was looked at")
    kind: AnnotationKind = Field(description="boxes, or authentic")
    boxes: list[PixelBox] = Field(
        default=[],
        max_length=MOST_BOXES,
        description="in the picture's own pixels, EXIF orientation applied; x1 and y1 exclusive",
    )
    width: int | None = Field(default=None, ge=1, le=2**31 - 1, description="of the picture, where it was never audited")
    height: int | None = Field(default=None, ge=1, le=2**31 - 1)
    source_id: str | None = Field(default=None, max_length=256, description="scene, campaign or account it comes from")
    note: str = Field(default="", max_length=4096)
    replaces: int | None = Field(default=None, ge=1, le=MAX_NUMBER, description="another's annotation that this one corrects")
    by: _Person = None

    @model_validator(mode="after")
    def _names_a_picture(self) -> "Said":
        if self.sha256 is None and self.result_id is None:
            raise ValueError("name the picture by sha256, or by result_id")
        return self


class Undo(BaseModel):
    """Why an annotation is taken back."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": examples.UNDO})

    reason: str = Field(min_length=1, max_length=4096, pattern=r"\S")
    by: _Person = None


def _sha256_of(session: Session, result_id: int) -> str:
    """Raises NotFound: no such result, or its picture's bytes were never stored."""
    try:
        sha256 = picture_of(session, result_id).sha256
    except InvalidInput as error:
        raise NotFound(error.message) from error
    if sha256 is None:
        raise NotFound(f"the picture of result {result_id} is not stored")
    return sha256


@router.post("", response_model=AnnotationView, responses=documented(404, 409), summary="Annotate a picture")
def add(context: ContextDep, caller: Reviewer, said: Said) -> AnnotationView:
    """Your later word takes the place of your earlier one; saying the same again adds nothing. Nothing is ever overwritten."""
    annotator = caller.on_behalf_of(said.by)
    with context.database.write() as session:
        sha256 = said.sha256 or _sha256_of(session, said.result_id or 0)
        if not pictures.known_pictures(session, [sha256]):
            raise NotFound(f"no picture {sha256} is known here")
        new = NewAnnotation(
            sha256=sha256,
            annotator=annotator,
            kind=said.kind,
            origin=AnnotationOrigin.API,
            boxes=tuple(said.boxes),
            width_px=said.width,
            height_px=said.height,
            result_id=said.result_id,
            source_id=said.source_id,
            note=said.note,
            replaces=said.replaces,
        )
        return annotation_view(annotations.add_annotation(session, new).annotation)


@router.get("", response_model=AnnotationPage, responses=documented(), summary="Annotations")
def read(
    context: ContextDep,
    _caller: Reader,
    sha256: Annotated[str | None, Query(pattern=_SHA256, description="everything ever said of this picture")] = None,
    cursor: Annotated[int, Query(ge=0, le=MAX_NUMBER, description="of all pictures: number of the last one you have")] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> AnnotationPage:
    """Of one picture its whole history, and of all pictures page by page, each annotation exactly once."""
    with context.database.read() as session:
        if sha256 is not None:
            rows = annotation_queries.history(session, sha256)
        else:
            rows = annotation_queries.read_annotations(session, cursor, limit)
        views = [annotation_view(row) for row in rows]
    return AnnotationPage(annotations=views, next_cursor=views[-1].id if views else cursor)


@router.post("/{number}/undo", response_model=AnnotationView, responses=documented(404, 409), summary="Take one back")
def undo(context: ContextDep, caller: Reviewer, number: Annotated[int, Path(ge=1, le=MAX_NUMBER)], given: Undo) -> AnnotationView:
    """A row of its own, with the reason. What the annotation had replaced stays replaced."""
    who = caller.on_behalf_of(given.by)
    with context.database.write() as session:
        if session.get(BoxAnnotation, number) is None:
            raise NotFound(f"no annotation {number}")
        try:
            return annotation_view(annotations.retract(session, number, who, given.reason, AnnotationOrigin.API))
        except InvalidInput as error:
            raise Conflict(error.message) from error
