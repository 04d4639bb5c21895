"""What candidates said of live traffic, in rows and figures; which pictures two versions see differently."""

import uuid
from collections.abc import Callable

import pytest

from schemas.learning_tables import ShadowScore
from schemas.states import Verdict
from schemas.tables import AuditResult
from storage import jobs, registry, shadow_scores
from storage.database import Database
from storage.jobs import NewJob
from storage.model_changes import changes_between, masks_of

Make = Callable[..., uuid.UUID]


def row(job_id: uuid.UUID, name: str = "a", **changes: object) -> ShadowScore:
    values: dict[str, object] = {
        "job_id": job_id, "sha256": name * 64, "candidate_version": "new", "live_version": "old", "live_score": 0.2,
        "candidate_score": 0.3, "live_verdict": Verdict.PASS, "candidate_verdict": Verdict.PASS, "mask_agreement": 0.5,
    }  # fmt: skip
    return ShadowScore(**values | changes)


def stored(database: Database, *rows: ShadowScore) -> None:
    with database.write() as session:
        for each in rows:
            shadow_scores.add_shadow_score(session, each)


@pytest.fixture
def audited(database: Database, new_job: Callable[..., NewJob], new_result: Callable[..., AuditResult]) -> Make:
    """Makes a job of the picture `name` with results by these (version, score, verdict)."""

    def make(name: str, *said: tuple[str, float, Verdict]) -> uuid.UUID:
        with database.write() as session:
            (job,) = jobs.add_jobs(session, [new_job(uuid.uuid4().hex, sha256=name * 64)])
            results = [
                new_result(job.id, model_version=version, score=score, verdict=verdict, mask_png=version.encode())
                for version, score, verdict in said
            ]
            assert jobs.finish_job(session, job.id, results)
            return job.id

    return make


def test_a_job_is_scored_once_by_each_candidate(database: Database) -> None:
    job = uuid.uuid4()
    stored(database, row(job), row(job, candidate_score=0.9), row(job, candidate_version="newer"), row(uuid.uuid4()))
    with database.read() as session:
        assert shadow_scores.shadow_count(session, "new") == 2
        assert [each.candidate_score for each in shadow_scores.shadow_scores(session, "new")] == [0.3, 0.3]
        assert shadow_scores.shadow_count(session, "newer") == 1


def test_figures_of_a_candidate() -> None:
    rows = [
        row(uuid.uuid4()),
        row(uuid.uuid4(), candidate_score=0.9, candidate_verdict=Verdict.FLAG, mask_agreement=0.0, live_version="older"),
    ]
    summary = shadow_scores.summarised(rows)
    assert summary is not None
    assert (summary.pictures, summary.same_verdict, summary.mean_agreement) == (2, 0.5, 0.25)
    assert summary.changes == {(Verdict.PASS, Verdict.PASS): 1, (Verdict.PASS, Verdict.FLAG): 1}
    assert summary.differences == pytest.approx([0.1, 0.7])
    assert summary.live_versions == ["old", "older"]
    assert shadow_scores.summarised([]) is None


def test_another_verdict_changes_more_than_any_score() -> None:
    small = row(uuid.uuid4(), "a", candidate_verdict=Verdict.REVIEW)
    large = row(uuid.uuid4(), "b", candidate_score=0.99, mask_agreement=0.0)
    least = row(uuid.uuid4(), "c")
    again = row(uuid.uuid4(), "c")
    assert shadow_scores.most_changed([least, large, again, small], 3) == [small, large, again]


@pytest.mark.parametrize(
    ("named", "found"),
    [("", None), ("nobody", None), ("live", None), ("older", "older"), ("rejected", "rejected"), ("candidate", "newer")],
)
def test_the_version_that_a_setting_names(sqlite: Database, named: str, found: str | None) -> None:
    for version in ("live", "older", "newer", "rejected"):
        with sqlite.write() as session:
            registry.register(session, version, {}, "-", "tester", "test")
    with sqlite.write() as session:
        registry.promote(session, "live", "tester", "test")
        registry.reject(session, "rejected", "tester", "test")
    with sqlite.read() as session:
        wanted = shadow_scores.wanted_version(session, named)
        assert (wanted.version if wanted else None) == found


def test_changes_come_from_jobs_that_both_audited_and_from_shadows(database: Database, audited: Make) -> None:
    audited("a", ("old", 0.1, Verdict.PASS), ("new", 0.2, Verdict.PASS))
    flagged = audited("b", ("old", 0.1, Verdict.PASS), ("new", 0.15, Verdict.FLAG))
    alone = audited("c", ("old", 0.2, Verdict.PASS))
    audited("d", ("older", 0.2, Verdict.PASS), ("new", 0.9, Verdict.FLAG))
    stored(database, row(alone, "c", candidate_score=0.7), row(flagged, "b", candidate_score=0.99))
    stored(database, row(uuid.uuid4(), "e", live_version="older", candidate_verdict=Verdict.FLAG))
    with database.read() as session:
        found = changes_between(session, "old", "new", 10)
        (first, second, _) = found
        masks = masks_of(session, [each.result_id for change in found for each in (change.old, change.new) if each.result_id])
    assert [change.sha256[0] for change in found] == ["b", "c", "a"]
    assert (first.new.score, first.new.verdict) == (0.15, Verdict.FLAG)  # its own result, not the shadow's word
    assert (masks[first.old.result_id or 0], masks[first.new.result_id or 0]) == (b"old", b"new")
    assert (masks[second.old.result_id or 0], second.new.result_id) == (b"old", None)
    with database.read() as session:
        assert changes_between(session, "old", "new", 1) == [first]
        assert changes_between(session, "new", "nobody", 10) == []
