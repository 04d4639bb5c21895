"""Jobs that are answered from the store, and those that must not be."""

import math
import uuid
from datetime import timedelta

import pytest
from sqlalchemy import event, text
from sqlmodel import select

from schemas.messages import AuditMessage
from schemas.records import ErrorRecord
from schemas.states import JobState, Verdict
from schemas.tables import AuditJob, AuditResult, now
from storage import jobs, reuse
from storage.database import Database
from storage.jobs import Claim, Held
from storage.reuse import Answered, ReusePolicy
from tests.storage.conftest import MakeJob, MakeResult

SHA = "ab" * 32
NEVER = ReusePolicy("m1", lambda _: False)


class Store:
    """One database with the steps of a worker."""

    def __init__(self, database: Database, new_job: MakeJob, new_result: MakeResult) -> None:
        self.database, self._new_job, self._new_result = database, new_job, new_result

    def submitted(self, ref: str, *profiles: str, sha256: str = SHA) -> AuditMessage:
        with self.database.write() as session:
            (job,) = jobs.add_jobs(session, [self._new_job(ref, sha256=sha256, profiles=profiles)])
        return AuditMessage(job_id=job.id, sha256=sha256, source=ref, profiles=profiles)

    def claimed(self, message: AuditMessage, policy: ReusePolicy | None = NEVER) -> object:
        with self.database.write() as session:
            return reuse.claim_or_answer(session, message, 120.0, policy)

    def audited(self, ref: str, *profiles: str, sha256: str = SHA, **values: object) -> AuditMessage:
        """A job that a worker ended with results of its own."""
        message = self.submitted(ref, *profiles, sha256=sha256)
        claim = self.claimed(message, None)
        assert isinstance(claim, Claim)
        with self.database.write() as session:
            made = [self._new_result(message.job_id, profile, **values) for profile in ("none", *profiles)]
            assert jobs.finish_job(session, message.job_id, made, claim.fence)
        return message

    def results(self, message: AuditMessage) -> dict[str, AuditResult]:
        with self.database.read() as session:
            found = session.exec(select(AuditResult).where(AuditResult.job_id == message.job_id)).all()
            session.expunge_all()
        return {result.profile: result for result in found}

    def job(self, message: AuditMessage) -> AuditJob:
        with self.database.read() as session:
            job = session.get_one(AuditJob, message.job_id)
            session.expunge_all()
        return job


@pytest.fixture
def store(database: Database, new_job: MakeJob, new_result: MakeResult) -> Store:
    return Store(database, new_job, new_result)


def test_the_same_bytes_under_another_name_are_answered_with_the_same_result(store: Store) -> None:
    regions = [{"box": {"x0": 1, "y0": 2, "x1": 3, "y1": 4}, "score": 0.5}]
    values = {"score": math.pi / 4, "verdict": Verdict.FLAG, "second_score": 0.5, "stable": False, "regions": regions}
    first, second = store.audited("a", **values), store.submitted("b")
    assert store.claimed(second, ReusePolicy("m1", lambda score: score == math.pi / 4)) == Answered(Verdict.FLAG, 1)
    (earlier,), (own,) = store.results(first).values(), store.results(second).values()
    assert own.reused_from == earlier.id and earlier.reused_from is None
    unlike = {"id", "job_id", "reused_from", "latency_ms", "created_at"}
    assert own.model_dump(exclude=unlike) == earlier.model_dump(exclude=unlike)
    assert own.id > earlier.id and own.created_at >= earlier.created_at and 0 <= own.latency_ms < 60_000
    job = store.job(second)
    assert (job.state, job.attempts, job.claimed_at, job.error_code) == (JobState.DONE, 1, None, None)
    assert job.finished_at is not None
    assert store.claimed(second) is None


def test_a_copy_of_a_copy_names_the_first(store: Store) -> None:
    first, second, third = store.audited("a"), store.submitted("b"), store.submitted("c")
    assert store.claimed(second) == store.claimed(third) == Answered(Verdict.PASS, 1)
    assert {store.results(each)["none"].reused_from for each in (second, third)} == {store.results(first)["none"].id}


def test_without_a_policy_every_picture_is_audited(store: Store) -> None:
    store.audited("a")
    assert isinstance(store.claimed(store.submitted("b"), None), Claim)


