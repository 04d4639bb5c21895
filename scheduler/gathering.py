"""What a run chooses from: people's words in the store and the base set, each picture with its place in the hold-out's ledger."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from model.preprocess import PictureLimits
from scheduler.base_set import BaseSet
from scheduler.frozen_manifest import freeze, freeze_ledger, thaw_ledger
from scheduler.holdout import Arrival, Ledger, Pin, Placed, placed
from scheduler.label_sources import arrival, base_arrival, from_annotations, from_base
from scheduler.labels import History, LabelledPicture
from scheduler.selection import Selection, select
from scheduler.teaching import ReadPicture, stored_pictures
from schemas.errors import BlobCorrupt, BlobMissing, PictureError, UnreadableFile
from schemas.learning_settings import PromotionSettings, SelectionSettings
from storage import canonical, runs
from storage.annotation_queries import JudgedPicture, judged_pictures
from storage.blobs import BlobStore, picture_key
from storage.database import Database

log = logging.getLogger(__name__)

LARGEST_MANIFEST_BYTES: Final = 200_000_000
_GONE: Final = "its bytes are gone"
_NOWHERE: Final = "0" * 16

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Frozen:
    """A manifest ready to be stored, with the ledger it was made with; both as bytes, named by their sha256."""

    manifest: bytes
    ledger: bytes

    @property
    def sha256(self) -> str:
        return canonical.digest(self.manifest)


def manifest_key(sha256: str) -> str:
    """Where the blob store keeps a manifest."""
    return f"retrain/manifests/{sha256}"


def ledger_key(sha256: str) -> str:
    """Where the blob store keeps a ledger."""
    return f"retrain/ledgers/{sha256}"


@dataclass(frozen=True)
class Gatherer:
    """Gathers for one run. The same run gathers the same, also after it was killed: nothing younger than `up_to` is read.

    Attributes:
        base: pictures of the base set.
        up_to: number of the last annotation that is read.
        seed: of the run.
        limits: of a picture.
    """

    database: Database
    blobs: BlobStore
    base: BaseSet
    up_to: int
    seed: int
    limits: PictureLimits

    def ledger(self) -> Ledger:
        """Who is held out, as the last manifest had it; an empty one before the first.

        Raises:
            BlobMissing, BlobCorrupt: it is gone or damaged. Without it nobody knows what must never train.
        """
        with self.database.read() as session:
            last = runs.last_manifest(session)
            key, sha256 = (last.manifest_key, last.manifest_sha256) if last else (None, None)
        if key is None or sha256 is None:
            return Ledger()
        head = self.blobs.get(key, LARGEST_MANIFEST_BYTES)
        named = str(canonical.decoded(head, sha256, "the last run's manifest")[0]["ledger_sha256"])
        return thaw_ledger(self.blobs.get(ledger_key(named), LARGEST_MANIFEST_BYTES), named)

    def select(
        self, live_version: str, selection: SelectionSettings, promotion: PromotionSettings, progress: Progress
    ) -> tuple[Selection, Ledger]:
        """Choose what the run trains, tunes and is measured on.

        Args:
            live_version: the student it begins from.
            progress: called with (pictures looked at, pictures in all); what it raises ends it.

        Returns:
            The choice, and the ledger with its pictures placed.
        """
        with self.database.read() as session:
            judged = list(judged_pictures(session, self.up_to))
            read = runs.read_so_far(session, live_version)
        before = self.ledger()
        arrivals, problems = self._arrivals(before, judged, progress)
        after = placed(before, arrivals, selection.holdout_share, selection.holdout_salt)
        for gone in after.removed:
            log.warning("%s no longer trains: a newer picture links it to held-out ones", gone.sha256[:12])
        pictures = self._labelled(judged, after, problems)
        return select(pictures, History(read.finished, read.learned), selection, self.seed, promotion), after

    def freeze(self, chosen: Selection, ledger: Ledger, live_version: str) -> Frozen:
        """The manifest of a choice; the ledger in it knows what trains from now on."""
        trained = [entry.sha256 for entry in chosen.entries if entry.role != "holdout"]
        ledger_bytes = freeze_ledger(ledger.marked_used(trained))
        data = freeze(
            chosen.entries,
            seed=self.seed,
            last_annotation_id=self.up_to,
            parent_version=live_version,
            ledger_sha256=canonical.digest(ledger_bytes),
        )
        return Frozen(data, ledger_bytes)

    def keep(self, frozen: Frozen) -> str:
        """Store both, the ledger first; returns the manifest's key."""
        self.blobs.put(ledger_key(canonical.digest(frozen.ledger)), frozen.ledger)
        self.blobs.put(manifest_key(frozen.sha256), frozen.manifest)
        return manifest_key(frozen.sha256)

    def _arrivals(self, ledger: Ledger, judged: list[JudgedPicture], progress: Progress) -> tuple[list[Arrival], dict[str, str]]:
        """Newcomers to the ledger, and by sha256 why a picture cannot be used."""
        known, arrivals, problems = ledger.by_sha256(), [], dict[str, str]()
        count, done = len(judged) + len(self.base), 0
        for each in judged:
            progress(done := done + 1, count)
            problem, newcomer = self._annotated(each, each.sha256 in known)
            if problem:
                problems[each.sha256] = problem
            if newcomer is not None:
                arrivals.append(newcomer)
        for sha256, picture in self.base.items():
            progress(done := done + 1, count)
            if sha256 not in known:
                pin: Pin = "held_out" if picture.held_out else "trains"
                arrivals.append(base_arrival(picture.row, sha256, picture.path.read_bytes(), pin))
        return arrivals, problems

    def _annotated(self, judged: JudgedPicture, known: bool) -> tuple[str | None, Arrival | None]:
        if known:
            there = judged.sha256 in self.base or self.blobs.exists(picture_key(judged.sha256))
            return (None if there else _GONE), None
        try:
            return None, arrival(judged, read_picture(self.blobs, self.base, self.limits)(judged.sha256))
        except BlobMissing:
            return _GONE, None
        except (BlobCorrupt, PictureError) as error:
            return f"its bytes cannot be used ({error.code})", None

    def _labelled(self, judged: list[JudgedPicture], ledger: Ledger, problems: dict[str, str]) -> Iterator[LabelledPicture]:
        places = ledger.by_sha256()
        for each in judged:
            # One that could not be read has no place yet, and takes none before it can.
            place = places.get(each.sha256) or Placed(each.sha256, each.source_id, b"", _NOWHERE, "trains")
            yield from_annotations(each, place, problems.get(each.sha256))
        for sha256, picture in self.base.items():
            yield from_base(picture.row, sha256, places[sha256])


def read_picture(blobs: BlobStore, base: BaseSet, limits: PictureLimits) -> ReadPicture:
    """Reads pictures by their sha256: those of the base set from their files, others from the blob store."""
    from_store = stored_pictures(blobs, limits)

    def read(sha256: str) -> bytes:
        if sha256 not in base:
            return from_store(sha256)
        path = base[sha256].path
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UnreadableFile(f"{path} of the base set cannot be read: {error.strerror or error}") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise BlobCorrupt(f"{path} of the base set has changed since the run began")
        return data

    return read
