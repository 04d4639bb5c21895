"""Every page there is, over a store in which a little has happened."""

from sqlmodel import col, select

from schemas.states import JobState, RetrainState, Verdict
from schemas.tables import OWN_PICTURE, AuditJob, AuditResult, now
from tests.browser.site import Site
from tests.web.learned import add_candidate, add_run, make_live


def fill(site: Site) -> dict[str, str]:
    """Make nights and a failure; returns the address of every page by its name."""
    make_live(site.database)
    run = add_candidate(site.database, "student-candidate")
    add_run(site.database, RetrainState.FAILED, reason="the disk was full", finished_at=now())
    with site.database.write() as session:
        session.add(AuditJob(source="broken.jpg", state=JobState.FAILED, error_code="decode_failed", error_message="cut off"))
        query = select(AuditResult.id).where(AuditResult.verdict == Verdict.FLAG, AuditResult.profile == OWN_PICTURE)
        number = session.exec(query.order_by(col(AuditResult.score).desc())).first()
    return {
        "login": "/login",
        "review": "/review",
        "result": f"/review/results/{number}",
        "results": "/results",
        "models": "/models",
        "model": "/models/student-candidate",
        "runs": "/runs",
        "run": f"/runs/{run}",
        "dashboard": "/dashboard",
        "failures": "/dashboard/failures/decode_failed",
        "missing": "/nowhere",
    }
