"""Versions from the blob store under load: an imported one takes over, a candidate looks on, and no job is lost or mixed."""

import json
import shutil
from pathlib import Path

import pytest
from sqlmodel import select

from model.card import CARD_NAME, Card, builtin_directory
from schemas.learning_tables import ShadowScore
from schemas.states import JobState
from schemas.tables import AuditJob, AuditResult
from storage import registry, shadow_scores
from storage.model_files import store_student
from tests.integration.conftest import DONE_S, Installation
from tests.pictures import picture_bytes
from tests.waiting import wait_for
from workers.canary import in_share

pytestmark = pytest.mark.slow
PACKAGED = Card.load(builtin_directory()).version


def register(installation: Installation, tmp_path: Path, version: str) -> None:
    """The packaged student under another name, in the S3 server."""
    folder = Path(shutil.copytree(builtin_directory(), tmp_path / version))
    card = json.loads((folder / CARD_NAME).read_text(encoding="utf-8")) | {"version": version}
    (folder / CARD_NAME).write_text(json.dumps(card), encoding="utf-8")
    location = store_student(installation.blobs, folder, version)
    shutil.rmtree(folder)
    with installation.database.write() as session:
        registry.register(session, version, card, location, "tester", "test")


def results(installation: Installation) -> list[AuditResult]:
    with installation.database.read() as session:
        found = list(session.exec(select(AuditResult)))
        session.expunge_all()
    return found


def test_two_workers_take_over_a_version_from_the_blob_store_and_go_back_while_pictures_come(
    installation: Installation, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    installation.env = {
        **installation.env,
        "TAMPERWATCH_WORKER__MODEL_POLL_S": "0.2",
        "TAMPERWATCH_ENGINE__MODEL_CACHE": str(cache),
    }
    register(installation, tmp_path, "night-1")
    count = 120
    installation.submit({f"{number}.jpg": picture_bytes(number, 640, 480) for number in range(count)})
    workers = [installation.start_worker() for _ in range(2)]
    wait_for(lambda: installation.counts()[JobState.DONE] >= 2, "first results", DONE_S)
    with installation.database.write() as session:
        registry.promote(session, "night-1", "tester", "better", from_version=PACKAGED)
    wait_for(lambda: installation.versions()["night-1"] >= 4, "results of the new version", DONE_S)
    with installation.database.write() as session:
        assert registry.rollback(session, "tester", "worse").version == PACKAGED
    before = installation.versions()[PACKAGED]
    wait_for(lambda: installation.versions()[PACKAGED] > before, "results of the old version again", DONE_S)
    installation.wait_until_ended(count)
    assert installation.counts()[JobState.DONE] == count
    assert set(installation.results_per_job().values()) == {1}
    assert set(installation.versions()) == {PACKAGED, "night-1"}
    assert all(worker.running for worker in workers) and len(installation.workers) == 2
    assert len(list(cache.glob("*/*/card.json"))) == 1  # fetched once, or once each and one kept
    assert list(cache.glob("*/.*")) == []


def test_a_shadow_and_a_canary_in_a_real_worker(installation: Installation, tmp_path: Path) -> None:
    register(installation, tmp_path, "shadow-1")
    register(installation, tmp_path, "canary-1")
    installation.env = {
        **installation.env,
        "TAMPERWATCH_WORKER__MODEL_POLL_S": "0.2",
        "TAMPERWATCH_ENGINE__MODEL_CACHE": str(tmp_path / "cache"),
        "TAMPERWATCH_WORKER__SHADOW_VERSION": "shadow-1",
        "TAMPERWATCH_WORKER__SHADOW_PICTURES": "5",
        "TAMPERWATCH_WORKER__CANARY_VERSION": "canary-1",
        "TAMPERWATCH_WORKER__CANARY_SHARE": "0.5",
    }
    installation.start_worker()
    sent = 0

    def shadowed() -> int:
        with installation.database.read() as session:
            return shadow_scores.shadow_count(session, "shadow-1")

    while shadowed() < 5:  # both versions are loaded beside a worker that answers already
        assert sent < 200, "the shadow never came"
        installation.submit({f"{sent + number}.jpg": picture_bytes(sent + number) for number in range(10)})
        sent += 10
        installation.wait_until_ended(sent)
    assert installation.counts()[JobState.DONE] == sent
    by_canary = {result.job_id for result in results(installation) if result.model_version == "canary-1"}
    assert by_canary and all(in_share(job_id, 0.5) for job_id in by_canary)
    with installation.database.read() as session:
        rows = list(session.exec(select(ShadowScore)))
        known = {job.id: job.sha256 for job in session.exec(select(AuditJob))}
    assert len(rows) == 5
    # The same network under another name says the same.
    assert all(row.mask_agreement == 1.0 and row.live_verdict is row.candidate_verdict for row in rows)
    assert all(known[row.job_id] == row.sha256 for row in rows)
