"""The hot queries over a few thousand results: that each runs, finds what it is to be measured on, and leaves no trace."""

import uuid
from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlmodel import func, select

from benchmarks.generated_rows import fill
from benchmarks.hot_queries import hot_queries, measure
from benchmarks.table_sizes import real_sizes
from schemas.learning_tables import BoxAnnotation, Review, ReviewClaim
from schemas.states import Verdict
from schemas.tables import OWN_PICTURE, AuditJob, AuditResult, now
from storage import review_queue
from storage.database import Database
from storage.jobs import Claim, Finished, NewJob, add_jobs, claim_jobs, finish_jobs
from storage.review_queue import Count, QueueFilter
from tests.servers import new_postgres_database
from workers.sweeper import message_of

pytestmark = pytest.mark.slow

_RESULTS = 20_000
# Nothing is lost, or left to do: that is what they are for.
_MAY_FIND_NOTHING = {"sweep: nothing lost", "reaudit: nothing left"}
_DECIDED_BY_NOBODY = text("""
    SELECT count(*) FROM audit_result r
    WHERE NOT r.undecided AND NOT EXISTS (SELECT 1 FROM review v WHERE v.result_id = r.id)
""")
_ROWS = (AuditJob, AuditResult, Review, BoxAnnotation, ReviewClaim)


@pytest.fixture(scope="module")
def filled(postgres_url: str, migrated_postgres: str) -> Iterator[Database]:
    with new_postgres_database(postgres_url, migrated_postgres) as url:
        database = Database(url)
        fill(database, _RESULTS)
        yield database
        database.close()


def test_every_query_runs_and_finds_something_and_is_taken_back(filled: Database) -> None:
    before = _counts(filled)
    measured = [measure(filled, name, query) for name, query in hot_queries(filled, _RESULTS).items()]
    assert {each.name for each in measured if not each.found} <= _MAY_FIND_NOTHING
    assert all(each.statements > 0 and each.milliseconds > 0 for each in measured)
    assert {"review: decide", "review: claim the next", "dashboard: endings of an hour", "settle 16 jobs"} <= {
        each.name for each in measured
    }
    assert _counts(filled) == before


def test_what_waits_for_moderators_is_what_nobody_has_decided(filled: Database) -> None:
    with filled.read() as session:
        assert session.connection().execute(_DECIDED_BY_NOBODY).scalar() == 0
        count = review_queue.count(session, QueueFilter(), "reviewer-0")
        unsure = review_queue.count(session, QueueFilter(unsure=True), "nobody")
        page = review_queue.waiting(session, QueueFilter(), "reviewer-0", limit=500)
        late = review_queue.decided(session, page)
        held = session.exec(select(func.count()).where(ReviewClaim.expires_at > now())).one()
    assert count == Count(1000, exact=False)
    assert unsure.results > 0
    # Some pictures were audited again after the decision, which the queue finds out by itself; most wait for a person.
    assert 0 < len(late) < len(page) / 4
    assert 10 <= held < 30


def test_the_log_has_one_entry_for_each_decision(filled: Database) -> None:
    with filled.read() as session:
        entries = session.connection().execute(text("SELECT count(*), max(number) FROM decision_log")).one()
        said = session.exec(select(func.count()).select_from(Review)).one()
        said += session.exec(select(func.count()).select_from(BoxAnnotation)).one()
    assert entries == (said, said)


def test_real_sizes_say_how_many_masks_they_are_drawn_from(filled: Database, sqlite_url: str) -> None:
    store = Database(sqlite_url)
    names = [uuid.uuid4().hex for _ in range(3)]
    with store.write() as session:
        jobs = add_jobs(session, [NewJob(f"{name}.jpg", name * 2, 10, name, "s") for name in names])
    with store.write() as session:
        claims = claim_jobs(session, [message_of(job) for job in jobs])
        ended = [
            Finished(job.id, claim.fence, [_result(job, OWN_PICTURE, mask), _result(job, "wechat", b"same" * 100)])
            for job, claim, mask in zip(jobs, claims, (b"a" * 100, b"b" * 200, b""), strict=True)
            if isinstance(claim, Claim)
        ]
        finish_jobs(session, ended)
    store.close()
    said = list(real_sizes(filled, store.url.removeprefix("sqlite:///"), rows=2000))
    assert said[0].startswith("5 real results of 3 pictures, 3 masks distinct: 300 bytes on average")
    assert said[1].startswith("2,000 rows drawn from these with replacement: a million take ")


def _counts(database: Database) -> list[int]:
    with database.read() as session:
        return [session.exec(select(func.count()).select_from(table)).one() for table in _ROWS]


def _result(job: AuditJob, profile: str, mask: bytes) -> AuditResult:
    values = {"score": 0.5, "verdict": Verdict.PASS, "area": 0.1, "mask_png": mask, "latency_ms": 80}
    return AuditResult(job_id=job.id, model_version="m1", profile=profile, width_px=4, height_px=3, **values)
