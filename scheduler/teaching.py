"""The teacher's job: boxes become soft pseudo-masks in the blob store, each once, and are found again by the next run.

Pictures are taken one at a time, so memory is bounded by the limits on one picture, and the device's by the teacher, which
sees at most `model.mask_files.LONG_SIDE_PX` a side and makes one embedding for all boxes of a picture. Every mask is stored
when it is made: whoever is stopped or killed goes on where he was.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
from sqlmodel import Session, col, func, select

from model.mask_files import facts_of, taught, teacher_id
from model.preprocess import PictureLimits, decode
from model.teacher import BoxTeacher, GrabCutTeacher, sam_teacher
from schemas.errors import BlobCorrupt, BlobMissing, InvalidInput, PictureError
from schemas.geometry import PixelBox
from schemas.learning_tables import RetrainRun
from schemas.states import RetrainState
from schemas.tables import now
from schemas.teacher_settings import TeacherSettings
from storage import pseudo_masks
from storage.annotation_queries import judged_pictures
from storage.blobs import BlobStore, picture_key
from storage.consensus import Outcome
from storage.database import Database
from storage.pseudo_masks import LARGEST_BYTES, MaskName, StoredMask

_PAGE = 200

ReadPicture = Callable[[str], bytes]
"""A picture's bytes by their sha256. BlobMissing, BlobCorrupt and PictureError from it are that picture's fault alone."""


@dataclass(frozen=True)
class Wanted:
    """A picture whose boxes are to become a mask.

    Attributes:
        boxes: all that people agree on, original pixels.
        width_px, height_px: of the upright picture as the annotators saw it, where that is known; it is then held against
            the picture.
    """

    sha256: str
    boxes: tuple[PixelBox, ...]
    width_px: int | None = None
    height_px: int | None = None


@dataclass(frozen=True)
class Dropped:
    """A picture that gets no mask: the error's code, and why in words."""

    sha256: str
    code: str
    why: str


@dataclass
class Taught:
    """What came of it.

    Attributes:
        masks: by the pictures' sha256, those that are there now.
        made: how many of them are new.
        dropped: pictures without one.
        stopped: whether there are others that were not looked at.
    """

    masks: dict[str, StoredMask] = field(default_factory=dict)
    made: int = 0
    dropped: list[Dropped] = field(default_factory=list)
    stopped: bool = False

    @property
    def found(self) -> int:
        """Masks that were there before."""
        return len(self.masks) - self.made

    @property
    def mean_quality(self) -> float | None:
        """Over all masks; None where there are none."""
        return float(np.mean([mask.quality for mask in self.masks.values()])) if self.masks else None


def teach(
    database: Database,
    blobs: BlobStore,
    teacher: BoxTeacher,
    wanted: Sequence[Wanted],
    progress: Callable[[int, int], None],
    stop: Callable[[], bool],
    *,
    read_picture: ReadPicture | None = None,
    limits: PictureLimits | None = None,
) -> Taught:
    """Make the masks that are not there yet, and say of all when they were used last.

    Args:
        wanted: each picture once.
        progress: called with (pictures looked at, pictures in all); what it raises ends the work, and what is made is kept.
        stop: asked before every picture.
        read_picture: by default from the blob store.
        limits: of bytes and pixels, of one picture.

    Raises:
        ValueError: a picture twice.
        StoreUnavailable, BlobStoreUnavailable, DiskFull, DeviceMemoryFull: what is made is kept; call again for the rest.
    """
    if len({each.sha256 for each in wanted}) != len(wanted):
        raise ValueError("a picture is wanted twice")
    limits = limits or PictureLimits()
    task = _Task(database, blobs, teacher, read_picture or stored_pictures(blobs, limits), limits)
    done = Taught()
    progress(0, len(wanted))
    for start in range(0, len(wanted), _PAGE):
        for number, _ in enumerate(task.page(wanted[start : start + _PAGE], done, stop), start + 1):
            progress(number, len(wanted))
        if done.stopped:
            break
    return done


def open_teacher(settings: TeacherSettings) -> BoxTeacher:
    """The teacher that the settings name.

    Raises:
        InvalidInput: the checkpoint is missing or not the published one.
        EnvironmentMissing: a package or the device is not there.
    """
    return sam_teacher(settings.model, settings.checkpoint, settings.device) if settings.uses_sam else GrabCutTeacher()


def forget_unused(database: Database, blobs: BlobStore, keep_days: int) -> int:
    """Delete the masks that nobody used for so long; returns how many. One that is wanted again later is made again.

    Raises:
        StoreUnavailable, BlobStoreUnavailable: call again for the rest.
    """
    return sum(pseudo_masks.forget(database, blobs, pseudo_masks.unused_since(now() - timedelta(days=keep_days))))


