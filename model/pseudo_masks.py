"""Boxes become pseudo-masks once, before training: on disk in the run's folder, one file a picture."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from model.config import TrainConfig
from model.manifest import Manifest, ManifestRow
from model.preprocess import decode
from model.teacher import BoxTeacher
from schemas.errors import InvalidInput, PictureError


def build_pseudo_masks(
    manifest: Manifest, teacher: BoxTeacher, folder: Path, config: TrainConfig, progress: Callable[[int, int], None]
) -> tuple[dict[str, Path], float]:
    """Run the teacher once over the manipulated training pictures, boxes loosened at random; finished files are kept.

    Args:
        manifest: rows with boxes.
        teacher: frozen.
        folder: where the masks are written as PNG, original pixels.
        config: seed and largest loosening.
        progress: called with (done, all).

    Returns:
        File by image path, and the mean quality of the masks made in this call (nan when all were there).

    Raises:
        InvalidInput: manipulated training rows without a box, or a picture that cannot be decoded.
    """
    rows = [row for row in manifest.split("training") if row.tampered]
    boxless = [row.image for row in rows if not row.boxes]
    if boxless:
        raise InvalidInput(f"{len(boxless)} manipulated pictures have no box, for instance {', '.join(boxless[:3])}")
    folder.mkdir(parents=True, exist_ok=True)
    files, qualities = {}, []
    for done, row in enumerate(rows, start=1):
        key = f"{teacher.name}|{config.seed}|{config.box_margin}|{row.image}|{row.boxes}"
        files[row.image] = (folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.png").resolve()
        if not files[row.image].exists():
            qualities.append(_write(manifest.root / row.image, row, teacher, files[row.image], config))
        progress(done, len(rows))
    return files, float(np.mean(qualities)) if qualities else float("nan")


def _write(path: Path, row: ManifestRow, teacher: BoxTeacher, target: Path, config: TrainConfig) -> float:
    """Returns the teacher's quality figure."""
    try:
        image = decode(path.read_bytes())
    except PictureError as error:
        raise InvalidInput(f"{row.image}: {error.message}") from error
    outside = [box for box in row.boxes if not box.fits(*image.size)]
    if outside:
        raise InvalidInput(f"{row.image}: box {list(outside[0].as_tuple())} lies outside {image.width}x{image.height} pixels")
    rng = np.random.default_rng([config.seed, int(hashlib.sha256(row.image.encode()).hexdigest()[:8], 16)])
    boxes = [box.loosened(rng.uniform(0, config.box_margin), image.width, image.height) for box in row.boxes]
    made = teacher.pseudo_mask(image, boxes)
    partial = target.with_suffix(".part")
    Image.fromarray(made.soft).save(partial, "PNG", compress_level=1)
    partial.replace(target)
    return made.quality
