"""Made-up pictures, labels and scores for the tests of this room."""

import hashlib
import math
from typing import Any

import numpy as np

from scheduler.holdout import Arrival, packed
from scheduler.labels import LabelledPicture
from scheduler.scores import PictureScores, StudentScores
from schemas.geometry import PixelBox

BOX = PixelBox.of(10, 10, 40, 40)


def sha(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def looks(degrees: float) -> bytes:
    """A fingerprint on a circle: two are near-duplicates when they are at most 18 degrees apart (cos 18.2 = .95)."""
    values = np.zeros(256, dtype=np.float32)
    values[:2] = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return packed(values)


def unlike(number: int) -> bytes:
    """A fingerprint that resembles no other number's."""
    values = np.random.default_rng(number).normal(size=256).astype(np.float32)
    return packed(values / np.linalg.norm(values))


def arrival(name: object, print_: bytes, source_id: str | None = None, **changes: Any) -> Arrival:
    return Arrival(sha(name), source_id, print_, **changes)


def labelled(name: object, *, tampered: bool = True, **changes: Any) -> LabelledPicture:
    """A new picture of its own cluster that may train, boxed by ann."""
    values: dict[str, Any] = {
        "sha256": sha(name),
        "tampered": tampered,
        "boxes": (BOX,) if tampered else (),
        "annotators": ("ann",),
        "last_annotation_id": 1000,
        "source_id": None,
        "cluster": f"c-{name}",
        "side": "trains",
    }
    return LabelledPicture(**(values | changes))


def scored(name: object, *, tampered: bool = True, f1: float = 0.4, area: float = 0.02, **changes: Any) -> PictureScores:
    """A held-out picture of its own cluster, middling in everything."""
    values: dict[str, Any] = {
        "sha256": sha(name),
        "tampered": tampered,
        "cluster": f"c-{name}",
        "truth": "teacher" if tampered else None,
        "f1": {"none": f1, "wechat": f1} if tampered else {},
        "alarm_area": {"none": area, "wechat": area},
        "inside": 0.5 if tampered else None,
        "found": 0.5 if tampered else None,
        "score": 0.7 if tampered else 0.3,
        "verdict": "review",
    }
    return PictureScores(**(values | changes))


def student(pictures: list[PictureScores], name: str = "candidate", **changes: Any) -> StudentScores:
    values: dict[str, Any] = {
        "version": name,
        "weights_sha256": sha(name),
        "weights_bytes": 1000,
        "parity": 1e-4,
        "ms_per_picture": 20.0,
        "pictures": tuple(pictures),
    }
    return StudentScores(**(values | changes))
