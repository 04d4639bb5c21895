"""Names, notes and bytes that would be scripts: shown as words, or saved, and never run."""

from collections.abc import Iterator

import httpx2
import pytest
from playwright.sync_api import Browser, expect
from sqlmodel import col, select

from schemas.settings import BlobSettings
from schemas.states import JobState, Verdict
from schemas.tables import AuditJob, AuditResult, now
from storage.blobs import open_blob_store, picture_key
from tests.browser.review_page import ReviewPage
from tests.browser.site import Site, Window, logged_in
from tests.pictures import picture_bytes

pytestmark = pytest.mark.slow
NAME = '"><img src=x onerror=alert(1)><script>alert(2)</script>.jpg'
SVG = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(3)'><script>alert(4)</script></svg>"


@pytest.fixture
def anna(chromium: Browser, site: Site) -> Iterator[Window]:
    """A window in which a script that ran would be seen."""
    with logged_in(chromium, site, "anna") as opened:
        ran: list[str] = []
        opened.page.on("dialog", lambda dialog: (ran.append(dialog.message), dialog.dismiss()))
        yield opened
        assert ran == []


def result_for(site: Site, source: str, sha256: str) -> int:
    """A result of a picture under this name, with the map of a real one."""
    with site.database.write() as session:
        real = session.exec(select(AuditResult).where(AuditResult.verdict == Verdict.FLAG).order_by(col(AuditResult.id))).first()
        assert real is not None
        job = AuditJob(source=source, sha256=sha256, state=JobState.DONE, finished_at=now())
        session.add(job)
        session.flush()
        made = AuditResult(**real.model_dump(exclude={"id", "job_id"}), job_id=job.id)
        session.add(made)
        session.flush()
        return made.id or 0


def stored(site: Site, sha256: str, data: bytes) -> None:
    directory = site.web.env["TAMPERWATCH_BLOBS__DIRECTORY"]
    open_blob_store(BlobSettings(directory=directory)).put(picture_key(sha256), data)


def test_a_name_that_is_a_script_is_shown_as_it_is(anna: Window, site: Site) -> None:
    files = {"file": (NAME, picture_bytes(7), "image/jpeg")}
    sent = httpx2.post(f"{site.address}/v1/audits", files=files, headers=site.web.headers).json()
    number = result_for(site, NAME, sent["pictures"][0]["sha256"])
    review = ReviewPage(anna, f"/review/results/{number}")
    expect(review.page.get_by_test_id("picture-name")).to_have_text(NAME)
    anna.open("/results")
    expect(anna.page.get_by_text(NAME).first).to_be_visible()


@pytest.mark.parametrize("data", [SVG, b"<!doctype html><script>alert(5)</script>"], ids=["svg", "html"])
def test_bytes_that_are_a_script_are_refused_and_never_run(anna: Window, site: Site, data: bytes) -> None:
    refused = httpx2.post(f"{site.address}/v1/audits", files={"file": ("a.jpg", data, "image/jpeg")}, headers=site.web.headers)
    assert refused.status_code == 415
    # As a foreign producer may have stored it.
    sha256 = data[:32].hex()
    stored(site, sha256, data)
    number = result_for(site, "a.jpg", sha256)
    anna.allow(415, 401)
    for address in (f"/review/results/{number}/picture", f"/v1/results/{number}/picture"):
        anna.open(address)
        assert anna.page.locator("svg script, img[onerror]").count() == 0
    raw = httpx2.get(f"{site.address}/v1/results/{number}/picture", headers=site.web.headers)
    assert raw.headers["content-disposition"].startswith("attachment;") and "sandbox" in raw.headers["content-security-policy"]


def test_a_form_of_another_site_changes_nothing(anna: Window) -> None:
    """Without the page's token a request is refused, though the cookie comes along."""
    anna.allow(403)
    assert anna.page.evaluate("fetch('/review/claims', {method: 'POST', body: new URLSearchParams()}).then(a => a.status)") == 403
