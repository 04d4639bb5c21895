"""What is forgotten, by age, by count or for one person: pictures' bytes, masks and rows, in small transactions.

Only what has ended is ever selected. A row goes before the bytes it stands for: if the process dies in between, a blob
without a row is left, which `storage.orphans` finds.

By age or count, pictures that people annotated stay, since the next model learns from them. By name (of the picture, or the
source's beginning), everything known of a picture goes: what people said of it, its pseudo-masks, what candidates said of it.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, false, func, not_, or_, select, update
from sqlmodel import Session, SQLModel

from schemas.states import JobState
from schemas.tables import now
from storage import pseudo_masks
from storage.annotation_queries import stands
from storage.blobs import BlobStore, picture_key
from storage.database import Database

_PAGE = 500
_PICTURES = SQLModel.metadata.tables["picture"]
_JOBS = SQLModel.metadata.tables["audit_job"]
_RESULTS = SQLModel.metadata.tables["audit_result"]
_WORDS = SQLModel.metadata.tables["box_annotation"]
_REVIEWS = SQLModel.metadata.tables["review"]
_SHADOWS = SQLModel.metadata.tables["shadow_score"]
_PSEUDO_MASKS = SQLModel.metadata.tables["pseudo_mask"]
_LAST_ID = uuid.UUID(int=2**128 - 1)


class Purged(StrEnum):
    """What can be forgotten. Rows take their masks with them, and the pictures that no other job needs.

    The first four can be asked for; the others go with the rows of pictures that are selected by name alone.
    """

    PICTURES = "pictures"
    MASKS = "masks"
    ROWS = "rows"
    PSEUDO_MASKS = "pseudo-masks"
    ANNOTATIONS = "annotations"
    REVIEWS = "reviews"
    SHADOW_SCORES = "shadow scores"


@dataclass(frozen=True)
class Selection:
    """The ended jobs that are meant: all that the given conditions have in common.

    Attributes:
        up_to: the (finished_at, id) of the last one meant.
        sha256: only jobs of these pictures.
        source_prefix: only jobs whose source begins so, letter case included.
        annotated: also the bytes of pictures that people annotated; by name alone they always go.
    """

    up_to: tuple[datetime, uuid.UUID] | None = None
    sha256: tuple[str, ...] = ()
    source_prefix: str = ""
    annotated: bool = False

    def matches(self, jobs: Any) -> ColumnElement[bool]:
        """The WHERE clause over the job table, or over another name for it."""
        wanted = [jobs.c.state.in_([state for state in JobState if state.ended]), *self.named(jobs)]
        if self.up_to is not None:
            at, last_id = self.up_to
            wanted.append(or_(jobs.c.finished_at < at, and_(jobs.c.finished_at == at, jobs.c.id <= last_id)))
        return and_(*wanted)

    def unfinished(self) -> ColumnElement[bool]:
        """Jobs that are meant by name but have not ended, and so are left."""
        return and_(_JOBS.c.state.in_([state for state in JobState if not state.ended]), *self.named(_JOBS))

    @property
    def whole_pictures(self) -> tuple[str, ...]:
        """Pictures that are meant whatever job they belong to, or to none."""
        return () if self.source_prefix or self.up_to is not None else self.sha256

    @property
    def by_name_alone(self) -> bool:
        """Whether everything known of the pictures is meant, and not what is old of it."""
        return self.up_to is None and bool(self.sha256 or self.source_prefix)

    def named(self, jobs: Any) -> list[ColumnElement[bool]]:
        """The conditions that are not about time; none if everything old enough is meant."""
        named: list[ColumnElement[bool]] = []
        if self.sha256:
            named.append(jobs.c.sha256.in_(self.sha256))
        if self.source_prefix:
            # Not LIKE, which in SQLite takes A for a.
            named.append(func.substr(jobs.c.source, 1, len(self.source_prefix)) == self.source_prefix)
        return named


@dataclass(frozen=True)
class Plan:
    """What a purge would delete.

    Attributes:
        pseudo_masks: of the pictures, or not used for so long.
        annotations, reviews, shadow_scores: of pictures that are selected by name alone.
        annotated: pictures that stay although nothing else needs their bytes, because people annotated them.
        unfinished: jobs that are named but have not ended; they stay, and so do their pictures.
    """

    jobs: int
    results: int
    masks: int
    mask_bytes: int
    pictures: int
    picture_bytes: int
    pseudo_masks: int
    annotations: int
    reviews: int
    shadow_scores: int
    annotated: int
    unfinished: int


def older_than(at: datetime) -> tuple[datetime, uuid.UUID]:
    """The place in the order of endings up to which everything ended at `at` or before."""
    return at, _LAST_ID


def beyond_newest(session: Session, keep: int) -> tuple[datetime, uuid.UUID] | None:
    """The place in the order of endings up to which all goes but the newest `keep`; None if there are no more than that."""
    newest_first = select(_JOBS.c.finished_at, _JOBS.c.id).where(_JOBS.c.finished_at.is_not(None))
    query = newest_first.order_by(_JOBS.c.finished_at.desc(), _JOBS.c.id.desc()).offset(keep).limit(1)
    found = session.connection().execute(query).first()
    return (found.finished_at, found.id) if found is not None else None


def plan(session: Session, selection: Selection, kinds: frozenset[Purged]) -> Plan:
    """Count what `purge` would delete if it were called now."""

    def counted(query: Any) -> Any:
        return session.connection().execute(query).one()

    rows, job = Purged.ROWS in kinds, selection.matches(_JOBS)
    of_job = _RESULTS.join(_JOBS, _RESULTS.c.job_id == _JOBS.c.id)
    size = func.length(_RESULTS.c.mask_png)
    masks = select(func.count(), func.coalesce(func.sum(size), 0)).select_from(of_job).where(job, size > 0)
    pictures = select(func.count(), func.coalesce(func.sum(_PICTURES.c.bytes), 0)).where(_unneeded(selection))
    mask_count, mask_bytes = counted(masks) if rows or Purged.MASKS in kinds else (0, 0)
    bytes_go = rows or Purged.PICTURES in kinds
    picture_count, picture_bytes = counted(pictures) if bytes_go else (0, 0)
    everything, spared = rows and selection.by_name_alone, bytes_go and selection.up_to is not None and not selection.annotated

    def count(table: Any, which: ColumnElement[bool]) -> int:
        return int(counted(select(func.count()).select_from(table).where(which))[0])

    known = {kind: count(table, which) if everything else 0 for kind, table, which in _known(selection)}
    return Plan(
        jobs=counted(select(func.count()).select_from(_JOBS).where(job))[0] if rows else 0,
        results=counted(select(func.count()).select_from(of_job).where(job))[0] if rows else 0,
        masks=mask_count,
        mask_bytes=mask_bytes,
        pictures=picture_count,
        picture_bytes=picture_bytes,
        pseudo_masks=pseudo_masks.count(session, _pseudo_masks(selection, kinds)),
        annotations=known[Purged.ANNOTATIONS],
        reviews=known[Purged.REVIEWS],
        shadow_scores=known[Purged.SHADOW_SCORES],
        annotated=count(_PICTURES, and_(_without_others(selection), _annotated())) if spared else 0,
        unfinished=counted(select(func.count()).where(selection.unfinished()))[0] if selection.named(_JOBS) else 0,
    )


def purge(database: Database, blobs: BlobStore, selection: Selection, kinds: frozenset[Purged]) -> Iterator[tuple[Purged, int]]:
    """Delete what is selected, yielding after each small transaction what went and how many.

    Raises:
        StoreUnavailable, BlobStoreUnavailable: what was yielded is gone; call again for the rest.
    """
    # What is known of pictures goes while their jobs still say which they are.
    wanted = _pseudo_masks(selection, kinds)
    yield from ((Purged.PSEUDO_MASKS, count) for count in pseudo_masks.forget(database, blobs, wanted))
    if Purged.ROWS in kinds and selection.by_name_alone:
        yield from _purge_known(database, blobs, selection)
    if kinds & {Purged.PICTURES, Purged.ROWS}:
        yield from ((Purged.PICTURES, count) for count in _purge_pictures(database, blobs, selection))
    if Purged.ROWS in kinds:
        yield from ((Purged.ROWS, count) for count in _purge_rows(database, selection))
    elif Purged.MASKS in kinds:
        yield from ((Purged.MASKS, count) for count in _purge_masks(database, selection))


def _unneeded(selection: Selection) -> ColumnElement[bool]:
    """Pictures that nothing needs any more once what is selected is gone."""
    alone = _without_others(selection)
    return alone if selection.annotated or selection.up_to is None else and_(alone, ~_annotated())


def _without_others(selection: Selection) -> ColumnElement[bool]:
    """Pictures that no other job needs; by age, these are also old ones without any job: never audited, or only annotated."""
    alone = _alone(selection, _PICTURES.c.sha256)
    if selection.up_to is None or selection.named(_JOBS):
        return alone
    jobless = ~exists().where(_JOBS.c.sha256 == _PICTURES.c.sha256)
    # In this order: PostgreSQL would otherwise look for the jobs of every picture there is.
    return or_(alone, and_(_PICTURES.c.first_seen_at <= selection.up_to[0], jobless))


def _alone(selection: Selection, sha256: Any) -> ColumnElement[bool]:
    """For a column of pictures: all their jobs are selected, or they are selected by sha256 and have none."""
    jobs = _JOBS.alias()
    of_picture = jobs.c.sha256 == sha256
    others = exists().where(of_picture, not_(selection.matches(jobs)))
    selected: ColumnElement[bool] = exists().where(of_picture, selection.matches(jobs))
    if selection.whole_pictures:
        selected = or_(selected, sha256.in_(selection.whole_pictures))
    return and_(selected, ~others)


def _annotated() -> ColumnElement[bool]:
    """Pictures that people have spoken of, and still stand by it."""
    return exists().where(_WORDS.c.sha256 == _PICTURES.c.sha256, stands())


def _pseudo_masks(selection: Selection, kinds: frozenset[Purged]) -> ColumnElement[bool]:
    """The WHERE clause over pseudo-masks: of the pictures that are named, unused for as long as is said."""
    if Purged.PSEUDO_MASKS not in kinds and not (Purged.ROWS in kinds and selection.by_name_alone):
        return false()
    wanted = [_alone(selection, _PSEUDO_MASKS.c.sha256)] if selection.named(_JOBS) else []
    if selection.up_to is not None:
        wanted.append(pseudo_masks.unused_since(selection.up_to[0]))
    return and_(*wanted)


def _known(selection: Selection) -> tuple[tuple[Purged, Any, ColumnElement[bool]], ...]:
    """What else is known of pictures: tables, and the WHERE clauses over them."""
    jobs = _JOBS.alias()
    selected = select(jobs.c.id).where(selection.matches(jobs))
    return (
        (Purged.ANNOTATIONS, _WORDS, _alone(selection, _WORDS.c.sha256)),
        (Purged.REVIEWS, _REVIEWS, or_(_alone(selection, _REVIEWS.c.sha256), _REVIEWS.c.job_id.in_(selected))),
        (Purged.SHADOW_SCORES, _SHADOWS, or_(_alone(selection, _SHADOWS.c.sha256), _SHADOWS.c.job_id.in_(selected))),
    )


def _purge_known(database: Database, blobs: BlobStore, selection: Selection) -> Iterator[tuple[Purged, int]]:
    """What people and candidates said of pictures that are selected by name alone."""
    for kind, table, which in _known(selection):
        while True:
            with database.write() as session:
                page = select(table.c.id).where(which).order_by(table.c.id).limit(_PAGE)
                gone = list(session.connection().execute(page.with_for_update()).scalars())
                session.connection().execute(delete(table).where(table.c.id.in_(gone)))
            if not gone:
                break
            yield kind, len(gone)
    for sha256 in selection.whole_pictures:
        with database.read() as session:
            needed = session.connection().execute(select(exists().where(_PSEUDO_MASKS.c.sha256 == sha256))).scalar()
        if not needed:
            pseudo_masks.forget_leftovers(blobs, sha256)


def _purge_pictures(database: Database, blobs: BlobStore, selection: Selection) -> Iterator[int]:
    started, last = now(), ""
    while True:
        with database.write() as session:
            # Locked, so that a job being added for the same picture waits and then finds no row, and makes its own.
            page = select(_PICTURES.c.sha256).where(_unneeded(selection), _PICTURES.c.sha256 > last)
            connection = session.connection()
            gone = list(connection.execute(page.order_by(_PICTURES.c.sha256).limit(_PAGE).with_for_update()).scalars())
            connection.execute(delete(_PICTURES).where(_PICTURES.c.sha256.in_(gone)))
        if not gone:
            break
        for sha256 in gone:
            _delete_blob(blobs, sha256, started)
        last = gone[-1]
        yield len(gone)
    for sha256 in selection.whole_pictures:
        with database.read() as session:
            kept = exists().where(_PICTURES.c.sha256 == sha256) | exists().where(_JOBS.c.sha256 == sha256, selection.unfinished())
            still_needed = session.connection().execute(select(kept)).scalar()
        if not still_needed:
            # Left over from a purge that was cut short.
            _delete_blob(blobs, sha256, started)


def _delete_blob(blobs: BlobStore, sha256: str, started: datetime) -> None:
    """Delete a picture's bytes, unless they were submitted anew since this purge began."""
    found = blobs.stat(picture_key(sha256))
    if found is not None and found.put_at <= started:
        blobs.delete(found.key)


