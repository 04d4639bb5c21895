"""A store in which nights have passed: a live version, candidates, and the runs that made them."""

import uuid
from datetime import timedelta
from typing import Any

from model.card import Card, builtin_directory
from schemas.learning_tables import RetrainRun
from schemas.states import RetrainState, RetrainTrigger
from schemas.tables import now
from storage import registry
from storage.database import Database

CARD = Card.load(builtin_directory())
HOSTILE = '<script>alert("1")</script>\u202e&amp;'
"""What somebody may call anything."""


def check(name: str, live: float, candidate: float, passed: bool = True, **more: Any) -> dict[str, Any]:
    return {"name": name, "passed": passed, "sentence": f"about {name}", "live": live, "candidate": candidate, **more}


def measured(version: str, f1: float) -> dict[str, Any]:
    return {"version": version, "f1": {"none": f1, "wechat": f1 - 0.01}, "false_area": 0.02, "ms_per_picture": 90.0}


def make_live(database: Database) -> str:
    """The packaged student; its version."""
    with database.write() as session:
        registry.ensure_live(session, CARD.version, CARD.model_dump(mode="json"), registry.PACKAGE_LOCATION)
    return CARD.version


def add_candidate(
    database: Database,
    version: str,
    state: RetrainState = RetrainState.PROPOSED,
    location: str = registry.PACKAGE_LOCATION,
    reason: str = "made",
    **columns: Any,
) -> uuid.UUID:
    """A candidate beside the packaged student, with the run that made it; the run's id."""
    checks = [
        check("f1", 0.25, 0.3, difference=0.05, interval=[0.01, 0.09], margin=0.002),
        check("false area", 0.01, 0.03, passed=False, difference=0.02, interval=[0.0, 0.04], margin=0.01),
        {"name": "enough pictures", "passed": True, "sentence": "412 held-out pictures are enough"},
    ]
    values: dict[str, Any] = {
        "figures": {"measured": {"live": measured(CARD.version, 0.25), "candidate": measured(version, 0.3)}},
        "decision": {"promote": True, "checks": checks, "summary": "surely better", "live": CARD.version},
        "manifest_sha256": "ab" * 32,
        "finished_at": now() if state.ended else None,
        "reason": "surely better" if state.ended else "",
    }
    run = RetrainRun(
        trigger=RetrainTrigger.SCHEDULE, state=state, parent_version=CARD.version, candidate_version=version, **values | columns
    )
    run_id = run.id
    with database.write() as session:
        session.add(run)
        session.flush()
        card = CARD.model_dump(mode="json") | {"version": version}
        registry.register(session, version, card, location, registry.OURSELVES, reason, run_id)
    return run_id


def add_run(database: Database, state: RetrainState, **columns: Any) -> uuid.UUID:
    """A run without a candidate, an hour old."""
    run = RetrainRun(trigger=RetrainTrigger.SCHEDULE, state=state, created_at=now() - timedelta(hours=1), **columns)
    run_id = run.id
    with database.write() as session:
        session.add(run)
    return run_id
