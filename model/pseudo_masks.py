"""Boxes become pseudo-masks once, before training: on disk in the run's folder, one file a picture, its quality inside."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from model.config import TrainConfig
from model.manifest import Manifest, ManifestRow
from model.mask_files import QUALITY_KEY, packed
from model.preprocess import decode
from model.teacher import AskedTeacher, GivenMasks, GrabCutTeacher, Teacher, TrueMaskTeacher
from schemas.errors import InvalidInput, PictureError

THREADS = 4
PROBLEMS_SHOWN = 20


@dataclass(frozen=True)
class PseudoMasks:
    """What the manipulated training pictures are taught with.

    Attributes:
        files: mask file by image path as the manifest has it: PNG, 255 x belief, original pixels or these reduced.
        weights: 0..1 for the same pictures: how much each may teach, by its quality and by its row's weight.
        mean_quality: over all pictures, the dropped ones too; nan where there are none.
        dropped: image paths whose masks were too poor to train on, in the manifest's order.
    """

    files: dict[str, Path]
    weights: dict[str, float]
    mean_quality: float
    dropped: tuple[str, ...]


def build_pseudo_masks(
    manifest: Manifest, teacher: Teacher, folder: Path, config: TrainConfig, progress: Callable[[int, int], None]
) -> PseudoMasks:
    """Run the teacher once over the manipulated training pictures, boxes loosened at random; finished files are kept.

    Every picture that has no file yet is decoded and held against its boxes before the first mask is made.

    Args:
        manifest: rows with boxes, or with true masks for a `TrueMaskTeacher`.
        teacher: frozen. `GivenMasks` are taken where they lie.
        folder: where the masks are written.
        config: seed, largest loosening, least and trusted quality.
        progress: called with (done, all), from this thread.

    Raises:
        InvalidInput: training pictures without a box (or true mask), ones that cannot be decoded, boxes outside their
            pictures, given masks that are missing: all in one message; or no mask reaches the least quality.
    """
    rows = [row for row in manifest.split("training") if row.tampered]
    if isinstance(teacher, GivenMasks):
        return _given(rows, teacher, config, progress)
    folder.mkdir(parents=True, exist_ok=True)
    files = {row.image: _file(folder, row, teacher, config) for row in rows}
    qualities = {image: kept for image, file in files.items() if (kept := _kept_quality(file)) is not None}
    missing = [row for row in rows if row.image not in qualities]
    _check(manifest.root, missing, teacher)
    progress(len(qualities), len(files))
    make = partial(_make, manifest.root, teacher, files, config)
    for row, quality in zip(missing, _each(make, missing, teacher), strict=True):
        qualities[row.image] = quality
        progress(len(qualities), len(files))
    return _sorted_out(rows, files, qualities, config)


def _given(
    rows: list[ManifestRow], teacher: GivenMasks, config: TrainConfig, progress: Callable[[int, int], None]
) -> PseudoMasks:
    files = {row.image: teacher.file_of(row) for row in rows}
    qualities = {image: kept for image, file in files.items() if (kept := _kept_quality(file)) is not None}
    _refuse([f"{image}: no readable mask at {file}" for image, file in files.items() if image not in qualities])
    progress(len(files), len(files))
    return _sorted_out(rows, files, qualities, config)


def _each(make: Callable[[ManifestRow], float], rows: Iterable[ManifestRow], teacher: AskedTeacher) -> Iterator[float]:
    """Qualities in the order of the rows; GrabCut works in threads, since it lets go of the interpreter."""
    if not isinstance(teacher, GrabCutTeacher):
        yield from map(make, rows)
        return
    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(make, rows)  # an exception, or an end before the last, cancels what has not begun


def _sorted_out(
    rows: Iterable[ManifestRow], files: dict[str, Path], qualities: dict[str, float], config: TrainConfig
) -> PseudoMasks:
    """Drop poor masks, weigh the others."""
    dropped = tuple(image for image in files if qualities[image] < config.least_quality)
    if files and len(dropped) == len(files):
        raise InvalidInput(
            f"none of {len(files)} pseudo-masks reaches least_quality {config.least_quality:g} "
            f"(the best is {max(qualities.values()):.2f}): lower it, or draw tighter boxes"
        )
    kept = {image: file for image, file in files.items() if image not in set(dropped)}
    weights = {row.image: row.weight * weight(qualities[row.image], config.trusted_quality) for row in rows if row.image in kept}
    mean_quality = float(np.mean(list(qualities.values()))) if qualities else float("nan")
    return PseudoMasks(kept, weights, mean_quality, dropped)


def weight(quality: float, trusted_quality: float) -> float:
    """1 from `trusted_quality` on, falling linearly to 0 at quality 0; 1 throughout where `trusted_quality` is 0."""
    return min(1.0, quality / trusted_quality) if trusted_quality else 1.0


def _file(folder: Path, row: ManifestRow, teacher: AskedTeacher, config: TrainConfig) -> Path:
    """Where a mask lies: named by all that it depends on."""
    source = row.mask if isinstance(teacher, TrueMaskTeacher) else f"{config.seed}|{config.box_margin}|{row.boxes}"
    key = f"{teacher.name}|{row.image}|{source}"
    return (folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.png").resolve()


def _kept_quality(file: Path) -> float | None:
    """The quality of a mask made earlier; None where there is no such mask, or it is damaged."""
    try:
        with Image.open(file) as image:
            return float(image.info[QUALITY_KEY])
    except (OSError, KeyError, ValueError):
        return None


def _check(root: Path, rows: Iterable[ManifestRow], teacher: AskedTeacher) -> None:
    """Raise InvalidInput with everything that keeps rows from getting a mask."""
    _refuse([f"{row.image}: {problem}" for row in rows if (problem := _problem(root, row, teacher))])


def _refuse(problems: list[str]) -> None:
    if problems:
        shown = "; ".join(problems[:PROBLEMS_SHOWN])
        more = f"; … and {len(problems) - PROBLEMS_SHOWN} more" if len(problems) > PROBLEMS_SHOWN else ""
        raise InvalidInput(f"{len(problems)} manipulated training pictures cannot be taught from: {shown}{more}")


def _problem(root: Path, row: ManifestRow, teacher: AskedTeacher) -> str | None:
    """What is wrong with one row, or None."""
    try:
        image = decode((root / row.image).read_bytes())
        if isinstance(teacher, TrueMaskTeacher):
            teacher.mask_of(root, row, image)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except (PictureError, InvalidInput) as error:
        return error.message
    if isinstance(teacher, TrueMaskTeacher):
        return None
    outside = [str(list(box.as_tuple())) for box in row.boxes if not box.fits(*image.size)]
    if outside:
        return f"box {', '.join(outside)} lies outside {image.width}x{image.height} pixels"
    return None if row.boxes else "no box; draw one, or leave the picture out of the manifest"


def _make(root: Path, teacher: AskedTeacher, files: dict[str, Path], config: TrainConfig, row: ManifestRow) -> float:
    """Write one picture's mask; returns its quality."""
    image = decode((root / row.image).read_bytes())
    if isinstance(teacher, TrueMaskTeacher):
        made = teacher.mask_of(root, row, image)
    else:
        rng = np.random.default_rng([config.seed, int(hashlib.sha256(row.image.encode()).hexdigest()[:8], 16)])
        boxes = [box.loosened(rng.uniform(0, config.box_margin), image.width, image.height) for box in row.boxes]
        made = teacher.pseudo_mask(image, boxes)
    file = files[row.image]
    partial_file = file.with_suffix(".part")  # so that it is there whole or not at all
    partial_file.write_bytes(packed(made, image.size))
    partial_file.replace(file)
    return made.quality
