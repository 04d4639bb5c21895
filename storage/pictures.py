"""Pictures by whatever name people know them under, and the rows that say their bytes are kept. Callers bring the session."""

import re
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType

from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from schemas.learning_tables import BoxAnnotation
from schemas.tables import AuditJob, Picture, now

SHA256 = re.compile(r"[0-9a-f]{64}")
_AFTER_HEX = "g"
_MOST_NAMED = 9


def known_pictures(session: Session, pictures: Iterable[str]) -> set[str]:
    """Those of these sha256 that any job, picture or annotation names."""
    wanted = list(pictures)
    columns = (col(Picture.sha256), col(AuditJob.sha256), col(BoxAnnotation.sha256))
    queries = (select(column).where(column.in_(wanted)).distinct() for column in columns)
    return {sha256 for query in queries for sha256 in session.exec(query) if sha256}


def kept_pictures(session: Session, pictures: Iterable[str]) -> set[str]:
    """Those of these sha256 whose bytes are kept."""
    column = col(Picture.sha256)
    return set(session.exec(select(column).where(column.in_(list(pictures)))))


def pictures_named(session: Session, names: Sequence[str]) -> dict[str, set[str]]:
    """The sha256 that each name stands for: itself, if it is a known one; else the job's with that client reference; else
    those of all jobs with that source. Names that stand for nothing are left out.

    Sources have no index: ask for many names at once.
    """
    found = {sha256: {sha256} for sha256 in known_pictures(session, filter(SHA256.fullmatch, names))}
    for column in (col(AuditJob.client_ref), col(AuditJob.source)):
        left = [name for name in names if name not in found]
        if left:
            query = select(column, col(AuditJob.sha256)).where(column.in_(left), col(AuditJob.sha256).is_not(None)).distinct()
            for name, sha256 in session.exec(query):
                found.setdefault(str(name), set()).add(str(sha256))
    return found


def pictures_beginning(session: Session, prefix: str) -> list[str]:
    """Sha256 of known pictures that begin so, sorted; a few of them, if there are many."""
    found: set[str] = set()
    for column in (col(Picture.sha256), col(AuditJob.sha256), col(BoxAnnotation.sha256)):
        query = select(column).where(column >= prefix, column < prefix + _AFTER_HEX).distinct().order_by(column)
        found.update(sha256 for sha256 in session.exec(query.limit(_MOST_NAMED)) if sha256)
    return sorted(found)


def names_of(session: Session, pictures: Iterable[str]) -> dict[str, str]:
    """By sha256, the name that people would recognise the picture by: the source of the job that was made last."""
    query = select(AuditJob.sha256, AuditJob.source).where(col(AuditJob.sha256).in_(list(pictures)))
    return {sha256: source for sha256, source in session.exec(query.order_by(col(AuditJob.created_at))) if sha256}


def keep_pictures(session: Session, sizes_bytes: Mapping[str, int]) -> None:
    """Make the rows of pictures whose bytes lie in the blob store, by sha256; those that are there stay as they are."""
    if not sizes_bytes:
        return
    module: ModuleType = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    # In one order everywhere, or on PostgreSQL two writers could wait for each other.
    rows = [{"sha256": sha256, "bytes": size, "first_seen_at": now()} for sha256, size in sorted(sizes_bytes.items())]
    session.execute(module.insert(Picture).on_conflict_do_nothing(), rows)
