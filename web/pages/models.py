"""The models: which is live, which wait, what was refused; one version in full; and decisions about them, by an admin."""

from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Form, Path, Query, Request, Response

from schemas.errors import NotFound
from schemas.tables import ModelVersion
from storage import registry
from storage.model_changes import masks_of
from storage.model_record import run_of
from storage.model_shelf import shelf
from storage.pictures import kept_pictures, names_of
from storage.run_files import run_curves
from web import thumbnails
from web.context import ContextDep
from web.learning.account import account_of, changes_of, glance_of, metrics_of
from web.learning.words import measures
from web.pages.answers import go_to
from web.pages.rendering import page
from web.sessions import AdminPerson, Viewer
from workers.student_files import directory_of

router = APIRouter(include_in_schema=False)

Version = Annotated[str, Path(pattern=r"^[^\x00-\x1f/]{1,64}$")]
Sha256 = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
Reason = Annotated[str, Form(max_length=4000)]
Named = Annotated[str | None, Form(max_length=64)]
_CHANGES_SHOWN: Final = 24
_MAX_NUMBER: Final = 2**63 - 1


@router.get("/models")
def overview(request: Request, context: ContextDep, person: Viewer) -> Response:
    with context.database.read() as session:
        found = shelf(session)
        glances = [glance_of(session, row, found.live) for row in found.candidates]
        session.expunge_all()
    words = measures(metrics_of(found.live))
    return page(request, "models.html.j2", person, "models", shelf=found, glances=glances, live_measures=words)


@router.post("/models/rollback")
def rollback(
    request: Request, context: ContextDep, person: AdminPerson, reason: Reason, to: Named = None, from_version: Named = None
) -> Response:
    """Go back to the version that the page named; the registry refuses it where another decision was faster."""
    with context.database.write() as session:
        row = registry.rollback(session, person.name, reason, to, from_version=from_version)
        version = row.version
    return _decided(request, version)


@router.get("/models/{version}")
def show(request: Request, context: ContextDep, person: Viewer, version: Version) -> Response:
    with context.database.read() as session:
        _known(session.get(ModelVersion, version), version)
        live, refusal = registry.live(session), registry.rejection(session, version)
    account = account_of(context.database, context.blobs, version)
    values: dict[str, Any] = {
        "account": account,
        "rejected": refusal is not None,
        "live_version": live.version if live else "",
        "curves": run_curves(account.run, context.blobs) is not None,
    }
    return page(request, "model.html.j2", person, "models", **values)


@router.post("/models/{version}/promote")
def promote(
    request: Request,
    context: ContextDep,
    person: AdminPerson,
    version: Version,
    reason: Reason,
    from_version: Named = None,
    override: Annotated[bool, Form()] = False,
) -> Response:
    """Make a version live, once it is sure that its files can be had: no worker could take over what cannot."""
    with context.database.read() as session:
        row = _known(session.get(ModelVersion, version), version)
    directory_of(row, context.settings, context.blobs)
    with context.database.write() as session:
        registry.promote(session, version, person.name, reason, from_version=from_version, override=override)
    return _decided(request, version)


@router.post("/models/{version}/reject")
def reject(request: Request, context: ContextDep, person: AdminPerson, version: Version, reason: Reason) -> Response:
    with context.database.write() as session:
        _known(session.get(ModelVersion, version), version)
        registry.reject(session, version, person.name, reason)
    return _decided(request, version)


@router.get("/models/{version}/curves.png")
def curves(context: ContextDep, _person: Viewer, version: Version) -> Response:
    """The curves of its training, as its run left them."""
    with context.database.read() as session:
        _known(session.get(ModelVersion, version), version)
        run = run_of(session, version)
    data = run_curves(run, context.blobs)
    if data is None:
        raise NotFound("no curves were kept for this version")
    return Response(data, media_type="image/png")


@router.get("/models/{version}/changes")
def changes(request: Request, context: ContextDep, person: Viewer, version: Version) -> Response:
    """The part with the pictures that changed most: loaded by itself, since finding them takes a while."""
    with context.database.read() as session:
        _known(session.get(ModelVersion, version), version)
    account = account_of(context.database, context.blobs, version)
    found = changes_of(context.database, context.blobs, account, _CHANGES_SHOWN)
    pictures = [each.sha256 for each in found]
    numbers = [said.result_id for each in found for said in (each.old, each.new) if said.result_id is not None]
    with context.database.read() as session:
        values: dict[str, Any] = {
            "names": names_of(session, pictures),
            "kept": kept_pictures(session, pictures),
            "masks": set(masks_of(session, numbers)),
        }
    return page(request, "model_changes.html.j2", person, account=account, changes=found, **values)


@router.get("/pictures/{sha256}/small.jpg")
def small_picture(
    request: Request,
    context: ContextDep,
    _person: Viewer,
    sha256: Sha256,
    result: Annotated[int | None, Query(ge=1, le=_MAX_NUMBER)] = None,
) -> Response:
    """A stored picture, small and encoded anew; with the mask of one of its results if that is named."""
    return thumbnails.small_picture(context, request, sha256, result)


def _known(row: ModelVersion | None, version: str) -> ModelVersion:
    if row is None:
        raise NotFound(f"no model version {version!r}")
    return row


def _decided(request: Request, version: str) -> Response:
    return go_to(request, f"/models/{quote(version, safe='')}")
