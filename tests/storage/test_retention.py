import hashlib
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import col, select

from schemas.settings import BlobSettings
from schemas.states import JobState
from schemas.tables import AuditJob, AuditResult, Picture, now
from storage import orphans, retention
from storage.blobs import BlobStore, open_blob_store, picture_key
from storage.database import Database
from storage.retention import Purged, Selection
from tests.storage.test_orphans import result_of

Keep = Callable[..., str]
ALL = frozenset(Purged)
DAY_S = 86_400


@pytest.fixture
def keep(database: Database, blobs: BlobStore) -> Keep:
    """Stores a picture of ten bytes with one job that ended some days ago; returns its sha256."""

    def kept(source: str, age_days: float = 0, content: str = "", state: JobState = JobState.DONE) -> str:
        data = (content or source).encode().ljust(10)
        sha256 = hashlib.sha256(data).hexdigest()
        blobs.put(picture_key(sha256), data)
        job = AuditJob(source=source, sha256=sha256, state=state)
        job.finished_at = now() - timedelta(days=age_days) if state.ended else None
        with database.write() as session:
            if session.get(Picture, sha256) is None:
                session.add(Picture(sha256=sha256, bytes=len(data)))
            session.add(job)
            session.flush()
            if state is JobState.DONE:
                session.add(result_of(job.id))
        return sha256

    return kept


def older_than(days: float) -> Selection:
    return Selection(retention.older_than(now() - timedelta(days=days)))


def purge(database: Database, blobs: BlobStore, selection: Selection, *kinds: Purged) -> dict[Purged, int]:
    """Purge, having checked that the plan says what then goes."""
    with database.read() as session:
        plan = retention.plan(session, selection, frozenset(kinds))
    gone = dict.fromkeys(Purged, 0)
    for kind, count in retention.purge(database, blobs, selection, frozenset(kinds)):
        gone[kind] += count
    masks = 0 if Purged.ROWS in kinds else plan.masks  # masks go with their rows there
    assert gone == {Purged.PICTURES: plan.pictures, Purged.MASKS: masks, Purged.ROWS: plan.jobs}
    return gone


def sources(database: Database) -> set[str]:
    with database.read() as session:
        return set(session.exec(select(AuditJob.source)))


def masked(database: Database) -> set[str]:
    """The sources whose mask is still there."""
    with database.read() as session:
        query = select(AuditJob.source).join(AuditResult, col(AuditResult.job_id) == AuditJob.id)
        return set(session.exec(query.where(AuditResult.mask_png != b"")))


def test_nothing_to_forget(database: Database, blobs: BlobStore) -> None:
    assert purge(database, blobs, older_than(1), *ALL) == dict.fromkeys(Purged, 0)


def test_old_pictures_go_and_their_rows_stay(database: Database, blobs: BlobStore, keep: Keep) -> None:
    old, failed, new = keep("old", 100), keep("failed", 100, state=JobState.FAILED), keep("new", 10)
    assert purge(database, blobs, older_than(90), Purged.PICTURES)[Purged.PICTURES] == 2
    assert [blobs.exists(picture_key(sha256)) for sha256 in (old, failed, new)] == [False, False, True]
    assert sources(database) == masked(database) | {"failed"} == {"old", "failed", "new"}
    # And stay forgotten: nothing to do next time, nothing for the orphan check.
    assert purge(database, blobs, older_than(90), Purged.PICTURES)[Purged.PICTURES] == 0
    assert list(orphans.check(database, blobs, grace_s=-5)) == []


def test_old_masks_go_and_scores_stay(database: Database, blobs: BlobStore, keep: Keep) -> None:
    keep("old", 100), keep("new", 10)
    assert purge(database, blobs, older_than(90), Purged.MASKS)[Purged.MASKS] == 1
    assert masked(database) == {"new"}
    with database.read() as session:
        assert session.exec(select(AuditResult.score)).all() == [0.5, 0.5]
    assert purge(database, blobs, older_than(90), Purged.MASKS)[Purged.MASKS] == 0


def test_old_rows_go_with_results_and_pictures(database: Database, blobs: BlobStore, keep: Keep) -> None:
    old, new = keep("old", 100), keep("new", 10)
    with database.read() as session:
        plan = retention.plan(session, older_than(90), frozenset({Purged.ROWS}))
    assert (plan.jobs, plan.results, plan.masks, plan.mask_bytes) == (1, 1, 1, 1)
    assert (plan.pictures, plan.picture_bytes, plan.unfinished) == (1, 10, 0)
    purge(database, blobs, older_than(90), Purged.ROWS)
    assert sources(database) == masked(database) == {"new"}
    assert [blobs.exists(picture_key(sha256)) for sha256 in (old, new)] == [False, True]
    assert list(orphans.check(database, blobs, grace_s=-5)) == []


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING])
def test_what_has_not_ended_is_never_touched(database: Database, blobs: BlobStore, keep: Keep, state: JobState) -> None:
    waits = keep("waits", state=state)
    again = keep("ended", 100, content="again")
    keep("waits again", content="again", state=state)
    purge(database, blobs, older_than(0), *ALL)
    purge(database, blobs, Selection(sha256=(waits, again)), *ALL)
    purge(database, blobs, Selection(source_prefix="w"), *ALL)
    assert sources(database) == {"waits", "waits again"}
    assert blobs.exists(picture_key(waits)) and blobs.exists(picture_key(again))
    with database.read() as session:
        assert retention.plan(session, Selection(source_prefix="w"), ALL).unfinished == 2


