"""The pictures that changed most: what the old and the new version mark in them, as thumbnails.

Masks come from the store. Where one is not kept (a shadow's never is), its version runs once more on the picture.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from model import metrics, preprocess, render
from model.predictor import Predictor
from model.preprocess import PictureLimits
from schemas.errors import TamperwatchError
from schemas.settings import Settings
from schemas.tables import ModelVersion
from storage.blobs import BlobStore, picture_key
from storage.model_changes import Change, Said
from workers.loaded import load

THUMBNAIL_PX = 320
_QUALITY = 74


@dataclass(frozen=True)
class ChangedPicture:
    """One picture of the report. Without `thumbnails`, `why_not` says why.

    Attributes:
        name: what people know it as.
        agreement: IoU of the two masks.
        thumbnails: JPEGs of the picture, with the old mask, with the new mask.
    """

    name: str
    change: Change
    agreement: float | None = None
    thumbnails: tuple[bytes, bytes, bytes] | None = None
    why_not: str = ""


class Painter:
    """Paints both versions' masks over pictures, loading a version only if it has to run."""

    def __init__(
        self, blobs: BlobStore, settings: Settings, masks: dict[int, bytes], old: ModelVersion, new: ModelVersion
    ) -> None:
        """Nothing is loaded yet.

        Args:
            blobs: pictures and students.
            settings: limits and engine.
            masks: stored ones by the number of their result, as PNG.
            old, new: the two versions.
        """
        self._blobs = blobs
        self._limits = PictureLimits(settings.limits.max_bytes, settings.limits.max_pixels)
        self._masks = masks
        self._old, self._new = old, new
        self._load: Callable[[ModelVersion], Predictor] = lambda row: load(row, settings, blobs)
        self._loaded: dict[str, Predictor | TamperwatchError] = {}

    def painted(self, change: Change, name: str) -> ChangedPicture:
        """One picture; never raises for what is wrong with it alone."""
        try:
            data = self._blobs.get(picture_key(change.sha256), self._limits.max_bytes)
            image = preprocess.decode(data, self._limits)
            before, after = self._mask(self._old, change.old, data), self._mask(self._new, change.new, data)
        except TamperwatchError as error:
            return ChangedPicture(name, change, why_not=error.message)
        return ChangedPicture(name, change, _agreement(before, after), _thumbnails(image, [before, after]))

    def _mask(self, row: ModelVersion, said: Said, data: bytes) -> render.Mask:
        """uint8 [M, M], network frame."""
        stored = self._masks.get(said.result_id) if said.result_id is not None else None
        if stored is not None:
            return render.read_mask_png(stored)
        predictor = self._predictor(row)
        prepared = preprocess.prepare(data, predictor.input_size, self._limits)
        return predictor.predict([prepared.pixels])[0].mask_net

    def _predictor(self, row: ModelVersion) -> Predictor:
        """Tried once; what cannot be loaded for one picture can't be for the next."""
        if row.version not in self._loaded:
            try:
                self._loaded[row.version] = self._load(row)
            except TamperwatchError as error:
                self._loaded[row.version] = error
        found = self._loaded[row.version]
        if isinstance(found, TamperwatchError):
            raise found
        return found


def _agreement(before: render.Mask, after: render.Mask) -> float:
    if before.shape != after.shape:
        before = np.asarray(render.full_size_mask(before, after.shape[1], after.shape[0]))
    return metrics.mask_agreement(before, after)


def _thumbnails(image: Image.Image, masks: Sequence[render.Mask]) -> tuple[bytes, bytes, bytes]:
    """The picture, and with each mask; painted small, which is a fraction of the work."""
    small = image.copy()
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BILINEAR, reducing_gap=2.0)
    painted = [render.overlay(small, render.full_size_mask(mask, *small.size)) for mask in masks]
    plain, before, after = (render.thumbnail_jpeg(each, THUMBNAIL_PX, _QUALITY) for each in (small, *painted))
    return plain, before, after
