"""The moderators' queue and its claims, on both databases."""

import hashlib
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text, update
from sqlmodel import SQLModel, col, select

from schemas.errors import Conflict, InvalidInput, NotFound
from schemas.geometry import PixelBox
from schemas.learning_tables import BoxAnnotation, Review
from schemas.states import AuditQueue, JobState, ReviewDecision, Verdict
from schemas.tables import AuditJob, AuditResult, now
from storage import annotation_queries, review_claims, review_decisions, review_queue, reviews
from storage.database import Database
from storage.review_claims import Claim
from storage.review_decisions import Decision
from storage.review_queue import QueueFilter

Made = Callable[..., int]
ALL = QueueFilter()
BOX = PixelBox.of(0, 0, 3, 2)


@pytest.fixture
def made(database: Database, new_result: Callable[..., AuditResult]) -> Made:
    """Makes the result of a picture; returns its number."""

    def make(name: str, score: float, verdict: Verdict = Verdict.FLAG, again: str = "", job: Any = None, **changes: Any) -> int:
        sha256 = hashlib.sha256(name.encode()).hexdigest()
        row = AuditJob(
            source=name, sha256=sha256, state=JobState.DONE, finished_at=now(), client_ref=f"{name}{again}", **job or {}
        )
        with database.write() as session:
            session.add(row)
            session.flush()
            result = new_result(row.id, score=score, verdict=verdict, **changes)
            session.add(result)
            session.flush()
            return result.id or 0

    return make


def claim(database: Database, who: str = "anna", wanted: QueueFilter = ALL, **more: Any) -> Claim | None:
    with database.write() as session:
        return review_claims.claim_next(session, who, wanted, more.pop("for_s", 60), **more)


def decide(database: Database, taken: Claim, decision: ReviewDecision = ReviewDecision.MANIPULATED, **more: Any) -> Any:
    with database.write() as session:
        return review_decisions.decide(session, Decision(taken.result_id, decision, taken.holder, taken.token, **more))


def expire(database: Database) -> None:
    claims = SQLModel.metadata.tables["review_claim"]
    with database.write() as session:
        session.connection().execute(update(claims).values(expires_at=now() - timedelta(hours=1)))


def must(taken: Claim | None) -> Claim:
    assert taken is not None
    return taken


def test_flag_comes_before_review_and_the_most_suspicious_first(database: Database, made: Made) -> None:
    numbers = {
        "low": made("low", 0.90),
        "high": made("high", 0.97),
        "looked": made("looked", 0.99, Verdict.REVIEW),
        "fine": made("fine", 0.1, Verdict.PASS),
    }
    order = []
    while (taken := claim(database)) is not None:
        order.append(taken.result_id)
    assert order == [numbers["high"], numbers["low"], numbers["looked"]]
    with database.read() as session:
        assert review_queue.count(session, ALL, "anna") == review_queue.Count(3, exact=True)


def test_pages_of_equal_scores_meet_every_result_once(database: Database, made: Made) -> None:
    numbers = {made(f"{number}", 0.95) for number in range(7)}
    met: list[int] = []
    after = None
    with database.read() as session:
        while page := review_queue.waiting(session, ALL, "anna", after, limit=2):
            met += [each.place.result_id for each in page]
            after = page[-1].place
    assert len(met) == 7 and set(met) == numbers


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        (QueueFilter(queue=AuditQueue.HIGH), "high queue"),
        (QueueFilter(source_profile="wechat"), "from wechat"),
        (QueueFilter(model_version="m2"), "newer model"),
        (QueueFilter(most_score=0.91), "low score"),
        (QueueFilter(least_score=0.985), "high score"),
        (QueueFilter(verdicts=(Verdict.REVIEW,)), "review"),
        (QueueFilter(before=datetime(2020, 1, 1, tzinfo=UTC)), "old"),
    ],
)
def test_filters(database: Database, made: Made, wanted: QueueFilter, name: str) -> None:
    made("plain", 0.95)
    numbers = {
        "high queue": made("a", 0.95, job={"queue": AuditQueue.HIGH}),
        "from wechat": made("b", 0.95, job={"source_profile": "wechat"}),
        "newer model": made("c", 0.95, model_version="m2"),
        "low score": made("d", 0.91),
        "high score": made("e", 0.99),
        "review": made("f", 0.95, Verdict.REVIEW),
        "old": made("g", 0.95, created_at=datetime(2019, 6, 1, tzinfo=UTC)),
    }
    assert must(claim(database, wanted=wanted)).result_id == numbers[name]
    assert claim(database, wanted=wanted) is None


