import hashlib
import os
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import col, select

from schemas.geometry import PixelBox
from schemas.learning_tables import BoxAnnotation, PseudoMask, Review, ShadowScore
from schemas.settings import BlobSettings
from schemas.states import AnnotationKind, AnnotationOrigin, JobState, ReviewDecision, Verdict
from schemas.tables import AuditJob, AuditResult, Picture, now
from storage import annotations, orphans, pseudo_masks, retention
from storage.annotation_checks import NewAnnotation
from storage.blobs import BlobStore, open_blob_store, picture_key
from storage.database import Database
from storage.pseudo_masks import MaskName, StoredMask
from storage.retention import Purged, Selection
from tests.storage.test_orphans import result_of

Keep = Callable[..., str]
ALL = frozenset(Purged)
DAY_S = 86_400
NOTHING = dict.fromkeys(Purged, 0)
BOX = PixelBox.of(0, 0, 1, 1)


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
    asked = {Purged.PICTURES: plan.pictures, Purged.MASKS: masks, Purged.ROWS: plan.jobs, Purged.PSEUDO_MASKS: plan.pseudo_masks}
    known = {Purged.ANNOTATIONS: plan.annotations, Purged.REVIEWS: plan.reviews, Purged.SHADOW_SCORES: plan.shadow_scores}
    assert gone == asked | known
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
    assert purge(database, blobs, older_than(1), *ALL) == NOTHING


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
    assert purge(database, blobs, older_than(90), Purged.ROWS) == NOTHING | {Purged.ROWS: 1}
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
    gone = purge(database, blobs, older_than(90), Purged.MASKS, Purged.PICTURES)
    assert gone == NOTHING | {Purged.PICTURES: 10, Purged.MASKS: 10}
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


def annotate(database: Database, sha256: str, by: str = "anna") -> int:
    """Someone draws a box; returns the annotation's number."""
    kind, origin = AnnotationKind.BOXES, AnnotationOrigin.CLI
    word = NewAnnotation(sha256=sha256, kind=kind, boxes=(BOX,), width_px=1, height_px=1, annotator=by, origin=origin)
    with database.write() as session:
        return annotations.add_annotation(session, word).annotation.id or 0


def talk_of(database: Database, blobs: BlobStore, sha256: str) -> MaskName:
    """All that may be known of a picture beside its jobs: a box, a review, a candidate's score, a pseudo-mask."""
    annotate(database, sha256)
    name = MaskName.of(sha256, [BOX], "teacher")
    blobs.put(name.key, b"mask")
    with database.write() as session:
        job = session.exec(select(AuditJob).where(AuditJob.sha256 == sha256)).first()
        job_id = job.id if job else uuid.uuid4()
        said = {"reviewer": "ben", "decision": ReviewDecision.MANIPULATED}
        session.add(Review(result_id=1, job_id=job_id, sha256=sha256, **said))
        verdicts = {"live_verdict": Verdict.PASS, "candidate_verdict": Verdict.FLAG, "live_version": "l"}
        scores = {"live_score": 0.1, "candidate_score": 0.9, "mask_agreement": 0.5, "candidate_version": "c"}
        session.add(ShadowScore(job_id=job_id, sha256=sha256, **verdicts, **scores))
        pseudo_masks.record(session, name, StoredMask(name.key, "0" * 64, 0.5, (4, 4)))
    return name


def talked_of(database: Database) -> list[set[str | None]]:
    """The pictures with annotations, reviews, candidates' scores and pseudo-masks."""
    with database.read() as session:
        columns = (BoxAnnotation.sha256, Review.sha256, ShadowScore.sha256, PseudoMask.sha256)
        return [set(session.exec(select(column))) for column in columns]


@pytest.mark.parametrize("kind", [Purged.PICTURES, Purged.ROWS])
def test_by_age_annotated_pictures_stay_until_nobody_stands_by_it(
    database: Database, blobs: BlobStore, keep: Keep, kind: Purged
) -> None:
    spoken_of, other = keep("spoken of", 100), keep("other", 100)
    number = annotate(database, spoken_of)
    with database.read() as session:
        assert retention.plan(session, older_than(90), frozenset({kind})).annotated == 1
    assert purge(database, blobs, older_than(90), kind)[Purged.PICTURES] == 1
    assert [blobs.exists(picture_key(sha256)) for sha256 in (spoken_of, other)] == [True, False]
    with database.write() as session:
        annotations.retract(session, number, "anna", "wrong picture", AnnotationOrigin.CLI)
        session.get_one(Picture, spoken_of).first_seen_at = now() - timedelta(days=100)
    assert purge(database, blobs, older_than(90), kind)[Purged.PICTURES] == 1
    assert not blobs.exists(picture_key(spoken_of))


