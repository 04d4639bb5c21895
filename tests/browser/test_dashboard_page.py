"""What failed is found on the dashboard and sent again from there."""

import pytest
from playwright.sync_api import Browser, expect
from redis import Redis
from sqlmodel import select

from schemas.states import JobState
from schemas.tables import AuditJob, now
from tests.browser.site import Site, logged_in

pytestmark = pytest.mark.slow


def test_a_failure_is_tried_again(chromium: Browser, own_site: Site, browser_broker: str) -> None:
    with own_site.database.write() as session:
        done = session.exec(select(AuditJob)).first()
        assert done is not None
        failed = AuditJob(
            source="late.jpg", sha256=done.sha256, state=JobState.FAILED, attempts=5, finished_at=now(),
            error_code="model_timeout", error_message="no answer within 60 s",
        )  # fmt: skip
        job_id = failed.id
        session.add(failed)
    with logged_in(chromium, own_site, "boris") as boris:
        page = boris.open("/dashboard")
        page.get_by_role("link", name="model_timeout").click()
        expect(page.get_by_text("no answer within 60 s")).to_be_visible()
        page.get_by_test_id("open-retry").click()
        page.get_by_test_id("retry-confirm").click()
        expect(page.get_by_test_id("sent")).to_contain_text("1 jobs are on their way")
    with own_site.database.read() as session:
        job = session.get_one(AuditJob, job_id)
        assert (job.state, job.error_code) == (JobState.QUEUED, None)
    with Redis.from_url(browser_broker) as client:
        assert client.llen("audit.default") == 1