def test_many_claims_at_once_are_answered_each_for_itself(store: Store) -> None:
    ended = store.audited("a")
    seen, other, twin = store.submitted("b"), store.submitted("c", sha256="cd" * 32), store.submitted("d", sha256="cd" * 32)
    with store.database.write() as session:
        answers = reuse.claims_or_answers(session, [other, ended, seen, twin], 120.0, NEVER)
    assert answers[1:3] == [None, Answered(Verdict.PASS, 1)]
    assert all(isinstance(answers[number], Claim) for number in (0, 3))
    assert [store.job(each).state for each in (other, seen, twin)] == [JobState.RUNNING, JobState.DONE, JobState.RUNNING]


@pytest.mark.parametrize("wanted", [(), ("wechat",), ("weibo", "wechat")])
def test_fewer_profiles_are_answered_by_more(store: Store, wanted: tuple[str, ...]) -> None:
    store.audited("a", "wechat", "facebook", "weibo")
    message = store.submitted("b", *wanted)
    assert store.claimed(message) == Answered(Verdict.PASS, 1 + len(wanted))
    assert set(store.results(message)) == {"none", *wanted}


def test_a_profile_that_is_missing_means_a_whole_audit(store: Store) -> None:
    store.audited("a", "wechat")
    store.audited("b", "facebook")
    message = store.submitted("c", "wechat", "facebook")
    assert isinstance(store.claimed(message), Claim)
    assert store.results(message) == {}


def test_a_name_twice_in_a_message_is_one_profile(store: Store) -> None:
    store.audited("a", "wechat")
    assert store.claimed(store.submitted("b", "wechat", "wechat")) == Answered(Verdict.PASS, 2)


def test_another_model_version_judges_anew(store: Store) -> None:
    store.audited("a", model_version="m0")
    assert isinstance(store.claimed(store.submitted("b")), Claim)
    newer = store.audited("c", score=0.75)
    message = store.submitted("d")
    assert store.claimed(message) == Answered(Verdict.PASS, 1)
    assert store.results(message)["none"].reused_from == store.results(newer)["none"].id
    assert store.results(message)["none"].score == 0.75


def test_other_bytes_are_another_picture(store: Store) -> None:
    store.audited("a", sha256="cd" * 32)
    assert isinstance(store.claimed(store.submitted("b")), Claim)


def test_an_earlier_failure_answers_nothing(store: Store) -> None:
    failed = store.submitted("a")
    assert isinstance(store.claimed(failed), Claim)
    with store.database.write() as session:
        assert jobs.fail_job(session, failed.job_id, ErrorRecord(code="decode_failed", message="cut off"))
    assert isinstance(store.claimed(store.submitted("b")), Claim)


def test_a_job_that_is_under_way_answers_nothing(store: Store) -> None:
    """Both are audited: nothing waits for another job."""
    first, second = store.submitted("a"), store.submitted("b")
    assert isinstance(store.claimed(first), Claim) and isinstance(store.claimed(second), Claim)


def test_a_purged_mask_answers_nothing(store: Store) -> None:
    store.audited("a", "wechat")
    with store.database.write() as session:
        session.execute(text("UPDATE audit_result SET mask_png = :none WHERE profile = 'wechat'"), {"none": b""})
    assert isinstance(store.claimed(store.submitted("b", "wechat")), Claim)
    assert store.claimed(store.submitted("c")) == Answered(Verdict.PASS, 1)


@pytest.mark.parametrize(("looked", "would_look"), [(True, False), (False, True)])
def test_a_second_look_of_another_setting_answers_nothing(store: Store, looked: bool, would_look: bool) -> None:
    store.audited("a", second_score=0.3 if looked else None, stable=True if looked else None)
    message = store.submitted("b")
    assert isinstance(store.claimed(message, ReusePolicy("m1", lambda _: would_look)), Claim)


def test_a_job_in_another_hand_is_left_there(store: Store) -> None:
    message = store.submitted("b")
    assert isinstance(store.claimed(message), Claim)
    store.audited("a")
    assert isinstance(store.claimed(message), Held)
    assert store.job(message).state is JobState.RUNNING


def test_a_foreign_message_without_a_row_is_answered(store: Store) -> None:
    store.audited("a")
    message = AuditMessage(job_id=uuid.uuid4(), sha256=SHA, source="theirs.jpg")
    assert store.claimed(message) == Answered(Verdict.PASS, 1)
    assert store.job(message).state is JobState.DONE


