"""Teachers: a coarse box becomes a soft pseudo-mask, the student's supervision. No torch unless SAM is asked for.

`BoxTeacher` is what they have in common; GrabCut is here, SAM in `model.sam`, and `teacher_for` picks the one a config names.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.config import TrainConfig
from model.evaluation_data import true_mask
from model.manifest import ManifestRow
from schemas.errors import EnvironmentMissing, InvalidInput
from schemas.geometry import PixelBox

SHRINK = 0.08  # of a box's own extent, off every side

Rect = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels, ends exclusive."""


@dataclass(frozen=True)
class PseudoMask:
    """What a teacher says about one picture.

    Attributes:
        soft: [H, W] uint8, 255 x belief that a pixel was manipulated, original pixels.
        quality: 0..1, how far the mask is to be trusted, as its teacher measures it; 0 where nothing was found and the
            boxes themselves were taken.
    """

    soft: NDArray[np.uint8]
    quality: float


class BoxTeacher(Protocol):
    """Frozen: it is never trained here."""

    name: str

    def pseudo_mask(self, image: Image.Image, boxes: Sequence[PixelBox]) -> PseudoMask:
        """A soft mask of what the boxes point at.

        Args:
            image: RGB, orientation applied.
            boxes: at least one, inside the picture, original pixels.

        Raises:
            InvalidInput: no box, or a box outside the picture.
        """
        ...


