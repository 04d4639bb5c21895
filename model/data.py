"""Training samples from a manifest: real manipulations through box and teacher, synthetic ones, authentic pictures.

True masks of real manipulated pictures never train: what the student learns about them is what a box and a teacher say.
A sample is a pure function of (seed, index), so a run can be resumed or repeated.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from model import synthetic
from model.compress import random_chain
from model.config import TrainConfig
from model.manifest import Manifest, ManifestRow
from model.preprocess import decode, prepare, stretch
from schemas.errors import InvalidInput, PictureError

CLEAN_CROP_SHARE = 0.25  # of authentic samples: cut from manipulated pictures, away from their boxes
COPY_MOVE_SHARE, REMOVAL_SHARE = 0.4, 0.1
CROP_SHARE, LEAST_CROP = 0.6, 0.55
TRIES = 6
HALF = 127  # of an 8-bit mask
LONG_SIDE_PX = 1280  # larger pictures are reduced once, before anything else


class Sample(NamedTuple):
    """pixels [S, S, 3] uint8 RGB; soft_mask [M, M] uint8, 255 x belief; label 1.0 manipulated, 0.0 authentic (a scalar)."""

    pixels: Tensor
    soft_mask: Tensor
    label: Tensor


class Drawn(NamedTuple):
    """A picture before augmentation: [H, W, 3] uint8, soft mask [H, W] uint8, label."""

    picture: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    tampered: bool


class TrainingSet(Dataset[Sample]):
    """The mixture one run trains on.

    Args:
        manifest: pictures with boxes; only its training split is used.
        masks: pseudo-mask file of each manipulated picture, from `model.pseudo_masks`.
        config: shares, weights, seed, net size.
        length: samples in the run.

    Raises:
        InvalidInput: the training split lacks a kind of picture that the config asks for.
    """

    def __init__(self, manifest: Manifest, masks: Mapping[str, Path], config: TrainConfig, length: int) -> None:
        rows = manifest.split("training")
        self._root = manifest.root
        self._masks = masks
        self._config = config
        self._length = length
        self._tampered = _by_set(row for row in rows if row.tampered)
        self._authentic = _by_set(row for row in rows if not row.tampered)
        self._with_objects = [row for row in rows if row.objects]
        self._bytes: dict[str, bytes] = {}
        if not self._authentic or (config.real_share and not self._tampered):
            raise InvalidInput("the training split needs authentic pictures, and manipulated ones unless real_share is 0")

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._length:
            raise IndexError(index)
        rng = np.random.default_rng((self._config.seed, index))
        return _augmented(self._draw(rng), self._config, rng)

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
        soft = np.asarray(Image.open(io.BytesIO(self._read(str(self._masks[row.image])))).convert("L"))
        return Drawn(picture, _sized(soft, picture), True)

    def _pristine(self, rng: np.random.Generator) -> Drawn:
        return _unmarked(self._picture(self._row(self._authentic, rng).image))

    def _clean_crop(self, rng: np.random.Generator) -> Drawn:
        """The part of a manipulated picture beside its boxes, so that no camera or set betrays the label."""
        row = self._row(self._tampered, rng)
        picture = self._picture(row.image)
        height, width = picture.shape[:2]
        full_width, full_height = row.size_px or _size_of(self._read(row.image))
        for _ in range(TRIES):
            x0, y0, x1, y1 = _window(height, width, 0.35, rng)
            left, right, top, bottom = x0 / width, x1 / width, y0 / height, y1 / height
            if not any(
                box.x0 / full_width < right and box.x1 / full_width > left
                and box.y0 / full_height < bottom and box.y1 / full_height > top
                for box in row.boxes
            ):  # fmt: skip
                return _unmarked(picture[y0:y1, x0:x1])
        return self._pristine(rng)

    def _synthetic(self, rng: np.random.Generator) -> Drawn:
        for _ in range(TRIES):
            made = self._manipulated(rng)
            if made is not None and made.mask.any():
                return Drawn(made.picture, made.mask, True)
        return self._pristine(rng)

    def _manipulated(self, rng: np.random.Generator) -> synthetic.Manipulated | None:
        choice = rng.random()
        if choice >= COPY_MOVE_SHARE + REMOVAL_SHARE:
            donor, part = self._donor(rng)
            base = self._picture(self._row(self._authentic, rng).image)
            return synthetic.splice(base, donor, part, rng) if part is not None else None
        base, part = self._donor(rng)
        if part is None:
            return None
        return (synthetic.copy_move if choice < COPY_MOVE_SHARE else synthetic.removal)(base, part, rng)

    def _donor(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """A picture and a part of it: one of its listed objects, or a random blob."""
        if self._with_objects and rng.random() < 0.7:
            row = self._with_objects[int(rng.integers(len(self._with_objects)))]
            picture = self._picture(row.image)
            mask = np.asarray(Image.open(io.BytesIO(self._read(row.objects[int(rng.integers(len(row.objects)))]))).convert("L"))
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
        try:
            image = decode(self._read(name))
        except PictureError as error:
            raise InvalidInput(f"training picture {name}: {error.message}") from error
        image.thumbnail((LONG_SIDE_PX, LONG_SIDE_PX), Image.Resampling.LANCZOS)
        return np.asarray(image, dtype=np.uint8)

    def _read(self, name: str) -> bytes:
        """Encoded bytes of a file, kept in memory."""
        if name not in self._bytes:
            self._bytes[name] = (self._root / name).read_bytes()  # an absolute name replaces the root
        return self._bytes[name]


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


def _augmented(drawn: Drawn, config: TrainConfig, rng: np.random.Generator) -> Sample:
    """Crop, mirror and turn, degrade, stretch to the net: one path for manipulated and authentic alike."""
    picture, mask, tampered = _cropped(drawn, rng)
    picture, mask = _turned(picture, mask, rng)
    image = random_chain(Image.fromarray(np.ascontiguousarray(picture)), rng)
    side, cells = config.student.input_size, config.student.mask_size
    if rng.random() < 0.5 and min(image.size) >= 2 * side:
        image = image.reduce(2)  # stands for the predictor's scaled JPEG decode
    soft = Image.fromarray(np.ascontiguousarray(mask)).resize((cells, cells), Image.Resampling.BOX)
    return Sample(
        torch.from_numpy(stretch(image, side).copy()),
        torch.from_numpy(np.asarray(soft, dtype=np.uint8).copy()),
        torch.tensor(1.0 if tampered else 0.0),
    )


def _cropped(drawn: Drawn, rng: np.random.Generator) -> Drawn:
    """A random window that keeps at least half of the manipulated part, or the whole picture."""
    if rng.random() >= CROP_SHARE:
        return drawn
    height, width = drawn.mask.shape
    weight = int(drawn.mask.sum(dtype=np.int64))
    for _ in range(TRIES):
        x0, y0, x1, y1 = _window(height, width, LEAST_CROP, rng)
        mask = drawn.mask[y0:y1, x0:x1]
        if not drawn.tampered or mask.sum(dtype=np.int64) * 2 >= weight:
            return Drawn(drawn.picture[y0:y1, x0:x1], mask, drawn.tampered)
    return drawn


def _turned(
    picture: NDArray[np.uint8], mask: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    if rng.random() < 0.5:
        picture, mask = picture[:, ::-1], mask[:, ::-1]
    if rng.random() < 0.1:
        picture, mask = picture[::-1], mask[::-1]
    if rng.random() < 0.2:
        turns = int(rng.integers(1, 4))
        picture, mask = np.rot90(picture, turns), np.rot90(mask, turns)
    return picture, mask


def _window(height: int, width: int, least: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of a window whose sides are `least`..1 of the frame's."""
    w, h = max(1, round(width * rng.uniform(least, 1))), max(1, round(height * rng.uniform(least, 1)))
    x0, y0 = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
    return x0, y0, x0 + w, y0 + h


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


def _size_of(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as image:
        return image.size
