"""From what a file says of pictures to stored annotations: which picture is meant, what is new, what cannot be taken."""

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from cli.annotation_files import FileWord, Refusal
from model.headers import read_header
from schemas.errors import InvalidInput, PictureError, UnreadableFile
from schemas.states import AnnotationOrigin
from storage import annotations, pictures
from storage.annotation_checks import NewAnnotation, SizePx, checked
from storage.blobs import BlobStore, picture_key
from storage.database import Database
from workers.sources import FileContent

# Names that no reference has are looked for among the sources of all jobs, which have no index: few large batches.
_BATCH = 500


@dataclass(frozen=True)
class ImportPlan:
    """How a file is imported.

    Attributes:
        annotator: whose word it is.
        folder: of the pictures; those that are not kept yet are stored. Without one, names are those of audited pictures or
            of files on this machine whose content was audited.
        max_bytes: larger picture files are refused.
        again: store also what was changed or taken back since it was last imported.
        dry_run: store nothing.
    """

    annotator: str
    folder: Path | None
    max_bytes: int
    again: bool = False
    dry_run: bool = False


@dataclass
class Step:
    """What happened to some of the pictures.

    Attributes:
        taken: pictures that were looked at.
        added: annotations that are new.
        known: annotations that were there before.
        stored: pictures whose bytes were put into the blob store.
        unkept: pictures that have an annotation now, but whose bytes are not kept, so that they cannot train.
    """

    taken: int = 0
    added: int = 0
    known: int = 0
    stored: int = 0
    unkept: int = 0
    refusals: list[Refusal] = field(default_factory=list)

    def add(self, other: "Step") -> None:
        self.taken += other.taken
        self.added += other.added
        self.known += other.known
        self.stored += other.stored
        self.unkept += other.unkept
        self.refusals += other.refusals


@dataclass(frozen=True)
class _Located:
    """A word whose picture was found; `file` if it lies in the folder of pictures."""

    word: FileWord
    sha256: str
    size_px: SizePx | None = None
    size_bytes: int = 0
    file: Path | None = None


def import_words(words: Sequence[FileWord], plan: ImportPlan, database: Database, blobs: BlobStore) -> Iterator[Step]:
    """Store what a file says, a batch and a transaction at a time. Doing it again adds nothing.

    A picture that is not found, or whose boxes do not fit into it, is refused by its place in the file; the others go on.

    Raises:
        StoreUnavailable, BlobStoreUnavailable, DiskFull: what was yielded is in; run it again for the rest.
    """
    seen: dict[str, FileWord] = {}
    remaining = iter(words)
    while batch := list(islice(remaining, _BATCH)):
        step = Step(taken=len(batch))
        located = _once_each(_located(batch, plan, database, step), seen, step)
        _store(located, plan, database, blobs, step)
        yield step


def _located(batch: Sequence[FileWord], plan: ImportPlan, database: Database, step: Step) -> list[_Located]:
    found, left = [], []
    for word in batch:
        path = _file_of(word, plan.folder)
        if plan.folder is not None and path is not None:
            found += _read(word, path, plan, step)
        else:
            left.append(word)
    with database.read() as session:
        named = pictures.pictures_named(session, [word.sha256 or word.name for word in left])
    for word in left:
        meant = named.get(word.sha256 or word.name, set())
        if len(meant) == 1:
            found.append(_Located(word, next(iter(meant))))
        elif meant:
            step.refusals.append(Refusal(word.where, f"{word.name} is the name of {len(meant)} pictures; give their sha256"))
        else:
            found += _by_content(word, plan, database, step)
    return found


def _file_of(word: FileWord, folder: Path | None) -> Path | None:
    """The file that a word names, which must lie inside the folder of pictures if there is one."""
    try:
        path = Path(word.name) if folder is None else folder / word.name
        inside = folder is None or path.resolve().is_relative_to(folder.resolve())
        return path if inside and path.is_file() else None
    except (OSError, ValueError):  # a name that no file system takes
        return None


