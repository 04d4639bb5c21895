"""How long a moderator waits: from the key of a decision to the next picture, and for a claim in a deep queue.

    python -m benchmarks.review_page [--decisions 30] [--think 1.0] [--deep 1000000]

The page: the web role as a process, SQLite, pictures of one megapixel, Chromium without a head. A decision is a key; the clock
stops after the frame in which the next picture stands. Beside it the same picture by loading the page anew, which is what a
page without a preloaded deck would do. The queue: one claim from 1 000 undecided results and from `--deep` of them, in the
same database file, each as the median of 20.
"""

import argparse
import hashlib
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from sqlalchemy import text

from benchmarks.pictures import SAMPLES, write_jpegs
from model import render
from schemas.settings import BlobSettings
from schemas.states import JobState, Role, Verdict
from schemas.tables import AuditJob, AuditResult, Picture, now
from storage import migrations, review_claims
from storage.blobs import open_blob_store, picture_key
from storage.database import Database
from storage.review_queue import QueueFilter
from tests.browser.chromium import find_chromium
from tests.web.process import Web
from tests.web.visitors import PASSWORD, add_person

_SHALLOW = 1000
_CLAIMS = 20
_READY = "[data-testid=deck][data-state=ready]"
# Results that wait, as rows alone: their pictures are not looked at.
_JOBS = text("""
    WITH RECURSIVE number(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM number WHERE n + 1 < :last)
    INSERT INTO audit_job (id, source, sha256, queue, profiles, state, attempts, created_at, updated_at, finished_at)
    SELECT printf('%032x', n), 'made', printf('%064x', n), 'default', '[]', 'done', 1, :at, :at, :at FROM number
""")
_RESULTS = text("""
    INSERT INTO audit_result (job_id, model_version, profile, score, verdict, area, regions, mask_png, mask_agreement,
                              width_px, height_px, latency_ms, created_at)
    SELECT id, 'm', 'none', 0.9 + (rowid % 9973) / 99731.0, 'flag', 0.1, '[]', x'89', 1, 4, 3, 1, :at FROM audit_job
    WHERE sha256 >= printf('%064x', :first) AND sha256 < printf('%064x', :last) AND source = 'made'
""")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=30)
    parser.add_argument("--think", type=float, default=1.0, help="seconds between two decisions, in which the next are fetched")
    parser.add_argument("--deep", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tamperwatch-bench-") as name:
        kept, anew = _page(Path(name), options.decisions, options.think)
    print(f"decision to next picture, {len(kept)} decisions: median {statistics.median(kept):.0f} ms, highest {max(kept):.0f} ms")
    print(f"page loaded anew, {len(anew)} times: median {statistics.median(anew):.0f} ms")
    print(f"the deck is {statistics.median(anew) / statistics.median(kept):.0f} times as fast")
    with tempfile.TemporaryDirectory(prefix="tamperwatch-bench-") as name:
        shallow, deep = _queue(Path(name), options.deep)
    print(f"a claim from {_SHALLOW:,} waiting results: {shallow:.1f} ms; from {options.deep:,}: {deep:.1f} ms")
    print(f"the deep queue takes {deep / shallow:.1f} times as long")


def _page(folder: Path, decisions: int, think_s: float) -> tuple[list[float], list[float]]:
    """Milliseconds of each decision, and of each load of the page."""
    url = f"sqlite:///{folder / 'bench.db'}"
    database = Database(url)
    migrations.upgrade(database)
    _fill(database, folder / "blobs", decisions + 40)
    add_person(database, "anna", Role.MODERATOR)
    variables = {"BLOBS__DIRECTORY": str(folder / "blobs"), "WEB__PLAIN_HTTP": "true", "BROKER_URL": "redis://127.0.0.1:1/0"}
    web = Web(folder, url, variables)
    try:
        with sync_playwright() as playwright:
            program = find_chromium(Path(playwright.chromium.executable_path))
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            _log_in(page, web.address)
            measured = _decided(page, decisions, think_s), [_loaded(page) for _ in range(10)]
            browser.close()
            return measured
    finally:
        web.close()
        database.close()


def _log_in(page: Page, address: str) -> None:
    page.goto(f"{address}/login?next=/review")
    page.fill("[name=name]", "anna")
    page.fill("[name=password]", PASSWORD)
    page.press("[name=password]", "Enter")
    page.wait_for_selector(_READY)


def _decided(page: Page, decisions: int, think_s: float) -> list[float]:
    for _ in range(decisions):
        page.wait_for_timeout(1000 * think_s)
        before = page.inner_text("[data-testid=permalink]")
        page.keyboard.press("a")
        page.wait_for_function("before => document.querySelector('[data-testid=permalink]').innerText !== before", arg=before)
    page.wait_for_function(f"performance.getEntriesByName('decision-to-next').length === {decisions}")
    return list(page.evaluate("performance.getEntriesByName('decision-to-next').map(each => each.duration)"))


def _loaded(page: Page) -> float:
    began = time.perf_counter()
    page.reload()
    page.wait_for_selector(_READY)
    return 1000 * (time.perf_counter() - began)


def _fill(database: Database, blobs: Path, count: int) -> None:
    """Undecided pictures of one megapixel, with a mask."""
    store = open_blob_store(BlobSettings(directory=blobs))
    mask = np.zeros((112, 112), np.uint8)
    mask[30:70, 40:80] = 220
    with database.write() as session:
        for number, path in enumerate(write_jpegs(SAMPLES, blobs.parent / "pictures", count, megapixels=1.0)):
            data = path.read_bytes()
            with Image.open(path) as image:
                size_px = image.size
            sha256 = hashlib.sha256(data).hexdigest()
            store.put(picture_key(sha256), data)
            job = AuditJob(source=f"{number}.jpg", sha256=sha256, state=JobState.DONE, finished_at=now(), client_ref=str(number))
            session.add_all([Picture(sha256=sha256, bytes=len(data)), job])
            session.flush()
            session.add(_result(job, 0.99 - number / 10_000, render.mask_png(mask), size_px))


def _result(job: AuditJob, score: float, mask_png: bytes, size_px: tuple[int, int]) -> AuditResult:
    return AuditResult(
        job_id=job.id, model_version="m", score=score, verdict=Verdict.FLAG, area=0.1, mask_png=mask_png, width_px=size_px[0],
        height_px=size_px[1], latency_ms=1.0,
    )  # fmt: skip


def _queue(folder: Path, deep: int) -> tuple[float, float]:
    """Median milliseconds of a claim from a queue of 1 000, and from a deep one."""
    database = Database(f"sqlite:///{folder / 'queue.db'}")
    migrations.upgrade(database)
    _rows(database, 1, _SHALLOW)
    shallow = _claims(database)
    _rows(database, _SHALLOW + 1, deep)
    measured = shallow, _claims(database)
    database.close()
    return measured


def _rows(database: Database, first: int, last: int) -> None:
    with database.write() as session:
        connection, at = session.connection(), now().replace(tzinfo=None).isoformat(" ")
        connection.execute(_JOBS, {"first": first, "last": last + 1, "at": at})
        connection.execute(_RESULTS, {"first": first, "last": last + 1, "at": at})


def _claims(database: Database) -> float:
    took = []
    for number in range(_CLAIMS):
        began = time.perf_counter()
        with database.write() as session:
            assert review_claims.claim_next(session, f"moderator {number}", QueueFilter(), 60) is not None
        took.append(1000 * (time.perf_counter() - began))
    return statistics.median(took)


if __name__ == "__main__":
    main()
