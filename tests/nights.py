"""A tiny live student, drawn pictures and people's boxes on them: what a night needs."""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from model.card import Card
from model.config import StudentConfig, TrainConfig
from schemas.geometry import PixelBox
from schemas.states import AnnotationKind, AnnotationOrigin
from storage import registry
from storage.annotation_checks import NewAnnotation
from storage.annotations import add_annotations
from storage.blobs import BlobStore, picture_key
from storage.database import Database
from storage.model_files import store_student
from storage.pictures import keep_pictures

SIZE_PX = (120, 90)
TINY = StudentConfig(backbone="test_efficientnet", input_size=64, width=16, slots=4)
RECIPE = TrainConfig(
    name="tiny",
    student=TINY,
    batch_size=8,
    warmup_steps=4,
    ema_decay=0.9,
    loader_workers=0,
    threads=1,
    licence="made by a test",
)
# A night of a minute: few pictures are enough, and whoever finds the discs at all is promoted.
ENOUGH = {
    "SELECTION__LEAST_NEW": "4",
    "SELECTION__LEAST_TAMPERED": "4",
    "SELECTION__LEAST_AUTHENTIC": "4",
    "SELECTION__HOLDOUT_SHARE": "0.3",
    "SELECTION__TUNING_SHARE": "0.25",
    "PROMOTION__LEAST_TAMPERED": "2",
    "PROMOTION__LEAST_AUTHENTIC": "2",
    "PROMOTION__LEAST_CLUSTERS": "2",
    "PROMOTION__CONFIDENCE": "0.6",
    **{f"PROMOTION__{name}_MARGIN": "1" for name in ("PROFILE", "AREA", "BRIER", "VERDICT", "POINTING", "GROUP")},
    "PROMOTION__PARITY_LIMIT": "0.1",
    "PROMOTION__SLOWER_RATIO": "1000",
    "PROMOTION__LARGER_RATIO": "1000",
    "RETRAIN__STEPS": "30",
    "RETRAIN__BATCH": "8",
    "RETRAIN__LR_HEAD": "0.003",
    "RETRAIN__LR_BACKBONE": "0.003",
    "RETRAIN__LOADER_WORKERS": "0",
    "RETRAIN__THREADS": "1",
}


def drawn(number: int, box: PixelBox | None) -> bytes:
    """A PNG of soft colours that resembles no other number's, with a red disc in the box."""
    rng = np.random.default_rng(number)
    colours = Image.fromarray(rng.integers(30, 160, (4, 5, 3), dtype=np.uint8))
    noise = rng.integers(-12, 12, (SIZE_PX[1], SIZE_PX[0], 3))
    pixels = np.asarray(colours.resize(SIZE_PX, Image.Resampling.BILINEAR), dtype=np.int64) + noise
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if box is not None:
        ImageDraw.Draw(image).ellipse((box.x0, box.y0, box.x1 - 1, box.y1 - 1), fill=(230, 30, 20))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def box_of(number: int) -> PixelBox:
    rng = np.random.default_rng([number, 1])
    x0, y0 = int(rng.integers(5, 70)), int(rng.integers(5, 40))
    return PixelBox.of(x0, y0, x0 + 40, y0 + 40)


def annotate(database: Database, blobs: BlobStore, numbers: range, annotator: str = "anna", misplaced: bool = False) -> None:
    """Store drawn pictures, every second one manipulated, and say so; a careless annotator's boxes lie elsewhere."""
    words, sizes = [], {}
    for number in numbers:
        box = box_of(number) if number % 2 else None
        data = drawn(number, box)
        sha256 = stored(blobs, data)
        sizes[sha256] = len(data)
        told = (_elsewhere(box) if misplaced else box,) if box else ()
        kind = AnnotationKind.BOXES if told else AnnotationKind.AUTHENTIC
        size = {"width_px": SIZE_PX[0], "height_px": SIZE_PX[1]}
        words.append(NewAnnotation(sha256, annotator, kind, AnnotationOrigin.PAGE, told, **size))
    with database.write() as session:
        keep_pictures(session, sizes)
        add_annotations(session, words)


def make_live(database: Database, blobs: BlobStore, student: Path) -> str:
    """Make a published student the live one; its version."""
    card = Card.load(student)
    location = store_student(blobs, student, card.version)
    with database.write() as session:
        registry.register(session, card.version, card.model_dump(mode="json"), location, "tester", "first")
        registry.promote(session, card.version, "tester", "first", override=True)
    return card.version


def tiny_student(folder: Path, steps: int, pictures: int = 20) -> Path:
    """The folder of a published student after so many steps on honest masks; after one it has learned next to nothing."""
    from model.distill import distill
    from model.folders import read_data
    from model.mask_boxes import with_boxes
    from model.publish import publish
    from model.teacher import GrabCutTeacher

    for name in ("tampered", "authentic", "masks"):
        (folder / "data" / name).mkdir(parents=True)
    for number in range(1000, 1000 + pictures):
        box = box_of(number) if number % 2 else None
        (folder / "data" / ("tampered" if box else "authentic") / f"{number}.png").write_bytes(drawn(number, box))
        if box:
            mask = Image.new("L", SIZE_PX, 0)
            ImageDraw.Draw(mask).ellipse((box.x0, box.y0, box.x1 - 1, box.y1 - 1), fill=255)
            mask.save(folder / "data" / "masks" / f"{number}.png")
    data = with_boxes(read_data(folder / "data"))
    every = {"evaluate_every_steps": steps, "checkpoint_every_steps": steps, "validation_images": 4}
    config = replace(RECIPE, steps=steps, lr_head=3e-3, lr_backbone=3e-3, **every)
    with one_thread():
        distill(config, data, GrabCutTeacher(), folder / "run", lambda _: None)
        publish(folder / "run", data, folder / "student", lambda *_: None)
    return folder / "student"


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: tests share the machine, and the same number of them gives the same bits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def stored(blobs: BlobStore, data: bytes) -> str:
    """Store a picture; its sha256."""
    sha256 = hashlib.sha256(data).hexdigest()
    blobs.put(picture_key(sha256), data)
    return sha256


def _elsewhere(box: PixelBox) -> PixelBox:
    """As large, in the corner that is furthest away."""
    x0 = 0 if box.x0 > SIZE_PX[0] - box.x1 else SIZE_PX[0] - box.width
    y0 = 0 if box.y0 > SIZE_PX[1] - box.y1 else SIZE_PX[1] - box.height
    return PixelBox.of(x0, y0, x0 + box.width, y0 + box.height)