def test_a_job_put_back_for_its_lost_results_is_answered_by_a_twin_only(store: Store) -> None:
    message = store.audited("a")
    with store.database.write() as session:
        session.execute(text("UPDATE audit_result SET mask_png = :none"), {"none": b""})
        session.execute(text("UPDATE audit_job SET state = 'queued', finished_at = NULL"))
    assert isinstance(store.claimed(message), Claim)
    twin = store.audited("b", score=0.5)
    with store.database.write() as session:
        session.execute(text("UPDATE audit_job SET state = 'queued', claimed_at = NULL WHERE client_ref = 'a'"))
    assert store.claimed(message) == Answered(Verdict.PASS, 1)
    own = store.results(message)["none"]
    assert (own.score, own.mask_png, own.reused_from) == (0.5, b"\x89PNG\x00", store.results(twin)["none"].id)


def test_what_failed_before_and_comes_again_is_answered(store: Store) -> None:
    message = store.submitted("a")
    claim = store.claimed(message)
    assert isinstance(claim, Claim)
    with store.database.write() as session:
        assert jobs.fail_job(session, message.job_id, ErrorRecord(code="model_failed", message="x"), claim.fence)
    store.audited("b")
    with store.database.write() as session:
        again = jobs.add_jobs(session, [store._new_job("a")])
    assert [job.id for job in again] == [message.job_id]
    assert store.claimed(message) == Answered(Verdict.PASS, 1)
    job = store.job(message)
    assert (job.state, job.error_code, job.retries) == (JobState.DONE, None, 1)


def test_only_the_newest_jobs_of_a_picture_are_looked_at(store: Store) -> None:
    """However often it came: the bound is part of the cost."""
    store.audited("old")
    for number in range(reuse._NEWEST):
        store.audited(f"newer-{number}", model_version="m0")
    assert isinstance(store.claimed(store.submitted("b")), Claim)
    store.audited("newest")
    assert store.claimed(store.submitted("c")) == Answered(Verdict.PASS, 1)


def test_a_source_purged_between_finding_and_copying_answers_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.audited("a", "wechat")
    found = reuse._earlier_result

    def then_purged(session, *rest):  # type: ignore[no-untyped-def]
        result = found(session, *rest)
        session.execute(text("UPDATE audit_result SET mask_png = :none WHERE profile = 'wechat'"), {"none": b""})
        return result

    monkeypatch.setattr(reuse, "_earlier_result", then_purged)
    message = store.submitted("b", "wechat")
    assert isinstance(store.claimed(message), Claim)
    assert store.results(message) == {}
    assert store.job(message).state is JobState.RUNNING


def test_an_answer_under_a_void_claim_changes_nothing(store: Store) -> None:
    store.audited("a")
    message = store.submitted("b")
    claim = store.claimed(message, None)
    assert isinstance(claim, Claim)
    with store.database.write() as session:
        assert reuse.answer(session, message, SHA, claim.fence + 1, NEVER) is None
    assert store.results(message) == {} and store.job(message).state is JobState.RUNNING
    with store.database.write() as session:
        assert reuse.answer(session, message, SHA, claim.fence, NEVER) == Answered(Verdict.PASS, 1)
    assert set(store.results(message)) == {"none"} and store.job(message).state is JobState.DONE


@pytest.mark.parametrize(("sha256", "questions"), [("ef" * 32, 1), (SHA, 2)], ids=["new", "seen but without a usable result"])
def test_the_questions_are_few_and_an_index_answers_them(store: Store, sha256: str, questions: int) -> None:
    store.audited("a", model_version="m0")
    message, statements = store.submitted("b", sha256=sha256), []
    event.listen(store.database.engine, "before_cursor_execute", lambda *args: statements.append((args[2], args[3])))
    assert isinstance(store.claimed(message), Claim)
    asked = [each for each in statements if each[0].startswith("SELECT")]
    assert len(asked) == questions
    with store.database.read() as session:
        connection = session.connection()
        explain = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
        if connection.dialect.name == "postgresql":
            session.execute(text("SET LOCAL enable_seqscan = off"))
        for statement, values in asked:
            plan = "\n".join(str(row) for row in connection.exec_driver_sql(explain + statement, values))
            assert "ix_audit_job_sha256_finished_at" in plan and "SCAN audit_job" not in plan


def test_ages_do_not_matter(store: Store) -> None:
    store.audited("a")
    with store.database.write() as session:
        session.execute(text("UPDATE audit_job SET finished_at = :then"), {"then": now() - timedelta(days=400)})
    assert store.claimed(store.submitted("b")) == Answered(Verdict.PASS, 1)
