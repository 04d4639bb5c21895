"""Training samples from a manifest: real manipulations through box and teacher, synthetic ones, authentic pictures.

True masks of real manipulated pictures never train: what the student learns about them is what a box and a teacher say.
A sample is a pure function of (seed, index), so a run can be resumed or repeated.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from model import synthetic
from model.augment import HALF, TRIES, Drawn, Sample, augmented, window
from model.config import TrainConfig
from model.manifest import Manifest, ManifestRow
from model.preprocess import decode, prepare
from model.pseudo_masks import PseudoMasks
from schemas.errors import InvalidInput, PictureError

CLEAN_CROP_SHARE = 0.25  # of authentic samples: cut from manipulated pictures, away from their boxes
LEAST_CLEAN_CROP = 0.35
LISTED_OBJECT_SHARE = 0.7
LONG_SIDE = 2.0  # of the network's side: larger pictures are reduced to this once, before anything else
CACHE_BYTES = 4 << 30  # of decoded pictures, all loader processes together


class TrainingSet(Dataset[Sample]):
    """The mixture one run trains on.

    Args:
        manifest: pictures with boxes; only its training split is used.
        masks: pseudo-mask and weight of each manipulated picture; pictures that were dropped there do not train.
        config: shares, weights, seed, net size.
        length: samples in the run.

    Raises:
        InvalidInput: the training split lacks a kind of picture that the config asks for.
    """

    def __init__(self, manifest: Manifest, masks: PseudoMasks, config: TrainConfig, length: int) -> None:
        rows = manifest.split("training")
        self._root = manifest.root
        self._masks = masks
        self._config = config
        self._length = length
        self._long_side_px = round(LONG_SIDE * config.student.input_size)
        self._tampered = _by_set(row for row in rows if row.tampered and row.image in masks.files)
        self._authentic = _by_set(row for row in rows if not row.tampered)
        self._with_objects = [row for row in rows if row.objects]
        self._decoded: dict[str, NDArray[np.uint8]] = {}
        self._room_bytes = CACHE_BYTES // max(1, config.loader_workers)
        if not self._authentic or (config.real_share and not self._tampered):
            raise InvalidInput("the training split needs authentic pictures, and manipulated ones unless real_share is 0")

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._length:
            raise IndexError(index)
        rng = np.random.default_rng((self._config.seed, index))
        return augmented(self._draw(rng), self._config, rng)

    def _draw(self, rng: np.random.Generator) -> Drawn:
        kind = rng.random()
        if kind < self._config.real_share:
            return self._real(rng)
        if kind < self._config.real_share + self._config.synthetic_share:
            return self._synthetic(rng)
        if self._tampered and rng.random() < CLEAN_CROP_SHARE:
            return self._clean_crop(rng)
        return self._pristine(rng)

    def _real(self, rng: np.random.Generator) -> Drawn:
        row = self._row(self._tampered, rng)
        picture = self._picture(row.image)
        soft = self._mask(str(self._masks.files[row.image]), Image.Resampling.BOX)
        return Drawn(picture, _sized(soft, picture), True, weight=self._masks.weights[row.image], exact=False)

    def _pristine(self, rng: np.random.Generator) -> Drawn:
        row = self._row(self._authentic, rng)
        return _unmarked(self._picture(row.image))._replace(weight=row.weight)

    def _clean_crop(self, rng: np.random.Generator) -> Drawn:
        """The part of a manipulated picture beside its boxes, so that no camera or set betrays the label."""
        row = self._row(self._tampered, rng)
        picture = self._picture(row.image)
        height, width = picture.shape[:2]
        full_width, full_height = row.size_px or _size_of(self._root / row.image)
        for _ in range(TRIES):
            x0, y0, x1, y1 = window(height, width, LEAST_CLEAN_CROP, rng)
            left, right, top, bottom = x0 / width, x1 / width, y0 / height, y1 / height
            if not any(
                box.x0 / full_width < right and box.x1 / full_width > left
                and box.y0 / full_height < bottom and box.y1 / full_height > top
                for box in row.boxes
            ):  # fmt: skip
                # Its other half may be a copy's source, so what repeats in it is not known.
                return _unmarked(picture[y0:y1, x0:x1])._replace(exact=False)
        return self._pristine(rng)

    def _synthetic(self, rng: np.random.Generator) -> Drawn:
        for _ in range(TRIES):
            made = self._manipulated(rng)
            if made is not None and made.mask.any():
                return Drawn(made.picture, made.mask, True, move=made.move)
        return self._pristine(rng)

    def _manipulated(self, rng: np.random.Generator) -> synthetic.Manipulated | None:
        config = self._config
        choice = rng.random()
        base, part = self._donor(rng)
        if part is None:
            return None
        for make, share in (
            (synthetic.copy_move, config.copy_move_share),
            (synthetic.removal, config.removal_share),
            (synthetic.local_edit, config.edit_share),
        ):
            if choice < share:
                return make(base, part, rng)
            choice -= share
        return synthetic.splice(self._picture(self._row(self._authentic, rng).image), base, part, rng)

    def _donor(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """A picture and a part of it: one of its listed objects, or a random blob."""
        if self._with_objects and rng.random() < LISTED_OBJECT_SHARE:
            row = self._with_objects[int(rng.integers(len(self._with_objects)))]
            picture = self._picture(row.image)
            mask = self._mask(row.objects[int(rng.integers(len(row.objects)))], Image.Resampling.NEAREST)
            return picture, synthetic.pick_object(_sized(mask, picture, cv2.INTER_NEAREST), rng)
        picture = self._picture(self._row(self._authentic, rng).image)
        return picture, synthetic.blob(picture.shape[0], picture.shape[1], rng)

    def _row(self, sets: Mapping[str, Sequence[ManifestRow]], rng: np.random.Generator) -> ManifestRow:
        """A row: its set with probability ~ weight * sqrt(pictures), then uniform within."""
        names = sorted(sets)
        weights = np.array([self._config.set_weights.get(name, 1.0) * len(sets[name]) ** 0.5 for name in names])
        rows = sets[names[int(rng.choice(len(names), p=weights / weights.sum()))]]
        return rows[int(rng.integers(len(rows)))]

    def _picture(self, name: str) -> NDArray[np.uint8]:
        return self._cached(name, lambda: self._reduced(_decoded(self._root / name), Image.Resampling.LANCZOS))

    def _mask(self, name: str, resampling: Image.Resampling) -> NDArray[np.uint8]:
        def load() -> NDArray[np.uint8]:
            with Image.open(self._root / name) as mask:  # an absolute name replaces the root
                return self._reduced(mask.convert("L"), resampling)

        return self._cached(name, load)

    def _reduced(self, image: Image.Image, resampling: Image.Resampling) -> NDArray[np.uint8]:
        image.thumbnail((self._long_side_px, self._long_side_px), resampling)
        return np.asarray(image, dtype=np.uint8)

    def _cached(self, name: str, load: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Decoded and reduced pixels, kept in memory while there is room."""
        if name in self._decoded:
            return self._decoded[name]
        pixels = load()
        if pixels.nbytes <= self._room_bytes:
            self._room_bytes -= pixels.nbytes
            self._decoded[name] = pixels
        return pixels


