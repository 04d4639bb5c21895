"""The protocol: run a student over labelled pictures, by the path it serves them on, and note how each came out.

Pictures are read and decoded in threads while the network runs on the batch before; masks are measured in the same
threads, at the pictures' own size. No picture, mask or map outlives its batch, so memory does not grow with the data. All
variants of a picture come from one decode of it; the picture as it is takes the scaled decode that serving takes.
"""

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.calibration import score, verdict
from model.card import Card
from model.evaluation_data import EvaluationItem, check_masks, read_bytes, true_mask
from model.evaluation_report import Failure, Measurement, Outcome, Subject
from model.metrics import alarm_area, count_pixels
from model.pointing import pointing
from model.predictor import Prediction, Predictor
from model.preprocess import PictureLimits, decode, prepare, stretch
from model.render import full_size_mask
from model.sweeps import AS_IS, Variant
from schemas.errors import InvalidInput, TamperwatchError

BATCH_SIZE: Final = 8

Progress = Callable[[int, int], None]
A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class _Loaded:
    """One item ready for the network: a network input by variant, the picture's own size, its mask file, its hash."""

    item: EvaluationItem
    pictures: dict[str, NDArray[np.uint8]]
    width_px: int
    height_px: int
    mask_data: bytes | None
    digest: bytes


class _Measured(NamedTuple):
    outcomes: list[Outcome]
    digest: bytes


def measure(
    predictor: Predictor,
    items: Sequence[EvaluationItem],
    variants: tuple[Variant, ...] = (),
    progress: Progress | None = None,
    *,
    batch_size: int = BATCH_SIZE,
    limits: PictureLimits | None = None,
) -> Measurement:
    """Run a student over labelled pictures.

    Args:
        predictor: the loaded student; its card gives calibration and version.
        items: pictures with their labels and true masks.
        variants: what the pictures are put through; they are always measured as they are, too.
        progress: called with (pictures done, pictures in all) after each picture.
        batch_size: network inputs per batch.
        limits: byte and pixel limits of a picture.

    Returns:
        What came out, for `model.evaluation_report.summary`; pictures that could not be measured are listed as failures.

    Raises:
        InvalidInput: no items, or masks that do not fit their pictures.
        ModelFailed: the network raised.
    """
    started_s = time.monotonic()
    if not items:
        raise InvalidInput("nothing to evaluate: no pictures")
    check_masks(items)
    outcomes: list[Outcome] = []
    failures: list[Failure] = []
    digests: list[bytes] = []
    for done, result in enumerate(_measured(predictor, items, variants, batch_size, limits or PictureLimits()), start=1):
        if isinstance(result, Failure):
            failures.append(result)
        else:
            outcomes.extend(result.outcomes)
            digests.append(result.digest)
        if progress:
            progress(done, len(items))
    return Measurement(_subject(predictor, digests), variants, outcomes, failures, round(time.monotonic() - started_s, 3))


def _subject(predictor: Predictor, digests: Sequence[bytes]) -> Subject:
    return Subject(
        model_version=predictor.card.version,
        checkpoint_sha256=_checkpoint_sha256(predictor.card),
        engine=predictor.engine.name,
        input_size=predictor.input_size,
        dataset_sha256=hashlib.sha256(b"".join(sorted(digests))).hexdigest(),
        n_pictures=len(digests),
    )


def _measured(
    predictor: Predictor, items: Sequence[EvaluationItem], variants: Sequence[Variant], batch_size: int, limits: PictureLimits
) -> Iterator[_Measured | Failure]:
    """Load, predict and measure, in the items' order; loading and measuring overlap inference."""

    def load(item: EvaluationItem) -> _Loaded | Failure:
        return _guarded(item, lambda: _load(item, predictor.input_size, variants, limits))

    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="evaluate") as pool:
        pending: list[Future[_Measured | Failure]] = []
        loading = _ahead(pool, load, items, 2 * batch_size)
        while group := list(islice(loading, batch_size)):
            predictions = _predicted(predictor, [loaded for loaded in group if isinstance(loaded, _Loaded)], batch_size)
            yield from (future.result() for future in pending)
            pending = [pool.submit(_settled, loaded, predictions, predictor.card) for loaded in group]
        yield from (future.result() for future in pending)


def _ahead(pool: ThreadPoolExecutor, function: Callable[[A], B], items: Iterable[A], window: int) -> Iterator[B]:
    """Map in order, with at most `window` results waiting."""
    waiting: deque[Future[B]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= window:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _load(item: EvaluationItem, input_size: int, variants: Sequence[Variant], limits: PictureLimits) -> _Loaded:
    data = read_bytes(item.image)
    mask_data = read_bytes(item.mask) if item.tampered and item.mask else None
    prepared = prepare(data, input_size, limits)
    pictures = {AS_IS: prepared.pixels}
    if variants:
        image = decode(data, limits)
        pictures |= {variant.name: stretch(variant.apply(image), input_size) for variant in variants}
    parts = (b"tampered" if item.tampered else b"authentic", data, mask_data or b"")
    digest = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()
    return _Loaded(item, pictures, prepared.width_px, prepared.height_px, mask_data, digest)


def _predicted(predictor: Predictor, group: Sequence[_Loaded], batch_size: int) -> dict[tuple[Path, str], Prediction]:
    """Predictions by picture and variant."""
    keys = [(loaded.item.image, name) for loaded in group for name in loaded.pictures]
    inputs = [picture for loaded in group for picture in loaded.pictures.values()]
    batches = (inputs[start : start + batch_size] for start in range(0, len(inputs), batch_size))
    predictions = [prediction for batch in batches for prediction in predictor.predict(batch)]
    return dict(zip(keys, predictions, strict=True))


def _settled(loaded: _Loaded | Failure, predictions: dict[tuple[Path, str], Prediction], card: Card) -> _Measured | Failure:
    if isinstance(loaded, Failure):
        return loaded
    return _guarded(loaded.item, lambda: _measure(loaded, predictions, card))


def _measure(loaded: _Loaded, predictions: dict[tuple[Path, str], Prediction], card: Card) -> _Measured:
    item, truth_orig = loaded.item, None
    if loaded.mask_data is not None:
        truth_orig = true_mask(loaded.mask_data, loaded.width_px, loaded.height_px)
    outcomes = []
    for name in loaded.pictures:
        prediction = predictions[item.image, name]
        mask_orig = np.asarray(full_size_mask(prediction.mask_net, loaded.width_px, loaded.height_px))
        counts = count_pixels(mask_orig, truth_orig) if truth_orig is not None else None
        probability = score(prediction.score_logit, card.calibration)
        outcomes.append(
            Outcome(
                image=item.image,
                set_name=item.set_name,
                tampered=item.tampered,
                variant=name,
                f1=counts.f1 if counts else None,
                iou=counts.iou if counts else None,
                auc=counts.auc if counts else None,
                alarm_area=alarm_area(mask_orig),
                score_logit=prediction.score_logit,
                score=probability,
                verdict=verdict(probability, card.calibration),
                pointing=pointing(mask_orig, item.boxes) if item.tampered else None,
            )
        )
    return _Measured(outcomes, loaded.digest)


def _guarded(item: EvaluationItem, work: Callable[[], A]) -> A | Failure:
    """The work's result, or the picture's own failure."""
    try:
        return work()
    except TamperwatchError as error:
        return Failure(image=str(item.image), code=error.code, message=error.message)


def _checkpoint_sha256(card: Card) -> str | None:
    """The hash of the weights a report names: the safetensors where the card lists them, else the exported ones."""
    record = card.files.get("safetensors") or card.files.get("openvino_bin")
    return record.sha256 if record else None