def test_bytes_that_a_newer_job_needs_stay(database: Database, blobs: BlobStore, keep: Keep) -> None:
    shared = keep("old", 100, content="same")
    keep("new", 10, content="same")
    assert purge(database, blobs, older_than(90), Purged.ROWS) == {Purged.PICTURES: 0, Purged.MASKS: 0, Purged.ROWS: 1}
    assert blobs.exists(picture_key(shared)) and sources(database) == {"new"}


def test_the_newest_are_kept(database: Database, blobs: BlobStore, keep: Keep) -> None:
    for age_days in range(5):
        keep(str(age_days), age_days)
    keep("waits", state=JobState.QUEUED)
    with database.read() as session:
        up_to = retention.beyond_newest(session, 2)
        assert retention.beyond_newest(session, 5) is None
    purge(database, blobs, Selection(up_to), Purged.ROWS)
    assert sources(database) == {"0", "1", "waits"}


def test_one_persons_pictures_go_by_source_letter_by_letter(database: Database, blobs: BlobStore, keep: Keep) -> None:
    for source in ("users/1/a", "users/1/b", "Users/1/a", "users/10/a", "users/1%/a", "x/users/1/a"):
        keep(source)
    purge(database, blobs, Selection(source_prefix="users/1/"), Purged.ROWS)
    assert sources(database) == {"Users/1/a", "users/10/a", "users/1%/a", "x/users/1/a"}
    purge(database, blobs, Selection(source_prefix="users/1%"), Purged.ROWS)
    assert sources(database) == {"Users/1/a", "users/10/a", "x/users/1/a"}


def test_one_picture_goes_by_sha256_from_everywhere(database: Database, blobs: BlobStore, keep: Keep) -> None:
    mine = keep("a", content="mine")
    keep("b", 100, content="mine")
    other = keep("c")
    purge(database, blobs, Selection(sha256=(mine,)), Purged.ROWS)
    assert sources(database) == {"c"}
    assert (blobs.exists(picture_key(mine)), blobs.exists(picture_key(other))) == (False, True)


def test_bytes_left_by_a_purge_that_was_cut_short_go_by_sha256(database: Database, blobs: BlobStore, keep: Keep) -> None:
    sha256 = keep("a")

    class Cut(Exception):
        pass

    def cut(_: str) -> None:
        raise Cut

    delete, blobs.delete = blobs.delete, cut  # type: ignore[method-assign]
    with pytest.raises(Cut):
        purge(database, blobs, Selection(sha256=(sha256,)), Purged.ROWS)
    blobs.delete = delete  # type: ignore[method-assign]
    assert blobs.exists(picture_key(sha256))
    assert [each.name for each in orphans.check(database, blobs, grace_s=-5)] == [sha256]
    purge(database, blobs, Selection(sha256=(sha256,)), Purged.ROWS)
    assert not blobs.exists(picture_key(sha256)) and sources(database) == set()


def test_more_than_a_page_goes_completely(
    database: Database, blobs: BlobStore, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_PAGE", 3)
    for number in range(10):
        keep(f"old {number}", 100), keep(f"new {number}")
    assert purge(database, blobs, older_than(90), Purged.MASKS, Purged.PICTURES) == {
        Purged.PICTURES: 10, Purged.MASKS: 10, Purged.ROWS: 0
    }  # fmt: skip
    assert purge(database, blobs, older_than(90), Purged.ROWS)[Purged.ROWS] == 10
    assert len(sources(database)) == len(masked(database)) == 10


def test_bytes_submitted_anew_while_purging_stay(sqlite: Database, tmp_path: Path) -> None:
    blobs = open_blob_store(BlobSettings(directory=tmp_path))
    sha256 = hashlib.sha256(b"x").hexdigest()
    blobs.put(picture_key(sha256), b"x")
    later = now().timestamp() + DAY_S
    os.utime(tmp_path / picture_key(sha256), (later, later))
    with sqlite.write() as session:
        session.add(Picture(sha256=sha256, bytes=1))
        session.add(AuditJob(source="x", sha256=sha256, state=JobState.DONE, finished_at=now()))
    values: list[Any] = list(retention.purge(sqlite, blobs, older_than(0), ALL))
    assert values and blobs.exists(picture_key(sha256))