class ValidationSet:
    """A fixed share of every validation set as the predictor would see it, with true masks: for the training log only.

    Attributes:
        rows: the pictures chosen, evenly over sets and labels.
        pixels: [N, S, S, 3] uint8, network pixels.
        masks_net: [N, M, M] bool, the true masks at the student's grid.
    """

    def __init__(self, manifest: Manifest, config: TrainConfig) -> None:
        rows = sorted(
            (row for row in manifest.split("validation") if row.mask or not row.tampered),
            key=lambda row: (row.tampered, row.set_name, row.image),
        )
        self.rows = rows[:: max(1, len(rows) // max(1, config.validation_images))]
        side, cells = config.student.input_size, config.student.mask_size
        self.pixels = np.zeros((len(self.rows), side, side, 3), dtype=np.uint8)
        self.masks_net = np.zeros((len(self.rows), cells, cells), dtype=bool)
        for index, row in enumerate(self.rows):
            self.pixels[index] = prepare((manifest.root / row.image).read_bytes(), side).pixels
            if row.tampered and row.mask:
                with Image.open(manifest.root / row.mask) as mask:
                    small = mask.convert("L").resize((cells, cells), Image.Resampling.BOX)
                self.masks_net[index] = np.asarray(small) > HALF

    def figures(self, prob: NDArray[np.float32], score_logit: NDArray[np.float32]) -> dict[str, float]:
        """Mean F1 at 0.5 by set over manipulated pictures, false-alarm area and mean scores, all at the net's grid.

        Args:
            prob: [N, M, M].
            score_logit: [N].
        """
        found = prob > 0.5
        overlap, extent = (found & self.masks_net).sum((1, 2)), found.sum((1, 2)) + self.masks_net.sum((1, 2))
        f1 = 2 * overlap / np.maximum(extent, 1)
        tampered = np.array([row.tampered for row in self.rows])
        names = np.array([row.set_name for row in self.rows])
        figures = {f"f1_{name}": float(f1[tampered & (names == name)].mean()) for name in sorted(set(names[tampered]))}
        if tampered.any() and not tampered.all():
            order = score_logit[tampered][:, None] - score_logit[~tampered][None, :]
            figures["image_auc"] = float((order > 0).mean() + 0.5 * (order == 0).mean())
            figures["fa_area"] = float(found[~tampered].mean())
        return figures


def _by_set(rows: Iterable[ManifestRow]) -> dict[str, list[ManifestRow]]:
    groups: dict[str, list[ManifestRow]] = {}
    for row in rows:
        groups.setdefault(row.set_name, []).append(row)
    return groups


def _unmarked(picture: NDArray[np.uint8]) -> Drawn:
    return Drawn(picture, np.zeros(picture.shape[:2], dtype=np.uint8), False)


def _sized(mask: NDArray[np.uint8], picture: NDArray[np.uint8], interpolation: int = cv2.INTER_LINEAR) -> NDArray[np.uint8]:
    """A mask at its picture's size, which may have been reduced."""
    if mask.shape == picture.shape[:2]:
        return mask
    return np.asarray(cv2.resize(mask, (picture.shape[1], picture.shape[0]), interpolation=interpolation), dtype=np.uint8)


def _decoded(path: Path) -> Image.Image:
    """Raises InvalidInput: the picture cannot be decoded."""
    try:
        return decode(path.read_bytes())
    except PictureError as error:
        raise InvalidInput(f"training picture {path}: {error.message}") from error


def _size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size