def _by_content(word: FileWord, plan: ImportPlan, database: Database, step: Step) -> list[_Located]:
    """A file on this machine whose content is a known picture."""
    path = _file_of(word, None) if plan.folder is None and not word.sha256 else None
    if path is None:
        where = f" or a file in {plan.folder}" if plan.folder is not None else " or a file"
        step.refusals.append(Refusal(word.where, f"{word.sha256 or word.name} is neither an audited picture{where}"))
        return []
    located = _read(word, path, plan, step)
    with database.read() as session:
        known = pictures.known_pictures(session, [each.sha256 for each in located])
    if located and not known:
        why = f"{word.name} was never audited; --images FOLDER stores it, so that it can train"
        step.refusals.append(Refusal(word.where, why))
    return located if known else []


def _read(word: FileWord, path: Path, plan: ImportPlan, step: Step) -> list[_Located]:
    try:
        data = FileContent(path).read(plan.max_bytes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on large pictures and damaged metadata
            size_px = read_header(path).original_px
    except PictureError as error:
        step.refusals.append(Refusal(word.where, f"{word.name}: {error.message}"))
        return []
    sha256 = hashlib.sha256(data).hexdigest()
    if word.sha256 and word.sha256 != sha256:
        step.refusals.append(Refusal(word.where, f"{word.name} has another sha256 than the file says: {sha256}"))
        return []
    return [_Located(word, sha256, size_px, len(data), path if plan.folder is not None else None)]


def _once_each(located: Sequence[_Located], seen: dict[str, FileWord], step: Step) -> list[_Located]:
    """Without those that say something else of a picture that another name in the file meant: which of them holds?"""
    kept = []
    for each in located:
        first = seen.setdefault(each.sha256, each.word)
        if (first.kind, set(first.boxes)) == (each.word.kind, set(each.word.boxes)):
            kept.append(each)
        else:
            why = f"{each.word.name} is the same picture as {first.name} at {first.where}, with other boxes; keep one of them"
            step.refusals.append(Refusal(each.word.where, why))
    return kept


def _store(located: Sequence[_Located], plan: ImportPlan, database: Database, blobs: BlobStore, step: Step) -> None:
    with database.read() as session:
        sizes = annotations.known_sizes(session, [each.sha256 for each in located])
        kept = pictures.kept_pictures(session, [each.sha256 for each in located])
    ready = []
    for each in located:
        try:
            ready.append((each, checked(_new(each, plan), sizes.get(each.sha256) or each.size_px)))
        except InvalidInput as error:
            step.refusals.append(Refusal(each.word.where, f"{each.word.name}: {error.message}"))
    to_keep = {each.sha256: each for each, _ in ready if each.file is not None and each.sha256 not in kept}
    if not plan.dry_run:
        # Bytes first: a row promises that they are there.
        _put(to_keep.values(), plan, blobs)
    with database.write() as session:
        added = annotations.add_annotations(session, [new for _, new in ready], plan.again)
        pictures.keep_pictures(session, {sha256: each.size_bytes for sha256, each in to_keep.items()})
        step.added += sum(each.is_new for each in added)
        step.known += sum(not each.is_new for each in added)
        if plan.dry_run:
            session.rollback()
    step.stored += len(to_keep)
    step.unkept += len({each.sha256 for each, _ in ready} - kept - set(to_keep))


def _put(located: Iterable[_Located], plan: ImportPlan, blobs: BlobStore) -> None:
    """Store the bytes of pictures, one in memory at a time."""
    for each in located:
        if each.file is not None:
            data = FileContent(each.file).read(plan.max_bytes)
            if hashlib.sha256(data).hexdigest() != each.sha256:
                raise UnreadableFile(f"{each.file} changed while it was being imported; run the same command again")
            blobs.put(picture_key(each.sha256), data)


def _new(located: _Located, plan: ImportPlan) -> NewAnnotation:
    word = located.word
    width_px, height_px = word.size_px or (None, None)
    return NewAnnotation(
        sha256=located.sha256,
        annotator=plan.annotator,
        kind=word.kind,
        origin=AnnotationOrigin.IMPORT,
        boxes=tuple(word.boxes),
        width_px=width_px,
        height_px=height_px,
        source_id=word.source_id or None,
        note=word.note,
    )