def test_two_moderators_at_once_never_get_the_same_picture(database: Database, made: Made) -> None:
    for number in range(12):
        made(f"{number}", 0.95)
        made(f"{number}", 0.94, again="again")  # the same picture, audited twice
    gate, taken, problems = threading.Barrier(4), [], []

    def work(who: str) -> None:
        gate.wait()
        try:
            while (mine := claim(database, who)) is not None:
                taken.append(mine)
        except Exception as error:  # seen by the assertion below
            problems.append(error)

    threads = [threading.Thread(target=work, args=(f"moderator {number}",)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert problems == []
    assert len(taken) == 12 == len({each.picture for each in taken})


def test_a_claim_that_ran_out_goes_to_the_next_one(database: Database, made: Made) -> None:
    made("a", 0.95)
    first = must(claim(database))
    assert claim(database, "ben") is None
    expire(database)
    second = must(claim(database, "ben"))
    assert second.picture == first.picture
    with database.write() as session:
        assert review_claims.renew(session, "anna", [first.token], 60) == set()
    with pytest.raises(Conflict, match="ben looks at it now"):
        decide(database, first)
    with database.read() as session:
        assert session.exec(select(Review)).all() == [] and session.exec(select(BoxAnnotation)).all() == []
    decide(database, second)


def test_a_claim_that_ran_out_still_counts_where_nobody_took_it(database: Database, made: Made) -> None:
    made("a", 0.95)
    taken = must(claim(database))
    expire(database)
    assert decide(database, taken).review_id
    assert claim(database, "ben") is None


def test_claims_are_renewed_and_given_back(database: Database, made: Made) -> None:
    made("a", 0.95)
    taken = must(claim(database))
    with database.write() as session:
        assert review_claims.renew(session, "ben", [taken.token], 60) == set()  # another's
        assert review_claims.renew(session, "anna", [taken.token], 3600) == {taken.token}
        found = review_claims.holder(session, taken.picture)
        assert found is not None and found.expires_at > taken.expires_at + timedelta(minutes=50)
        review_claims.release(session, "ben", [taken.token])
        assert review_claims.holder(session, taken.picture) is not None
        review_claims.release(session, "anna", [taken.token])
    assert must(claim(database, "ben")).picture == taken.picture


def test_ones_own_picture_may_be_taken_to_another_page(database: Database, made: Made) -> None:
    number = made("a", 0.95)
    first = must(claim(database))
    with database.write() as session:
        assert review_claims.claim_result(session, first.picture, number, "ben", 60) is None
        second = must(review_claims.claim_result(session, first.picture, number, "anna", 60))
    with pytest.raises(Conflict, match="on another page"):
        decide(database, first)
    assert decide(database, second).review_id


def test_who_decided_meanwhile_is_told(database: Database, made: Made) -> None:
    number = made("a", 0.95)
    taken = must(claim(database))
    with database.write() as session:
        other = reviews.add_review(session, number, ReviewDecision.AUTHENTIC, "a program/ben").id or 0
    with pytest.raises(Conflict, match="a program/ben decided “authentic” meanwhile"):
        decide(database, taken)
    assert decide(database, taken, seen_review_id=other).review_id > other


def test_a_decision_stands_for_every_result_of_the_picture(database: Database, made: Made) -> None:
    made("a", 0.95)
    made("a", 0.93, again="again")
    decided = decide(database, must(claim(database)), boxes=(BOX,), note="cloned")
    assert claim(database, "ben") is None
    made("a", 0.99, again="later")  # audited once more, after the decision
    assert claim(database, "ben") is None
    with database.read() as session:
        assert session.exec(select(AuditResult).where(col(AuditResult.undecided))).all() == []
        row = session.get(BoxAnnotation, decided.annotation_id)
        assert row is not None and (row.pixel_boxes, row.note, row.origin) == ((BOX,), "cloned", "page")


def test_undo_adds_rows_and_brings_back_what_was_said_before(database: Database, made: Made) -> None:
    number = made("a", 0.95)
    before = decide(database, must(claim(database)), boxes=(BOX,))
    with database.write() as session:
        picture = reviews.picture_of(session, number)
        again = must(review_claims.claim_result(session, picture.sha256 or "", number, "anna", 60))
    wrong = decide(database, again, ReviewDecision.AUTHENTIC)
    with database.write() as session:
        review_decisions.undo(session, "anna", wrong.review_id, wrong.annotation_id)
    with database.read() as session:
        assert reviews.standing_reviews(session, number) == []
        standing = annotation_queries.standing(session, [picture.sha256 or ""])[picture.sha256 or ""]
        assert [each.pixel_boxes for each in standing] == [(BOX,)]
        assert len(reviews.reviews_of_picture(session, picture.sha256 or "")) == 3
        assert before.annotation_id in {each.id for each in annotation_queries.history(session, picture.sha256 or "")}
    assert must(claim(database, "ben")).result_id == number


@pytest.mark.parametrize("who", ["ben", "anna"])
def test_only_ones_own_standing_decision_is_undone(database: Database, made: Made, who: str) -> None:
    made("a", 0.95)
    decided = decide(database, must(claim(database)))
    with database.write() as session:
        if who == "anna":
            review_decisions.undo(session, "anna", decided.review_id, None)
        with pytest.raises((NotFound, Conflict)):
            review_decisions.undo(session, who, decided.review_id, None)


def test_a_review_can_only_be_withdrawn_where_there_is_one(database: Database, made: Made) -> None:
    number = made("a", 0.95)
    with database.write() as session, pytest.raises(InvalidInput, match="taken back"):
        reviews.add_review(session, number, ReviewDecision.WITHDRAWN, "anna")


def test_what_one_is_unsure_of_waits_for_another(database: Database, made: Made) -> None:
    number = made("a", 0.95)
    made("b", 0.94)
    decide(database, must(claim(database)), ReviewDecision.UNSURE)
    second_look = QueueFilter(unsure=True)
    assert must(claim(database, "ben")).result_id != number
    assert claim(database, "anna", second_look) is None
    taken = must(claim(database, "ben", second_look))
    assert taken.result_id == number
    with database.read() as session:
        seen = max(each.id or 0 for each in reviews.standing_reviews(session, number))
    decide(database, taken, ReviewDecision.AUTHENTIC, seen_review_id=seen)
    assert claim(database, "cleo", second_look) is None


def test_the_queue_is_read_by_its_index(database: Database, made: Made) -> None:
    made("a", 0.95)
    where = f"verdict = 'flag' AND {review_queue.REVIEW_QUEUE}"
    query = f"SELECT id FROM audit_result WHERE {where} ORDER BY score DESC, id DESC LIMIT 20"
    with database.write() as session:
        connection = session.connection()
        if database.url.startswith("sqlite"):
            plan = connection.execute(text(f"EXPLAIN QUERY PLAN {query}")).all()
            assert "TEMP B-TREE" not in str(plan)
        else:
            connection.execute(text("SET LOCAL enable_seqscan = off"))
            plan = connection.execute(text(f"EXPLAIN {query}")).all()
        assert "ix_audit_result_review_queue" in str(plan)
