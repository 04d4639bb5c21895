"""Everything that would spoil a training run, told before it starts: all problems of a data set in one list.

Pictures are opened but not decoded; true masks are decoded, since nothing else shows what they mark. A picture that is damaged
behind its header is found by the run itself.
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from pathlib import Path

from PIL import Image

from model.headers import DECODER_ERRORS, MASK_MODES, Header, read_header
from model.manifest import LABELS, Manifest, ManifestRow, Side, boxes_outside, missing_files
from model.metrics import HALF_UINT8
from model.preprocess import FORMATS, PictureLimits
from model.problems import Kind, Problem, refuse
from model.threads import Progress, in_threads
from schemas.errors import PictureError, TooLarge

FULL_SHARE = 0.99
"""A mask that marks at least this share of its picture is taken for a mistake."""

_SIDES: tuple[Side, ...] = ("training", "validation")


def check_training_data(manifest: Manifest, progress: Progress | None = None) -> None:
    """Refuse data that cannot train and measure a student.

    Told are: lines that could not be understood; missing files; pictures that cannot be opened; stated sizes and boxes that do
    not fit the real size; manipulated pictures with neither box nor mask; masks that cannot be read, are of another size, or
    mark nothing or everything; pictures listed twice or under both labels; scenes pinned to both sides of the split;
    manipulated validation pictures without a mask to measure against; and a side that lacks a label.

    Args:
        manifest: read with `strict=False`, so that its lines' problems are told here too, and clustered, so that
            near-duplicates count as one scene.
        progress: called with (pictures checked, pictures in all).

    Raises:
        InvalidInput: with all problems, grouped and counted, and how to mend them.
    """
    with warnings.catch_warnings():  # around all threads, since filters are the process's
        warnings.simplefilter("ignore")  # Pillow's remarks on large pictures and damaged metadata
        by_row = in_threads(partial(_row_problems, root=manifest.root), manifest.rows, progress)
    problems = [*manifest.problems, *(problem for group in by_row for problem in group)]
    problems += [*_listed_twice(manifest.rows), *_both_labels(manifest), *_both_sides(manifest.rows)]
    problems += [*_without_true_mask(manifest), *_missing_labels(manifest)]
    refuse(problems, f"training data in {manifest.root}")


def _row_problems(row: ManifestRow, root: Path) -> list[Problem]:
    """What is wrong with one picture and the files that belong to it."""
    problems = missing_files(row, root)
    there = [name for name in row.files if os.path.isfile(root / name)]
    size_px = None
    if row.image in there:
        try:
            size_px = _header(root / row.image).original_px
        except PictureError as error:
            problems.append(Problem(Kind.PICTURE, row.where, error.message))
    if size_px:
        problems += [*_stated_wrongly(row, size_px), *boxes_outside(row, size_px)]
    if row.tampered and row.mask in there:
        problems += _mask_problems(row, root / row.mask, size_px)
    problems += [problem for name in row.objects if name in there for problem in _unusable(row, root / name)]
    if row.tampered and not row.boxes and not row.mask:
        problems.append(Problem(Kind.NO_MARK, row.where, "tampered, but nothing says where"))
    return problems


def _header(path: Path) -> Header:
    """The header of a picture or mask that training would not refuse for its size."""
    header, limits = read_header(path), PictureLimits()
    (width_px, height_px), size_bytes = header.stored_px, path.stat().st_size
    if size_bytes > limits.max_bytes or width_px * height_px > limits.max_pixels:
        most = f"at most {limits.max_bytes:,} bytes and {limits.max_pixels:,} pixels are read"
        raise TooLarge(f"{size_bytes:,} bytes, {width_px}x{height_px} pixels; {most}")
    return header


def _stated_wrongly(row: ManifestRow, size_px: tuple[int, int]) -> list[Problem]:
    if row.size_px is None or row.size_px == size_px:
        return []
    what = f"{row.size_px[0]}x{row.size_px[1]} is stated, the upright picture is {size_px[0]}x{size_px[1]}"
    return [Problem(Kind.STATED_SIZE, row.where, what)]


def _mask_problems(row: ManifestRow, mask: Path, size_px: tuple[int, int] | None) -> list[Problem]:
    """What is wrong with a true mask; `size_px` is its picture's, None where that is not known."""
    unusable = _unusable(row, mask)
    if unusable:
        return unusable
    try:
        with Image.open(mask, formats=FORMATS) as image:
            mask_px, counts = image.size, image.convert("L").histogram()
    except DECODER_ERRORS as error:
        return [Problem(Kind.MASK, row.where, f"{row.mask} cannot be decoded: {error}")]
    marked = sum(counts[HALF_UINT8 + 1 :]) / sum(counts)
    problems = []
    if size_px and mask_px != size_px:
        what = f"{row.mask} is {mask_px[0]}x{mask_px[1]}, the upright picture {size_px[0]}x{size_px[1]}"
        problems.append(Problem(Kind.MASK_SIZE, row.where, what))
    if marked == 0:
        problems.append(Problem(Kind.EMPTY_MASK, row.where, f"{row.mask} has no value above {HALF_UINT8}"))
    if marked >= FULL_SHARE:
        problems.append(Problem(Kind.FULL_MASK, row.where, f"{row.mask} marks {marked:.1%}"))
    return problems


