"""What workers, the API and beat ask of SQL on the way of a picture, in a store that `generated_rows` has filled."""

import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta

from sqlalchemy import text
from sqlmodel import Session, col, select

from benchmarks.generated_rows import VERSIONS
from schemas.messages import AuditMessage
from schemas.records import ErrorRecord
from schemas.states import AuditQueue, JobState, Verdict
from schemas.tables import AuditJob, AuditResult, now
from storage import export_rows, jobs, queries, reaudit, recovery, retention, reuse
from storage.database import Database

Query = Callable[[Session], object]


def stream_queries(database: Database, count: int) -> dict[str, Query]:
    """Everything on the way of a picture, by what it is for; each may be called again and again, and is rolled back."""
    with database.read() as session:
        waiting = session.exec(select(AuditJob).where(AuditJob.state == JobState.QUEUED).limit(16)).all()
        running = session.exec(select(AuditJob).where(AuditJob.state == JobState.RUNNING).limit(16)).all()
        middle = session.exec(select(AuditResult.id).order_by(col(AuditResult.id)).limit(1)).one() or 0
        session.expunge_all()
    middle += count // 2
    messages = [_message(job, job.sha256 or "") for job in waiting]
    seen = [_message(job, _picture(database, middle + number)) for number, job in enumerate(waiting)]
    policy = reuse.ReusePolicy(VERSIONS[1], lambda _: False)
    finished = [jobs.Finished(job.id, job.fence, [_result(job.id)]) for job in running]
    new = [_new_job(number) for number in range(100)]
    ids = [job.id for job in running]
    month = now() - timedelta(days=30)
    old = retention.Selection(up_to=retention.older_than(now() - timedelta(days=60)))
    again = reaudit.Reaudit(VERSIONS[2], (Verdict.REVIEW,), since=month)
    anew = reaudit.Reaudit("student-4", (Verdict.REVIEW,), since=month)
    wanted = recovery.FailedJobs(since=month, permanent=True)
    submission = f"submission-{count // 20_000}"
    filters = export_rows.ExportFilter(since=month, verdict=Verdict.FLAG)
    return {
        "submit 100 pictures": lambda session: jobs.add_jobs(session, new),
        "claim 16 jobs": lambda session: jobs.claim_jobs(session, messages),
        "claim 16, pictures never seen": lambda session: reuse.claims_or_answers(session, messages, 120, policy),
        "claim 16, pictures seen before": lambda session: reuse.claims_or_answers(session, _pointed(session, seen), 120, policy),
        "settle 16 jobs": lambda session: jobs.finish_jobs(session, finished),
        "fail a job": lambda session: jobs.fail_job(session, ids[0], ErrorRecord(code="decode_failed", message="x")),
        "results page, any verdict": lambda session: queries.read_results(session, middle, 200),
        "results page, flagged": lambda session: queries.read_results(session, middle, 200, Verdict.FLAG),
        "results page, one network": lambda session: queries.read_results(session, middle, 200, source_profile="wechat"),
        "one result": lambda session: queries.result_numbered(session, middle + 7),
        "newest result of a picture": lambda session: queries.newest_audit(session, seen[0].sha256 or ""),
        "newly ended of a submission": lambda session: queries.ended_jobs(session, submission, None),
        "jobs of a submission by state": lambda session: queries.job_counts(session, submission),
        "gauges: queues": queries.queue_loads,
        "sweep: nothing lost": lambda session: recovery.any_lost(session, 30 * 86_400),
        "sweep: take 500 lost": lambda session: recovery.take_lost(session, list(AuditQueue), -1, as_of=now()),
        "status: jobs by state": queries.job_counts,
        "status: results by verdict": queries.verdict_counts,
        "status: failures by code": queries.failure_counts,
        "status: oldest waiting": queries.oldest_waiting,
        "newest failures": queries.failed_jobs,
        "retry: count": lambda session: recovery.count_failed(session, wanted),
        "export page, flagged": lambda session: export_rows.export_page(session, filters, middle, middle * 2, 1000),
        "reaudit: next 500": lambda session: session.exec(reaudit._jobs(anew).limit(500)).all(),
        "reaudit: nothing left": lambda session: session.exec(reaudit._jobs(again).limit(500)).all(),
        "retention: plan of 30 days": lambda session: retention.plan(session, old, frozenset({retention.Purged.ROWS})),
        "retention: keep the newest N": lambda session: retention.beyond_newest(session, count // 2),
    }


def _picture(database: Database, number: int) -> str:
    with database.read() as session:
        result = session.get(AuditResult, number)
        job = session.get(AuditJob, result.job_id) if result else None
        return (job.sha256 if job else None) or ""


def _pointed(session: Session, seen: Sequence[AuditMessage]) -> Sequence[AuditMessage]:
    """Let waiting jobs be for pictures that were audited before."""
    statement = text("UPDATE audit_job SET sha256 = :sha WHERE id = :id")
    session.connection().execute(statement, [{"sha": each.sha256, "id": each.job_id} for each in seen])
    return seen


def _message(job: AuditJob, sha256: str) -> AuditMessage:
    return AuditMessage(job_id=job.id, sha256=sha256, source=job.source, queue=job.queue)


def _result(job_id: uuid.UUID) -> AuditResult:
    values = {"score": 0.5, "verdict": Verdict.PASS, "area": 0.1, "mask_png": bytes(200), "latency_ms": 80}
    return AuditResult(job_id=job_id, model_version=VERSIONS[2], width_px=1200, height_px=900, **values)


def _new_job(number: int) -> jobs.NewJob:
    name = uuid.uuid4().hex
    return jobs.NewJob(f"{number}.jpg", name * 2, 200_000, f"new-{name}", "hot queries")
