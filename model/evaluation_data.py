"""What is evaluated: pictures with their labels and true masks, from a manifest or from folders.

Masks are held against their pictures by the headers alone, before the first inference: one that is missing or of the
wrong size ends the evaluation before it starts. A picture that turns out unreadable does not; the report lists it.
"""

import io
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.folders import files_below, masks_by_stem
from model.headers import DECODER_ERRORS, MASK_MODES, read_header
from model.manifest import Manifest, Split
from model.metrics import HALF_UINT8
from model.preprocess import FORMATS
from schemas.errors import DecodeFailed, InvalidInput, PictureError, UnreadableFile
from schemas.geometry import PixelBox

_PROBLEMS_SHOWN = 20


@dataclass(frozen=True)
class EvaluationItem:
    """One picture to evaluate.

    Attributes:
        mask: the true mask of a tampered picture; not looked at for an authentic one.
        boxes: that people drew on a tampered picture, original pixels; where there are any, the mask is held against them, too.
    """

    set_name: str
    image: Path
    mask: Path | None
    tampered: bool
    boxes: tuple[PixelBox, ...] = ()


def manifest_items(manifest: Manifest, split: Split = "all") -> list[EvaluationItem]:
    """The pictures of one side of a manifest's split, in its order.

    Raises:
        InvalidInput: nothing lies on that side.
    """
    items = [
        EvaluationItem(
            set_name=row.set_name,
            image=manifest.root / row.image,
            mask=manifest.root / row.mask if row.mask else None,
            tampered=row.tampered,
        )
        for row in manifest.split(split)
    ]
    if not items:
        raise InvalidInput(f"the manifest in {manifest.root} has no {split} pictures; use --split all")
    return items


def folder_items(images: Path | None, masks: Path | None, authentic: Path | None) -> list[EvaluationItem]:
    """Pictures of folders: tampered ones whose mask has the same relative path up to the ending, and authentic ones.

    All belong to one set, named after the folder of tampered pictures (of authentic ones where there are no others).

    Args:
        images: folder of tampered pictures, searched with its subfolders; hidden files are passed over.
        masks: folder of their true masks, needed with `images`.
        authentic: folder of authentic pictures.

    Raises:
        InvalidInput: a folder is missing or empty, a mask is missing, or two masks fit; all of them are listed.
    """
    if (images is None) != (masks is None):
        raise InvalidInput("--images and --masks belong together: tampered pictures, and true masks with the same file stems")
    named = images or authentic
    if named is None:
        raise InvalidInput("nothing to evaluate: give --images and --masks, --authentic, or --manifest")
    name = _set_name(named)
    items = [EvaluationItem(name, path, None, False) for path in files_below(authentic)] if authentic else []
    if images is not None and masks is not None:
        items = _matched(name, images, masks) + items
    return items


def sample(items: Sequence[EvaluationItem], limit: int | None) -> list[EvaluationItem]:
    """At most `limit` items, evenly spread over the list, so that every set keeps its share; all of them for None."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[index * len(items) // limit] for index in range(limit)]


def check_masks(items: Iterable[EvaluationItem]) -> None:
    """Hold every tampered picture against its mask, by their headers.

    Raises:
        InvalidInput: a mask is missing, unreadable, or of another size than its picture; all of them are listed.
    """
    problems = [problem for item in items if item.tampered and (problem := _mask_problem(item))]
    if problems:
        raise InvalidInput(_listed("true masks do not fit", problems, "each tampered picture needs a mask of its own size"))


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        UnreadableFile: it cannot be opened or read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read: {error.strerror}") from error


def true_mask(mask_data: bytes, width_px: int, height_px: int) -> NDArray[np.bool_]:
    """The true mask in a file's bytes, bool [height_px, width_px], manipulated above 127.5.

    Raises:
        DecodeFailed: not a readable 8-bit picture of this size, or it marks nothing.
    """
    try:
        with Image.open(io.BytesIO(mask_data), formats=FORMATS) as image:
            mode, size = image.mode, image.size
            truth_orig = np.asarray(image.convert("L")) > HALF_UINT8
    except DECODER_ERRORS as error:
        raise DecodeFailed(f"its true mask cannot be decoded: {error}") from error
    if size != (width_px, height_px):
        raise DecodeFailed(f"its true mask is {size[0]} x {size[1]} pixels, the picture {width_px} x {height_px}")
    if mode not in MASK_MODES:
        raise DecodeFailed(f"its true mask has Pillow's mode {mode}; save it as 8-bit grey")
    if not truth_orig.any():
        raise DecodeFailed("its true mask marks nothing (no value above 127.5), so F1 is not defined")
    return truth_orig


def _mask_problem(item: EvaluationItem) -> str | None:
    if item.mask is None:
        return f"{item.image}: tampered, but no mask is named"
    if not item.mask.is_file():
        return f"{item.image}: no mask at {item.mask}"
    mask_size, image_size = _size(item.mask, upright=False), _size(item.image, upright=True)
    if mask_size is None:
        return f"{item.mask}: not a readable picture"
    if image_size is not None and mask_size != image_size:
        return f"{item.mask}: {mask_size[0]} x {mask_size[1]}, but the picture is {image_size[0]} x {image_size[1]}"
    return None


def _size(path: Path, *, upright: bool) -> tuple[int, int] | None:
    """(width, height) in pixels from the header, for a picture with its EXIF orientation applied; None if it cannot be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about size and damage: the evaluation itself judges the picture
        try:
            header = read_header(path)
        except PictureError:
            return None
    return header.original_px if upright else header.stored_px


def _matched(name: str, images: Path, masks: Path) -> list[EvaluationItem]:
    by_stem = masks_by_stem(masks)
    items, problems = [], []
    for path in files_below(images):
        found = by_stem.get(path.relative_to(images).with_suffix(""), [])
        if len(found) == 1:
            items.append(EvaluationItem(name, path, found[0], True))
        else:
            problems.append(f"{path}: {'no mask' if not found else f'{len(found)} masks'} with its stem in {masks}")
    if problems:
        raise InvalidInput(_listed("pictures without exactly one mask", problems, "name each mask like its picture"))
    return items


def _set_name(folder: Path) -> str:
    """The folder's name, or its parent's where it is merely called `images` or the like."""
    resolved = folder.resolve()
    generic = resolved.name.lower() in {"images", "image", "tampered", "authentic"}
    return (resolved.parent.name if generic else "") or resolved.name


def _listed(title: str, problems: Sequence[str], remedy: str) -> str:
    more = [f"... and {len(problems) - _PROBLEMS_SHOWN} more"] if len(problems) > _PROBLEMS_SHOWN else []
    return "\n  ".join([f"{len(problems)} {title}; {remedy}:", *problems[:_PROBLEMS_SHOWN], *more])
