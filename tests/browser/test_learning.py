"""Models, runs and dashboard in a browser: decisions through their dialogs, a run that goes on, and what axe-core finds."""

import uuid
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from model.card import builtin_directory
from schemas.learning_tables import RetrainRun
from schemas.settings import BlobSettings
from schemas.states import JobState, ModelStage, RetrainState, Role
from schemas.tables import AuditJob, now
from storage import registry
from storage.blobs import open_blob_store
from storage.model_files import store_student
from tests.browser.accessibility import findings
from tests.browser.site import WIDE, Site, logged_in
from tests.web.learned import CARD, add_candidate, add_run

pytestmark = pytest.mark.slow
REASON = "fewer false alarms in a week of shadow mode"


@pytest.fixture(scope="module")
def learned(site: Site) -> Site:
    """With a candidate whose files can be had, nights that ended, and failures."""
    folder = Path(site.database.engine.url.database or "").parent / "blobs"
    location = store_student(open_blob_store(BlobSettings(directory=folder)), builtin_directory(), CARD.version)
    add_candidate(site.database, "night-1", RetrainState.PROPOSED, location)
    add_candidate(site.database, "night-2", RetrainState.REJECTED, location)
    with site.database.write() as session:
        for number in range(3):
            session.add(
                AuditJob(
                    source=f"{number}.jpg",
                    sha256="0" * 64,
                    state=JobState.FAILED,
                    error_code="model_timeout",
                    error_message="the device did not answer in time",
                    finished_at=now(),
                )
            )
    return site


def stage(site: Site, version: str) -> ModelStage:
    with site.database.read() as session:
        return registry.get(session, version).stage


def decide(page: Page, name: str, reason: str) -> None:
    """Open a dialog, say why, and confirm."""
    page.get_by_test_id(f"open-{name}").click()
    page.get_by_test_id(f"{name}-reason").fill(reason)
    page.get_by_test_id(f"{name}-confirm").click()


def test_promoting_and_rolling_back(chromium: Browser, learned: Site) -> None:
    with logged_in(chromium, learned, "ada", Role.ADMIN) as ada:
        page = ada.open("/models/night-1")
        page.get_by_test_id("open-promote").click()
        # Without a reason the browser sends nothing; Escape leaves everything as it is.
        page.get_by_test_id("promote-confirm").click()
        expect(page.get_by_test_id("promote-reason")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.get_by_test_id("promote-reason")).to_be_hidden()
        assert stage(learned, CARD.version) is ModelStage.LIVE

        decide(page, "promote", REASON)
        expect(page.get_by_role("heading", level=1)).to_contain_text("live")
        assert stage(learned, "night-1") is ModelStage.LIVE
        expect(page.get_by_role("row", name=REASON)).to_contain_text("ada")

        ada.open("/models")
        expect(page.get_by_test_id("live-model")).to_contain_text("night-1")
        decide(page, "roll-back", "it misses faces")
        expect(page.get_by_role("heading", level=1)).to_contain_text(CARD.version)
        assert (stage(learned, CARD.version), stage(learned, "night-1")) == (ModelStage.LIVE, ModelStage.RETIRED)


def test_a_run_goes_on_before_ones_eyes_and_is_cancelled(chromium: Browser, learned: Site) -> None:
    run_id = add_run(learned.database, RetrainState.TRAINING, step=1, steps_total=10, message="step 1")
    with logged_in(chromium, learned, "ada", Role.ADMIN) as ada:
        page = ada.open(f"/runs/{run_id}")
        expect(page.get_by_test_id("progress")).to_contain_text("1 of 10 steps")
        _told(learned, run_id, 7)
        expect(page.get_by_test_id("progress")).to_contain_text("7 of 10 steps")
        page.get_by_test_id("open-cancel").click()
        page.get_by_test_id("cancel-confirm").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("cancelled")


def test_failed_jobs_go_round_again(chromium: Browser, learned: Site) -> None:
    with logged_in(chromium, learned, "mo", Role.MODERATOR) as mo:
        page = mo.open("/dashboard")
        page.get_by_role("link", name="model_timeout").click()
        page.get_by_test_id("open-retry").click()
        page.get_by_test_id("retry-confirm").click()
        expect(page.get_by_test_id("sent")).to_contain_text("3 jobs are on their way again.")


def test_the_pages_are_for_everybody(chromium: Browser, learned: Site) -> None:
    run_id = add_run(learned.database, RetrainState.FAILED, reason="failed", error_code="worker_lost", error_message="5 died")
    with logged_in(chromium, learned, "ada", Role.ADMIN) as ada:
        for path in ("/models", "/models/night-2", "/runs", f"/runs/{run_id}", "/dashboard", "/dashboard/failures/model_timeout"):
            page = ada.open(path)
            page.wait_for_load_state("networkidle")
            assert findings(page) == [], path
            assert page.evaluate("document.documentElement.scrollWidth") <= WIDE["width"], path


def _told(site: Site, run_id: uuid.UUID, step: int) -> None:
    with site.database.write() as session:
        run = session.get(RetrainRun, run_id)
        assert run is not None
        run.step, run.updated_at = step, now()
        session.add(run)