def _purge_rows(database: Database, selection: Selection) -> Iterator[int]:
    while True:
        with database.write() as session:
            connection = session.connection()
            page = select(_JOBS.c.id).where(selection.matches(_JOBS)).order_by(_JOBS.c.finished_at, _JOBS.c.id).limit(_PAGE)
            gone = list(connection.execute(page.with_for_update()).scalars())
            # Their results go with them: the foreign key says so.
            connection.execute(delete(_JOBS).where(_JOBS.c.id.in_(gone)))
        if not gone:
            return
        yield len(gone)


def _purge_masks(database: Database, selection: Selection) -> Iterator[int]:
    last = 0
    while True:
        with database.write() as session:
            connection = session.connection()
            of_job = _RESULTS.join(_JOBS, _RESULTS.c.job_id == _JOBS.c.id)
            kept = (selection.matches(_JOBS), _RESULTS.c.id > last, func.length(_RESULTS.c.mask_png) > 0)
            page = select(_RESULTS.c.id).select_from(of_job).where(*kept).order_by(_RESULTS.c.id).limit(_PAGE)
            gone = list(connection.execute(page).scalars())
            connection.execute(update(_RESULTS).where(_RESULTS.c.id.in_(gone)).values(mask_png=b""))
        if not gone:
            return
        last = gone[-1]
        yield len(gone)