def _unusable(row: ManifestRow, mask: Path) -> list[Problem]:
    """Whether a mask's header says that it cannot be read as one."""
    try:
        mode = _header(mask).mode
    except PictureError as error:
        return [Problem(Kind.MASK, row.where, f"{mask.name}: {error.message}")]
    return [] if mode in MASK_MODES else [Problem(Kind.MASK, row.where, f"{mask.name} is of Pillow's mode {mode}")]


def _listed_twice(rows: Iterable[ManifestRow]) -> list[Problem]:
    groups = _grouped(rows, lambda row: (os.path.normpath(row.image), row.tampered))
    return [Problem(Kind.TWICE, group[1].where, f"also {group[0].where}") for group in groups if len(group) > 1]


def _both_labels(manifest: Manifest) -> list[Problem]:
    """Same bytes under both labels; only files that agree in size with one of the other label are read."""
    root = manifest.root
    there = [row for row in manifest.rows if os.path.isfile(root / row.image)]
    alike = [group for group in _grouped(there, lambda row: os.path.getsize(root / row.image)) if _has_both(group)]
    suspects = [row for group in alike for row in group]
    digests = dict(zip(suspects, in_threads(lambda row: _digest(root / row.image), suspects), strict=True))
    problems = []
    for group in _grouped((row for row in suspects if digests[row]), lambda row: digests[row]):
        if _has_both(group):
            tampered, authentic = (next(row for row in group if row.tampered is label) for label in (True, False))
            problems.append(Problem(Kind.BOTH_LABELS, tampered.where, f"tampered here, authentic in {authentic.where}"))
    return problems


def _digest(path: Path) -> bytes | None:
    """sha256 of a file; None where it cannot be read, which is told as a problem of its own."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None


def _both_sides(rows: Iterable[ManifestRow]) -> list[Problem]:
    problems = []
    for group in _grouped((row for row in rows if row.pinned), lambda row: row.scene):
        if len({row.pinned for row in group}) > 1:
            training, validation = (next(row for row in group if row.pinned == side) for side in _SIDES)
            what = f"training has {training.where}, validation has {validation.where}"
            problems.append(Problem(Kind.BOTH_SIDES, f"scene {training.scene}", what))
    return problems


def _without_true_mask(manifest: Manifest) -> list[Problem]:
    rows = [row for row in manifest.split("validation") if row.tampered and row.boxes and not row.mask]
    return [Problem(Kind.NO_TRUE_MASK, row.where, "boxes only") for row in rows]


def _missing_labels(manifest: Manifest) -> list[Problem]:
    """A label that no picture has, or else none on one side of the split."""
    all_rows = {row.tampered for row in manifest.rows}
    if len(all_rows) < 2:
        lacking = [label for label, tampered in zip(LABELS, (True, False), strict=True) if tampered not in all_rows]
        return [Problem(Kind.CLASS, "all pictures", f"none is {label}") for label in lacking]
    return [
        Problem(Kind.CLASS, side, f"none of its pictures is {label}")
        for side in _SIDES
        for label, tampered in zip(LABELS, (True, False), strict=True)
        if tampered not in {row.tampered for row in manifest.split(side)}
    ]


def _has_both(group: Iterable[ManifestRow]) -> bool:
    return len({row.tampered for row in group}) == 2


def _grouped(rows: Iterable[ManifestRow], key: Callable[[ManifestRow], Hashable]) -> list[list[ManifestRow]]:
    """Rows with equal keys together, in the order of their first."""
    groups: dict[Hashable, list[ManifestRow]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.values())
