from collections.abc import Callable

import pytest
from sqlmodel import col, delete

from schemas.errors import InvalidInput
from schemas.learning_tables import Review
from schemas.states import ReviewDecision
from schemas.tables import AuditResult
from storage import jobs, reviews
from storage.database import Database
from storage.jobs import NewJob

MANIPULATED, AUTHENTIC, UNSURE = ReviewDecision.MANIPULATED, ReviewDecision.AUTHENTIC, ReviewDecision.UNSURE


@pytest.fixture
def result_id(database: Database, new_job: Callable[..., NewJob], new_result: Callable[..., AuditResult]) -> int:
    with database.write() as session:
        (job,) = jobs.add_jobs(session, [new_job("a")])
        session.add(result := new_result(job.id))
        session.flush()
        assert result.id is not None
        return result.id


def review(database: Database, result_id: int, decision: ReviewDecision, reviewer: str = "anna", note: str = "") -> Review:
    with database.write() as session:
        row = reviews.add_review(session, result_id, decision, reviewer, note)
        session.expunge_all()
    return row


def standing(database: Database, result_id: int) -> list[tuple[str, ReviewDecision]]:
    with database.read() as session:
        return [(row.reviewer, row.decision) for row in reviews.standing_reviews(session, result_id)]


def test_a_decision_knows_its_picture(database: Database, result_id: int) -> None:
    row = review(database, result_id, MANIPULATED, " anna ", " the sky ")
    with database.read() as session:
        picture = reviews.picture_of(session, result_id)
    assert (row.reviewer, row.note, row.sha256, row.job_id) == ("anna", "the sky", "ab" * 32, picture.job_id)
    assert (picture.source, picture.sha256) == ("a.jpg", "ab" * 32)


def test_a_change_of_mind_is_a_row_of_its_own(database: Database, result_id: int) -> None:
    first = review(database, result_id, UNSURE)
    review(database, result_id, AUTHENTIC, "ben")
    second = review(database, result_id, MANIPULATED)
    assert second.replaces == first.id
    assert review(database, result_id, MANIPULATED).id == second.id  # said again: nothing new
    assert standing(database, result_id) == [("ben", AUTHENTIC), ("anna", MANIPULATED)]
    with database.read() as session:
        everything = reviews.reviews_of_picture(session, "ab" * 32)
    assert [row.decision for row in everything] == [UNSURE, AUTHENTIC, MANIPULATED]


def test_a_decision_outlives_its_result(database: Database, result_id: int) -> None:
    review(database, result_id, MANIPULATED)
    with database.write() as session:
        session.execute(delete(AuditResult).where(col(AuditResult.id) == result_id))
    assert standing(database, result_id) == [("anna", MANIPULATED)]
    with pytest.raises(InvalidInput, match=f"no result {result_id}; it may have been purged"):
        review(database, result_id, UNSURE)


@pytest.mark.parametrize(
    ("reviewer", "note", "message"),
    [
        (" ", "", "name must have 1 to 128"),
        ("a\nb", "", "name must"),
        ("a" * 129, "", "name must"),
        ("a", "n" * 4097, "it has 4097"),
        ("a", "\ud800", "all of them valid"),
    ],
)
def test_names_and_notes_are_checked(database: Database, result_id: int, reviewer: str, note: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        review(database, result_id, UNSURE, reviewer, note)
    assert standing(database, result_id) == []
