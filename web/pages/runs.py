"""Retraining runs: all of them, one of them while it goes on, nights in figures; begun and cancelled by an admin."""

import uuid
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from sqlmodel import Session

from schemas.errors import InvalidInput, NotFound
from schemas.learning_tables import RetrainRun
from schemas.states import RetrainState, RetrainTrigger
from schemas.tables import now
from storage import audit_log, leases, runs
from storage.annotation_queries import count_new
from web.context import ContextDep
from web.learning.figures import check_rows, held_out_rows
from web.learning.nights import charts, nights_of
from web.pages.answers import go_to
from web.pages.rendering import page
from web.sessions import AdminPerson, Viewer

router = APIRouter(prefix="/runs", include_in_schema=False)

STEPS: Final = (
    (RetrainState.QUEUED, "waits for a trainer"),
    (RetrainState.SELECTING, "chooses pictures"),
    (RetrainState.TEACHING, "boxes to masks"),
    (RetrainState.TRAINING, "trains"),
    (RetrainState.EVALUATING, "measures and decides"),
)
_LISTED: Final = 100


@router.get("")
def listed(request: Request, context: ContextDep, person: Viewer) -> Response:
    with context.database.read() as session:
        found = runs.listed(session, _LISTED)
        new = count_new(session, runs.past(session, now()).read_up_to)
        trainer = leases.holder(session, runs.LEASE)
    under_way = next((run for run in found if not run.state.ended), None)
    values: dict[str, Any] = {
        "runs": found,
        "under_way": under_way,
        "new": new,
        "trainer": trainer,
        "charts": charts(nights_of(found)),
    }
    return page(request, "runs.html.j2", person, "runs", listed=_LISTED, **values, **(_progress(under_way) if under_way else {}))


@router.post("")
def begin(request: Request, context: ContextDep, person: AdminPerson) -> Response:
    """Begin a run by hand. It waits in SQL; beat calls a trainer for it within a minute."""
    with context.database.write() as session:
        run, is_new = runs.begin(session, RetrainTrigger.MANUAL)
        run_id = run.id
        if is_new:
            audit_log.append(session, person.name, "run.begin", _subject(run_id))
    return go_to(request, f"/runs/{run_id}")


@router.get("/{run_id}")
def show(request: Request, context: ContextDep, person: Viewer, run_id: uuid.UUID) -> Response:
    with context.database.read() as session:
        run = _found(session, run_id)
        trainer = leases.holder(session, runs.LEASE)
    measured = run.figures.get("measured")
    both = isinstance(measured, dict) and all(isinstance(measured.get(name), dict) for name in ("live", "candidate"))
    values: dict[str, Any] = {
        "trainer": trainer,
        "checks": check_rows(run.decision.get("checks")),
        "held_out": held_out_rows(measured["live"], measured["candidate"]) if both and isinstance(measured, dict) else [],
        "selection": _dict(run.figures.get("selection")),
        "teaching": _dict(run.figures.get("teaching")),
    }
    return page(request, "run.html.j2", person, "runs", **values, **_progress(run))


@router.get("/{run_id}/progress")
def progress(request: Request, context: ContextDep, person: Viewer, run_id: uuid.UUID) -> Response:
    """The part that the page asks for while a run goes on; once it has ended, the whole page is loaded anew."""
    with context.database.read() as session:
        run = _found(session, run_id)
    if run.state.ended:
        return Response(status_code=204, headers={"HX-Refresh": "true"})
    return page(request, "run_progress.html.j2", person, **_progress(run))


@router.post("/{run_id}/cancel")
def cancel(request: Request, context: ContextDep, person: AdminPerson, run_id: uuid.UUID) -> Response:
    """Its candidate is dropped; its boxes are learned from by the next run."""
    with context.database.write() as session:
        _found(session, run_id)
        runs.cancel(session, run_id)
        audit_log.append(session, person.name, "run.cancel", _subject(run_id))
    return go_to(request, f"/runs/{run_id}")


def _found(session: Session, run_id: uuid.UUID) -> RetrainRun:
    try:
        return runs.get(session, run_id)
    except InvalidInput as error:
        raise NotFound(f"no retraining run {run_id}") from error


def _progress(run: RetrainRun) -> dict[str, Any]:
    """How far a run is."""
    places = [state for state, _ in STEPS]
    share = run.step / run.steps_total if run.steps_total and run.state is RetrainState.TRAINING else None
    return {
        "run": run,
        "short": runs.short(run.id),
        "steps": STEPS,
        "place": places.index(run.state) if run.state in places else len(places),
        "share": share,
    }


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _subject(run_id: uuid.UUID) -> str:
    return f"run {runs.short(run_id)}"
