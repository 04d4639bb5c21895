"""A drawn data set and a student small enough to train within a test."""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from model.config import StudentConfig, TrainConfig
from model.manifest import Manifest, is_validation, read_manifest

TINY = StudentConfig(backbone="test_efficientnet", input_size=64, width=16, slots=4)


@pytest.fixture(autouse=True)
def _one_torch_thread() -> Iterator[None]:
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny() -> StudentConfig:
    return TINY


@pytest.fixture(scope="session")
def tiny_training() -> TrainConfig:
    """Six steps of two pictures, drawn in this process."""
    return TrainConfig(
        name="tiny",
        student=TINY,
        steps=6,
        batch_size=2,
        warmup_steps=2,
        loader_workers=0,
        checkpoint_every_steps=2,
        evaluate_every_steps=3,
        validation_images=6,
        licence="made by a test",
        notes=("drawn pictures",),
    )


@pytest.fixture(scope="session")
def drawn_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """manifest.csv and pictures: 10 manipulated (a red disc in noise), 10 authentic, half of those with an object mask."""
    root = tmp_path_factory.mktemp("drawn")
    rng = np.random.default_rng(0)
    rows = [_drawn_row(root, index, rng) for index in range(20)]
    with (root / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return root


@pytest.fixture(scope="session")
def drawn(drawn_folder: Path) -> Manifest:
    return read_manifest(drawn_folder)


def _drawn_row(root: Path, index: int, rng: np.random.Generator) -> dict[str, str]:
    tampered, objects = index % 2 == 0, index % 4 == 1
    width, height = 120, 90
    image = Image.fromarray(rng.integers(60, 130, (height, width, 3), dtype=np.uint8))
    mask = Image.new("L", (width, height))
    x0, y0 = int(rng.integers(5, 70)), int(rng.integers(5, 40))
    box = (x0, y0, x0 + 40, y0 + 40)
    if tampered or objects:
        for canvas, colour in ((image, (230, 30, 20)), (mask, 255)):
            ImageDraw.Draw(canvas).ellipse((box[0], box[1], box[2] - 1, box[3] - 1), fill=colour)
        mask.save(root / f"{index}-mask.png")
    image.save(root / f"{index}.jpg", quality=90)
    return {
        "set": "discs" if index % 3 else "plates",
        "image": f"{index}.jpg",
        "mask": f"{index}-mask.png" if tampered else "",
        "label": "tampered" if tampered else "authentic",
        "kind": f"objects:{index}-mask.png" if objects else "",
        "scene": _scene(index, validation=index < 8),
        "boxes": json.dumps([list(box)] if tampered else []),
        "width": str(width),
        "height": str(height),
    }


def _scene(index: int, *, validation: bool) -> str:
    """A name that falls on the wanted side of the split."""
    return next(name for suffix in range(1000) if is_validation(name := f"scene-{index}-{suffix}") is validation)
