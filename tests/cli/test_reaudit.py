"""`tamperwatch reaudit`: counted, sent on the queue for bulk, and once only."""

import hashlib

import pytest
from redis import Redis

from model import stability
from model.card import Card, builtin_directory
from schemas.states import Verdict
from schemas.tables import AuditResult
from storage import jobs, registry
from storage.database import Database
from storage.jobs import NewJob
from tests.cli.conftest import Tamperwatch

CARD = Card.load(builtin_directory())


@pytest.fixture
def unsure(sqlite: Database) -> str:
    """A store with one picture under review and two others that passed, one of them barely, by another version."""
    near = CARD.calibration.review_threshold - 0.01
    with sqlite.write() as session:
        registry.register(session, "older", CARD.model_dump(mode="json"), "-", "tester", "test")
        for name, verdict, score in (("a", Verdict.REVIEW, 0.7), ("b", Verdict.PASS, near), ("c", Verdict.PASS, 0.01)):
            sha256 = hashlib.sha256(name.encode()).hexdigest()
            (job,) = jobs.add_jobs(session, [NewJob(name, sha256, 1, name, "s")])
            result = AuditResult(
                job_id=job.id, model_version="older", score=score, verdict=verdict, area=0.0, mask_png=b"-",
                width_px=1, height_px=1, latency_ms=1.0,
            )  # fmt: skip
            assert jobs.finish_job(session, job.id, [result])
    return sqlite.url


@pytest.mark.slow
def test_what_is_sent_is_sent_once(tamperwatch: Tamperwatch, unsure: str, broker_url: str) -> None:
    argv = ("reaudit", "--verdict", "review", "--near-threshold", "--band", "0.2", "--since", "1d")
    counted = tamperwatch(*argv, "--dry-run", DATABASE_URL=unsure, BROKER_URL=broker_url)
    assert (counted.code, "2 pictures would be audited again" in counted.out) == (0, True)
    ran = tamperwatch(*argv, DATABASE_URL=unsure, BROKER_URL=broker_url)
    assert (ran.code, f"2 pictures sent again, for {CARD.version}" in ran.out) == (0, True), ran.err
    again = tamperwatch(*argv, DATABASE_URL=unsure, BROKER_URL=broker_url)
    assert "0 pictures would be" in again.out
    with Redis.from_url(broker_url) as client:
        assert client.llen("audit.bulk") == 2


def test_it_wants_to_know_which(tamperwatch: Tamperwatch, unsure: str) -> None:
    ran = tamperwatch("reaudit", DATABASE_URL=unsure)
    assert (ran.code, "--near-threshold" in ran.err) == (2, True)


def test_the_bands_are_those_of_the_second_look() -> None:
    (low, high), _ = stability.near_bands(CARD.calibration, 0.3)
    for score in (low, (low + high) / 2, high):
        assert stability.near_threshold(score, CARD.calibration, 0.3)
    assert not stability.near_threshold(low - 1e-6, CARD.calibration, 0.3)
    assert stability.near_bands(CARD.calibration, 0.0) == []