def test_by_age_annotated_pictures_go_where_that_is_said(database: Database, blobs: BlobStore, keep: Keep) -> None:
    sha256 = keep("spoken of", 100)
    annotate(database, sha256)
    purge(database, blobs, replace(older_than(90), annotated=True), Purged.PICTURES)
    assert not blobs.exists(picture_key(sha256))
    assert talked_of(database)[0] == {sha256}  # the word stays


def test_old_pictures_that_were_only_ever_annotated_stay(database: Database, blobs: BlobStore) -> None:
    """As `annotate import --images` keeps them: without a job."""
    with database.write() as session:
        for sha256 in ("a" * 64, "b" * 64):
            session.add(Picture(sha256=sha256, bytes=1, first_seen_at=now() - timedelta(days=100)))
    annotate(database, "a" * 64)
    purge(database, blobs, older_than(90), Purged.PICTURES)
    with database.read() as session:
        assert session.exec(select(Picture.sha256)).all() == ["a" * 64]


@pytest.mark.parametrize("by", ["sha256", "source"])
def test_by_name_everything_known_of_a_picture_goes(database: Database, blobs: BlobStore, keep: Keep, by: str) -> None:
    mine, other = keep("users/1/a"), keep("users/2/a")
    masks = [talk_of(database, blobs, sha256) for sha256 in (mine, other)]
    selection = Selection(sha256=(mine,)) if by == "sha256" else Selection(source_prefix="users/1/")
    gone = purge(database, blobs, selection, Purged.ROWS)
    assert gone == {kind: 0 if kind is Purged.MASKS else 1 for kind in Purged}
    assert talked_of(database) == [{other}] * 4
    assert [blobs.exists(mask.key) for mask in masks] == [False, True]
    assert list(orphans.check(database, blobs, grace_s=-5)) == []


def test_a_picture_without_a_job_is_forgotten_by_name(database: Database, blobs: BlobStore) -> None:
    sha256 = "a" * 64
    mask = talk_of(database, blobs, sha256)
    purge(database, blobs, Selection(sha256=(sha256,)), Purged.ROWS)
    assert talked_of(database) == [set()] * 4
    assert not blobs.exists(mask.key)


def test_what_is_said_of_a_picture_stays_while_somebody_elses_job_has_it(
    database: Database, blobs: BlobStore, keep: Keep
) -> None:
    shared = keep("users/1/a", content="same")
    keep("users/2/a", content="same")
    talk_of(database, blobs, shared)
    with database.write() as session:
        mine = session.exec(select(AuditJob.id).where(AuditJob.source == "users/1/a")).one()
        for row in (session.exec(select(Review)).one(), session.exec(select(ShadowScore)).one()):
            row.job_id = mine
    purge(database, blobs, Selection(source_prefix="users/1/"), Purged.ROWS)
    # Of what hangs on the job that went, nothing stays.
    assert talked_of(database) == [{shared}, set(), set(), {shared}]
    assert blobs.exists(picture_key(shared))


def test_by_age_what_was_said_stays(database: Database, blobs: BlobStore, keep: Keep) -> None:
    old = keep("old", 100)
    talk_of(database, blobs, old)
    purge(database, blobs, older_than(90), Purged.ROWS)
    assert talked_of(database) == [{old}] * 4


def test_pseudo_masks_that_were_not_used_for_so_long_go(database: Database, blobs: BlobStore, keep: Keep) -> None:
    old, new = (talk_of(database, blobs, keep(name, 100)) for name in ("old", "new"))
    with database.write() as session:
        row = session.exec(select(PseudoMask).where(PseudoMask.sha256 == old.sha256)).one()
        row.last_used_at = now() - timedelta(days=91)
    assert purge(database, blobs, older_than(90), Purged.PSEUDO_MASKS) == NOTHING | {Purged.PSEUDO_MASKS: 1}
    assert [blobs.exists(mask.key) for mask in (old, new)] == [False, True]
    assert purge(database, blobs, older_than(90), Purged.PSEUDO_MASKS) == NOTHING
    assert purge(database, blobs, Selection(sha256=(new.sha256,)), Purged.PSEUDO_MASKS) == NOTHING | {Purged.PSEUDO_MASKS: 1}
    assert talked_of(database)[:3] == [{old.sha256, new.sha256}] * 3


def test_a_pseudo_mask_left_without_its_row_goes_by_name(database: Database, blobs: BlobStore, keep: Keep) -> None:
    names = [talk_of(database, blobs, keep(name)) for name in ("mine", "other")]
    with database.write() as session:
        for row in session.exec(select(PseudoMask)):
            session.delete(row)
    purge(database, blobs, Selection(sha256=(names[0].sha256,)), Purged.ROWS)
    assert [blobs.exists(name.key) for name in names] == [False, True]