def annotated(session: Session, after: int = 0) -> list[Wanted]:
    """Pictures where people agree on boxes and something newer stands than the annotation with this number, by sha256."""
    judged = (each for each in judged_pictures(session) if each.consensus.outcome is Outcome.BOXES and each.newest_id > after)
    return [Wanted(each.sha256, each.consensus.boxes, *(each.size_px or (None, None))) for each in judged]


def last_read(session: Session) -> int:
    """The newest annotation that a run which came to a decision has read; 0 before the first."""
    decided = col(RetrainRun.state).in_([RetrainState.PROMOTED, RetrainState.PROPOSED, RetrainState.REJECTED])
    return session.exec(select(func.max(RetrainRun.last_annotation_id)).where(decided)).one() or 0


def mask_bytes(blobs: BlobStore, mask: StoredMask) -> bytes:
    """A mask's file, held against its hash; `model.mask_files.full_size` makes of it what a student is measured against.

    Raises:
        BlobMissing: it was forgotten since.
        BlobCorrupt: it is damaged, and is deleted so that the next run makes it again.
    """
    data = blobs.get(mask.key, LARGEST_BYTES)
    if hashlib.sha256(data).hexdigest() != mask.bytes_sha256:
        blobs.delete(mask.key)
        raise BlobCorrupt(f"the pseudo-mask {mask.key} is damaged; the next run makes it again")
    return data


def stored_pictures(blobs: BlobStore, limits: PictureLimits) -> ReadPicture:
    """Reads pictures from the blob store, held against their sha256."""

    def read(sha256: str) -> bytes:
        data = blobs.get(picture_key(sha256), limits.max_bytes)
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise BlobCorrupt(f"the bytes stored as {sha256[:12]} have the sha256 {found[:12]}; store the picture again")
        return data

    return read


@dataclass(frozen=True)
class _Task:
    database: Database
    blobs: BlobStore
    teacher: BoxTeacher
    read_picture: ReadPicture
    limits: PictureLimits

    def page(self, wanted: Sequence[Wanted], done: Taught, stop: Callable[[], bool]) -> Iterator[None]:
        """Yields after every picture that was looked at."""
        names = {each: MaskName.of(each.sha256, each.boxes, teacher_id(self.teacher)) for each in wanted}
        with self.database.write() as session:
            known = pseudo_masks.find(session, names.values())
            pseudo_masks.touch(session, known.values())
        for each, name in names.items():
            if stop():
                done.stopped = True
                return
            try:
                mask = self._there(name, known.get(name))
                done.masks[each.sha256] = mask or self._made(each, name)
                done.made += mask is None
            except (PictureError, BlobMissing, BlobCorrupt, InvalidInput) as error:
                done.dropped.append(Dropped(each.sha256, error.code, error.message))
            yield

    def _there(self, name: MaskName, known: StoredMask | None) -> StoredMask | None:
        """The mask, if its bytes are there: also when a process died before it wrote the row."""
        if not self.blobs.exists(name.key):
            return None
        if known is not None:
            return known
        try:
            return self._recorded(name, self.blobs.get(name.key, LARGEST_BYTES))
        except (BlobCorrupt, BlobMissing):
            self.blobs.delete(name.key)
            return None

    def _made(self, wanted: Wanted, name: MaskName) -> StoredMask:
        """Ask the teacher and store what he says; if somebody else was first meanwhile, his bytes count."""
        image = decode(self.read_picture(wanted.sha256), self.limits)
        stated = (wanted.width_px or image.width, wanted.height_px or image.height)
        if stated != image.size:
            seen = f"its boxes were drawn on {stated[0]} x {stated[1]} pixels"
            raise InvalidInput(f"{seen}, the picture has {image.width} x {image.height}")
        data = taught(self.teacher, image, wanted.boxes)
        return self._recorded(name, data if self.blobs.put_new(name.key, data) else self.blobs.get(name.key, LARGEST_BYTES))

    def _recorded(self, name: MaskName, data: bytes) -> StoredMask:
        """Write down a mask whose bytes are stored.

        Raises:
            BlobCorrupt: they are no mask.
        """
        facts = facts_of(data)
        if facts is None:
            raise BlobCorrupt(f"the pseudo-mask {name.key} is damaged")
        mask = StoredMask(name.key, hashlib.sha256(data).hexdigest(), facts.quality, facts.picture_px)
        with self.database.write() as session:
            pseudo_masks.record(session, name, mask)
        return mask