class GrabCutTeacher:
    """OpenCV's GrabCut (Rother et al. 2004) inside the union of the boxes, at reduced size.

    Where nothing, or next to nothing, of a box is cut out as an object, the whole box is taken at quality 0.

    A box's quality is the geometric mean of two IoUs: agreement, of the object's bounding box with the box given, and
    stability, of the object with the one cut from the box drawn `SHRINK` tighter on every side, both seen inside that
    tighter box. A picture's quality is the mean over its boxes.

    Args:
        long_side_px: the picture is reduced to this before cutting.
        iterations: of GrabCut.
        least_fill: an object filling less of its box than this counts as not found.
        outside_label: belief, 0..1, inside a box where no object was found: the teacher misses parts of manipulations.
    """

    def __init__(self, long_side_px: int = 320, iterations: int = 4, least_fill: float = 0.1, outside_label: float = 0.1) -> None:
        self.name = f"grabcut-{long_side_px}-{iterations}-{least_fill:g}-{outside_label:g}"
        self._long_side_px = long_side_px
        self._iterations = iterations
        self._least_fill = least_fill
        self._outside_label = outside_label

    def pseudo_mask(self, image: Image.Image, boxes: Sequence[PixelBox]) -> PseudoMask:
        """See `BoxTeacher`. Safe in threads: OpenCV's random generator belongs to the thread."""
        check_boxes(image, boxes)
        scale = min(1.0, self._long_side_px / max(image.size))
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        small = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BOX), dtype=np.uint8)
        rects = [_scaled(box, scale, size) for box in boxes]
        inside = covered(rects, small.shape[:2])
        found = self._cut(small, inside)
        agreements = [self._agreement(found[_slices(rect)]) for rect in rects]
        stabilities = self._stabilities(small, found, rects) if any(agreements) else agreements
        for rect, agreement in zip(rects, agreements, strict=True):
            if not agreement:
                found[_slices(rect)] = True
        belief = np.where(found, 1.0, np.where(inside, self._outside_label, 0.0)).astype(np.float32)
        softened = cv2.GaussianBlur(belief, (0, 0), 1.0)
        soft = cv2.resize(softened, image.size, interpolation=cv2.INTER_LINEAR)
        quality = float(np.mean(np.sqrt(np.multiply(agreements, stabilities))))
        return PseudoMask(np.rint(255 * soft).astype(np.uint8), quality)

    def _cut(self, small: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Foreground within the union of boxes; nothing where the boxes leave no background to learn from."""
        if inside.all():
            return np.zeros_like(inside)
        labels = np.where(inside, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
        bgr = np.ascontiguousarray(small[..., ::-1])
        background, foreground, no_rect = np.zeros((1, 65)), np.zeros((1, 65)), (0, 0, 1, 1)
        cv2.setRNGSeed(0)  # its k-means draws from the thread's generator
        try:
            cv2.grabCut(bgr, labels, no_rect, background, foreground, self._iterations, cv2.GC_INIT_WITH_MASK)
        except cv2.error:  # too few pixels for its colour models
            return np.zeros_like(inside)
        return np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)) & inside

    def _agreement(self, part: NDArray[np.bool_]) -> float:
        """IoU of the object's bounding box with its box, of which `part` is the content; 0 where too little was found."""
        if part.mean() < self._least_fill:
            return 0.0
        rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
        extent = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        return float(extent / part.size)

    def _stabilities(self, small: NDArray[np.uint8], found: NDArray[np.bool_], rects: Sequence[Rect]) -> list[float]:
        """For each box, IoU of the object with the one that tighter boxes give."""
        tighter = [_tightened(rect) for rect in rects]
        again = self._cut(small, covered(tighter, found.shape))
        return [_iou(found[_slices(rect)], again[_slices(rect)]) for rect in tighter]


class TrueMaskTeacher:
    """The upper bound of what a teacher could say: the true mask itself. It reads rows, not boxes."""

    name = "true-masks"

    def mask_of(self, root: Path, row: ManifestRow, image: Image.Image) -> PseudoMask:
        """A row's true mask, 0 or 255, at quality 1.

        Args:
            root: the manifest's folder.
            row: a manipulated picture.
            image: its picture, orientation applied.

        Raises:
            InvalidInput: the row names no mask.
            DecodeFailed: its mask is damaged, empty or of another size than the picture.
            OSError: its mask cannot be read.
        """
        if row.mask is None:
            raise InvalidInput('no true mask, which teacher = "masks" needs')
        mask_orig = true_mask((root / row.mask).read_bytes(), *image.size)
        return PseudoMask(np.where(mask_orig, np.uint8(255), np.uint8(0)), 1.0)


class GivenMasks:
    """What a teacher said earlier, handed over as files of `model.mask_files`: nobody is asked again.

    Args:
        name: of the teacher that made them.
        folder: holds `<file name of the picture>.png` for every manipulated training picture.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder

    def file_of(self, row: ManifestRow) -> Path:
        """Where a picture's mask lies."""
        return (self._folder / f"{Path(row.image).name}.png").resolve()


AskedTeacher = BoxTeacher | TrueMaskTeacher
Teacher = AskedTeacher | GivenMasks


def teacher_for(
    config: TrainConfig,
    sam_checkpoint: Path | None = None,
    device: str = "cpu",
    report: Callable[[int, int], None] = lambda _here, _whole: None,
) -> AskedTeacher:
    """The teacher a config names, ready to work.

    Args:
        config: of the run.
        sam_checkpoint: SAM's published file; None takes it from the cache folder, downloading it first.
        device: of SAM, "cpu" or "cuda:N"; GrabCut always runs on the CPU.
        report: progress of a download: (bytes here, bytes of the whole file).

    Raises:
        InvalidInput: the checkpoint is not the published one, or one was given to a teacher that needs none.
        EnvironmentMissing: a package or the device is not there, or the download failed.
    """
    if config.teacher in ("grabcut", "masks"):
        if sam_checkpoint is not None:
            raise InvalidInput(f'a SAM checkpoint is given, but the config says teacher = "{config.teacher}": change one of them')
        return GrabCutTeacher(outside_label=config.outside_label) if config.teacher == "grabcut" else TrueMaskTeacher()
    return sam_teacher(config.teacher, sam_checkpoint, device, config.outside_label, report)


def sam_teacher(
    kind: str,
    checkpoint: Path | None,
    device: str,
    outside_label: float = 0.1,
    report: Callable[[int, int], None] = lambda _here, _whole: None,
) -> BoxTeacher:
    """A published SAM, where its packages are there; see `model.sam.load_sam_teacher`.

    Raises:
        InvalidInput, EnvironmentMissing: as `teacher_for`.
    """
    try:
        from model.sam import load_sam_teacher
    except ImportError as error:
        raise EnvironmentMissing(f"{kind} needs the package {error.name}: pip install 'tamperwatch[train]'") from error
    return load_sam_teacher(kind, checkpoint, device, outside_label, report)


def check_boxes(image: Image.Image, boxes: Sequence[PixelBox]) -> None:
    """Raise InvalidInput unless there is at least one box and all lie inside the picture."""
    if not boxes:
        raise InvalidInput("a teacher needs at least one box")
    for box in boxes:
        if not box.fits(*image.size):
            raise InvalidInput(f"box {list(box.as_tuple())} lies outside the picture of {image.width}x{image.height} pixels")


def covered(rects: Iterable[Rect], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """[H, W] bool, True inside the union of the rectangles."""
    inside = np.zeros(shape, dtype=bool)
    for x0, y0, x1, y1 in rects:
        inside[y0:y1, x0:x1] = True
    return inside


def _scaled(box: PixelBox, scale: float, size: tuple[int, int]) -> Rect:
    """The box in reduced pixels, at least one pixel wide and high."""
    x0, y0 = min(int(box.x0 * scale), size[0] - 1), min(int(box.y0 * scale), size[1] - 1)
    return x0, y0, max(x0 + 1, min(size[0], round(box.x1 * scale))), max(y0 + 1, min(size[1], round(box.y1 * scale)))


def _tightened(rect: Rect) -> Rect:
    """Drawn closer by `SHRINK` on every side, at least one pixel wide and high."""
    x0, y0, x1, y1 = rect
    dx, dy = int(SHRINK * (x1 - x0)), int(SHRINK * (y1 - y0))
    return x0 + dx, y0 + dy, x1 - dx, y1 - dy


def _slices(rect: Rect) -> tuple[slice, slice]:
    x0, y0, x1, y1 = rect
    return slice(y0, y1), slice(x0, x1)


def _iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """0 where both are empty: an object that is not there is nothing to trust."""
    return float((first & second).sum() / max(1, (first | second).sum()))
