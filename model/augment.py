"""From a drawn picture to a training sample: crop, mirror, turn, degrade, stretch; the same path for both classes."""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from model.compress import random_chain
from model.config import CORRELATION_STRIDE, TrainConfig
from model.preprocess import stretch

CROP_SHARE, LEAST_CROP = 0.6, 0.55
LIGHT_SHARE = 0.3
TRIES = 6
HALF = 127  # of an 8-bit mask
NO_MATCH, UNKNOWN = -1, -2


class Sample(NamedTuple):
    """One training sample, or a batch of them with a leading dimension.

    Attributes:
        pixels: [S, S, 3] uint8 RGB.
        soft_mask: [M, M] uint8, 255 x belief that a cell was manipulated.
        label: scalar, 1.0 manipulated, 0.0 authentic.
        weight: scalar, 0..1, trust in the soft mask.
        score_weight: scalar, 0..1, trust in the label as an example for the image score.
        match: [G, G] int64, G = S/8: for each cell of a copy the index (row * G + column) of the cell it was copied from, -1 for
            cells that are no copy, -2 everywhere in pictures where nobody knows.
    """

    pixels: Tensor
    soft_mask: Tensor
    label: Tensor
    weight: Tensor
    score_weight: Tensor
    match: Tensor


class Drawn(NamedTuple):
    """A picture before augmentation.

    Attributes:
        picture: [H, W, 3] uint8.
        mask: [H, W] uint8, soft.
        tampered: its label.
        weight: trust in the mask, 0..1.
        exact: whether all about it is known, as of synthetic and authentic pictures.
        move: copy to source as in `model.synthetic.Manipulated`, or None.
    """

    picture: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    tampered: bool
    weight: float = 1.0
    exact: bool = True
    move: NDArray[np.float64] | None = None

    @property
    def synthetic(self) -> bool:
        """A manipulation made here: nothing else that is manipulated is known exactly."""
        return self.tampered and self.exact


def augmented(drawn: Drawn, config: TrainConfig, rng: np.random.Generator) -> Sample:
    """A sample at the student's size; `rng` is the only source of randomness."""
    drawn = _turned(_cropped(drawn, rng), rng)
    image = Image.fromarray(np.ascontiguousarray(drawn.picture))
    if rng.random() < LIGHT_SHARE:
        image = _relit(image, rng)
    if config.delivery:
        image = random_chain(image, rng)
    side, cells = config.student.input_size, config.student.mask_size
    if rng.random() < 0.5 and min(image.size) >= 2 * side:
        image = image.reduce(2)  # stands for the predictor's scaled JPEG decode
    soft = Image.fromarray(np.ascontiguousarray(drawn.mask)).resize((cells, cells), Image.Resampling.BOX)
    return Sample(
        torch.from_numpy(stretch(image, side).copy()),
        torch.from_numpy(np.asarray(soft, dtype=np.uint8).copy()),
        torch.tensor(1.0 if drawn.tampered else 0.0),
        torch.tensor(drawn.weight),
        torch.tensor(config.synthetic_score if drawn.synthetic else 1.0),
        torch.from_numpy(matches(drawn, side // CORRELATION_STRIDE)),
    )


def matches(drawn: Drawn, cells: int) -> NDArray[np.int64]:
    """`Sample.match` of a picture on a grid of `cells` a side."""
    found = np.full((cells, cells), NO_MATCH if drawn.exact else UNKNOWN, dtype=np.int64)
    if drawn.move is None:
        return found
    covered = cv2.resize(drawn.mask, (cells, cells), interpolation=cv2.INTER_AREA) > HALF
    rows, columns = np.nonzero(covered)
    centres = np.stack([(columns + 0.5) / cells, (rows + 0.5) / cells, np.ones(len(rows))])
    source = np.floor((drawn.move @ centres)[:2] * cells).astype(np.int64)
    inside = ((source >= 0) & (source < cells)).all(0)
    found[rows[inside], columns[inside]] = source[1, inside] * cells + source[0, inside]
    return found


def window(height: int, width: int, least: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of a window whose sides are `least`..1 of the frame's."""
    w, h = max(1, round(width * rng.uniform(least, 1))), max(1, round(height * rng.uniform(least, 1)))
    x0, y0 = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
    return x0, y0, x0 + w, y0 + h


def _cropped(drawn: Drawn, rng: np.random.Generator) -> Drawn:
    """A random window that keeps at least half of the manipulated part, or the whole picture."""
    if rng.random() >= CROP_SHARE:
        return drawn
    height, width = drawn.mask.shape
    weight = int(drawn.mask.sum(dtype=np.int64))
    for _ in range(TRIES):
        x0, y0, x1, y1 = window(height, width, LEAST_CROP, rng)
        mask = drawn.mask[y0:y1, x0:x1]
        if not drawn.tampered or mask.sum(dtype=np.int64) * 2 >= weight:
            scale = np.diag([width / (x1 - x0), height / (y1 - y0), 1.0])
            frame = scale @ np.array([[1, 0, -x0 / width], [0, 1, -y0 / height], [0, 0, 1]])
            return _framed(drawn, drawn.picture[y0:y1, x0:x1], mask, frame)
    return drawn


def _turned(drawn: Drawn, rng: np.random.Generator) -> Drawn:
    if rng.random() < 0.5:
        drawn = _framed(drawn, drawn.picture[:, ::-1], drawn.mask[:, ::-1], np.array([[-1, 0, 1], [0, 1, 0], [0, 0, 1]]))
    if rng.random() < 0.1:
        drawn = _framed(drawn, drawn.picture[::-1], drawn.mask[::-1], np.array([[1, 0, 0], [0, -1, 1], [0, 0, 1]]))
    if rng.random() < 0.2:
        quarter = np.array([[0, 1, 0], [-1, 0, 1], [0, 0, 1]])  # anticlockwise, as numpy turns
        for _ in range(int(rng.integers(1, 4))):
            drawn = _framed(drawn, np.rot90(drawn.picture), np.rot90(drawn.mask), quarter)
    return drawn


def _framed(drawn: Drawn, picture: NDArray[np.uint8], mask: NDArray[np.uint8], frame: NDArray[np.number]) -> Drawn:
    """The picture in a new frame; `frame` maps points of the old one (as fractions) to the new one."""
    move = None if drawn.move is None else frame @ drawn.move @ np.linalg.inv(frame)
    return drawn._replace(picture=picture, mask=mask, move=move)


def _relit(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Another exposure of the whole picture, so that light alone says nothing."""
    gain, lift = rng.uniform(0.75, 1.3), rng.uniform(-15, 15)
    return image.point([int(min(255, max(0, round(value * gain + lift)))) for value in range(256)] * 3)
