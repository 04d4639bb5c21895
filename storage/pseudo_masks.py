"""Soft masks that teachers made of people's boxes: their bytes in the blob store, their rows, and how they are forgotten.

A mask is named by the picture, the boxes and the teacher, and written once: of two who make it at once the first one's bytes
stay, and both go on with these. The bytes are put before the row and outlive it, so a process that dies in between leaves
bytes without a row: the next one who wants the mask takes them, and else `storage.orphans` finds them.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import ModuleType
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, SQLModel

from schemas.geometry import PixelBox
from schemas.learning_tables import PseudoMask
from schemas.tables import now
from storage.blobs import BlobStore
from storage.database import Database

FOLDER = "pseudo-masks"
LARGEST_BYTES = 20_000_000
"""Of one mask's file; as PNG, masks of 1024 pixels have some ten thousand bytes."""

_PAGE = 500
_MASKS = SQLModel.metadata.tables["pseudo_mask"]


@dataclass(frozen=True)
class MaskName:
    """What a mask depends on: the picture's bytes, the boxes, whoever makes it."""

    sha256: str
    boxes_sha256: str
    teacher_id: str

    @classmethod
    def of(cls, sha256: str, boxes: Iterable[PixelBox], teacher_id: str) -> "MaskName":
        """The name for these boxes in whatever order. The picture's size is not in it: its bytes fix that."""
        listed = sorted({box.as_tuple() for box in boxes})
        return cls(sha256, hashlib.sha256(json.dumps(listed, separators=(",", ":")).encode()).hexdigest(), teacher_id)

    @property
    def key(self) -> str:
        """In the blob store; half of the boxes' hash, so that it also fits where names are at most 255 bytes long."""
        return f"{FOLDER}/{self.sha256[:2]}/{self.sha256}.{self.boxes_sha256[:32]}.{self.teacher_id}.png"


@dataclass(frozen=True)
class StoredMask:
    """A mask that is there.

    Attributes:
        key: of its bytes.
        bytes_sha256: of its bytes.
        quality: 0..1, as its teacher measured it.
        picture_px: (width, height) of its picture; the mask itself may be smaller.
    """

    key: str
    bytes_sha256: str
    quality: float
    picture_px: tuple[int, int]


def find(session: Session, names: Iterable[MaskName]) -> dict[MaskName, StoredMask]:
    """Those of these masks that have a row. Whether their bytes are there is for the caller to see."""
    wanted = set(names)
    query = select(_MASKS).where(_MASKS.c.sha256.in_({name.sha256 for name in wanted}))
    rows = session.connection().execute(query).all()
    named = ((MaskName(row.sha256, row.boxes_sha256, row.teacher_id), row) for row in rows)
    return {name: _stored(row) for name, row in named if name in wanted}


def record(session: Session, name: MaskName, mask: StoredMask) -> None:
    """Write down a mask whose bytes are stored; one that was written down before is replaced."""
    facts = {"quality": mask.quality, "bytes_sha256": mask.bytes_sha256, "picture_px": list(mask.picture_px)}
    module: ModuleType = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    row = {"sha256": name.sha256, "boxes_sha256": name.boxes_sha256, "teacher_id": name.teacher_id}
    values = {"key": mask.key, "quality": facts, "last_used_at": now()}
    added = module.insert(PseudoMask).values(**row, **values, created_at=now())
    session.connection().execute(added.on_conflict_do_update(index_elements=list(row), set_=values))


def touch(session: Session, masks: Iterable[StoredMask]) -> None:
    """These masks were used just now."""
    pictures = {mask.key: _picture_of(mask.key) for mask in masks}
    used = (_MASKS.c.sha256.in_(set(pictures.values())), _MASKS.c.key.in_(list(pictures)))
    session.connection().execute(update(_MASKS).where(*used).values(last_used_at=now()))


def with_rows(session: Session, keys: Sequence[str]) -> set[str]:
    """Those of these keys that a row names."""
    query = select(_MASKS.c.key).where(_MASKS.c.sha256.in_({_picture_of(key) for key in keys}), _MASKS.c.key.in_(keys))
    return set(session.connection().execute(query).scalars())


def unused_since(before: datetime) -> ColumnElement[bool]:
    """The WHERE clause of masks last used then or earlier."""
    unused: ColumnElement[bool] = _MASKS.c.last_used_at <= before
    return unused


def count(session: Session, which: ColumnElement[bool]) -> int:
    """How many masks there are of this kind."""
    return int(session.connection().execute(select(func.count()).select_from(_MASKS).where(which)).scalar() or 0)


def forget(database: Database, blobs: BlobStore, which: ColumnElement[bool]) -> Iterator[int]:
    """Delete masks, rows first, yielding after each small transaction how many.

    A mask that is wanted again meanwhile is made again.

    Args:
        which: over the table `pseudo_mask`, such as `unused_since`.

    Raises:
        StoreUnavailable, BlobStoreUnavailable: what was yielded is gone; call again for the rest.
    """
    while True:
        with database.write() as session:
            connection = session.connection()
            page = select(_MASKS.c.sha256, _MASKS.c.boxes_sha256, _MASKS.c.teacher_id, _MASKS.c.key).where(which)
            gone = connection.execute(page.limit(_PAGE).with_for_update()).all()
            for row in gone:
                this = (_MASKS.c.sha256 == row.sha256, _MASKS.c.boxes_sha256 == row.boxes_sha256)
                connection.execute(delete(_MASKS).where(*this, _MASKS.c.teacher_id == row.teacher_id))
        if not gone:
            return
        with database.read() as session:
            again = with_rows(session, [row.key for row in gone])
        for row in gone:
            if row.key not in again:
                blobs.delete(row.key)
        yield len(gone)


def forget_leftovers(blobs: BlobStore, sha256: str) -> None:
    """Delete a picture's masks that have lost their rows, as a deletion that was cut short leaves them."""
    for blob in blobs.list(f"{FOLDER}/{sha256[:2]}"):
        if _picture_of(blob.key) == sha256:
            blobs.delete(blob.key)


def is_key(key: str) -> bool:
    """Whether a key in `FOLDER` is named like one of our masks."""
    sha256 = _picture_of(key)
    return key.startswith(f"{FOLDER}/{sha256[:2]}/") and len(sha256) == 64 and key.count("/") == 2 and key.endswith(".png")


def _picture_of(key: str) -> str:
    return key.rpartition("/")[2].partition(".")[0]


def _stored(row: Any) -> StoredMask:
    facts = row.quality
    return StoredMask(row.key, facts["bytes_sha256"], facts["quality"], (facts["picture_px"][0], facts["picture_px"][1]))
