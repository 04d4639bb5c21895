"""What the scaled decode of JPEGs saves, and how far mask and score move by it.

    python -m benchmarks.decode FOLDER [--pictures 200] [--threads 1]

Every JPEG below FOLDER (at most --pictures of them, spread over the folder) is prepared for the network twice, as a worker does
it and after a full decode, and audited both times with the shipped student or --model. Pictures too small to be scaled, whose
two decodes are one and the same, are counted and left out.
"""

import argparse
import io
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from model import preprocess, stability
from model.calibration import score
from model.card import builtin_directory
from model.metrics import alarm_area, mask_agreement
from model.predictor import Prediction, Predictor
from schemas.settings import WorkerSettings

_SUFFIXES = {".jpg", ".jpeg"}


@dataclass(frozen=True)
class Compared:
    """One picture by both decodes.

    Attributes:
        factor: by how much the scaled decode divides each side.
        scaled_s, full_s: CPU time from the file's bytes to the network's input; other programs do not count.
        score_change: in calibrated score.
        mask_change: mean difference of the two maps, in probability.
        alarm_change: difference of the shares of the picture that are marked.
        agreement: IoU of what is marked; None where neither marks anything.
        flipped: whether the verdict of the first look is another.
        looked_again: whether the worker's decode leads to a second look, which is at the full decode.
    """

    factor: int
    scaled_s: float
    full_s: float
    score_change: float
    mask_change: float
    alarm_change: float
    agreement: float | None
    flipped: bool
    looked_again: bool


def main() -> None:
    """Measure and print."""
    options = _options()
    predictor = Predictor.load(options.model, "openvino", threads=options.threads)
    paths = spread(sorted(path for path in options.folder.rglob("*") if path.suffix.lower() in _SUFFIXES), options.pictures)
    compared = [each for each in (compare(path.read_bytes(), predictor) for path in paths) if each is not None]
    print(f"{predictor.card.version}, input {predictor.input_size}; {len(paths)} JPEGs, {len(compared)} large enough to scale")
    for factor in sorted({each.factor for each in compared}):
        _report(f"1/{factor}", [each for each in compared if each.factor == factor])
    if compared:
        _report("all", compared)


def spread(paths: Sequence[Path], most: int) -> list[Path]:
    """At most so many paths, from everywhere in the list."""
    return [paths[i] for i in np.linspace(0, len(paths) - 1, min(most, len(paths))).astype(int)]


def compare(data: bytes, predictor: Predictor) -> Compared | None:
    """Audit one picture by both decodes; None where they are the same, or the picture can't be read."""
    side = predictor.input_size
    factor = scale_factor(data, side)
    if factor == 1:
        return None
    started = time.thread_time()
    scaled = preprocess.prepare(data, side).pixels
    between = time.thread_time()
    full = preprocess.stretch(preprocess.decode(data), side)
    ended = time.thread_time()
    # One by one: in one batch they could fall to different kernels than each alone.
    (by_scaled,), (by_full,) = predictor.predict([scaled]), predictor.predict([full])
    return _difference(factor, between - started, ended - between, by_scaled, by_full, predictor)


def scale_factor(data: bytes, input_size: int) -> int:
    """By how much the worker's decode divides each side of this JPEG; 1 as well for what is none."""
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            width_px = image.width
            image.draft("RGB", (input_size, input_size))
            return round(width_px / image.width)
    except OSError:
        return 1


def _difference(
    factor: int, scaled_s: float, full_s: float, by_scaled: Prediction, by_full: Prediction, predictor: Predictor
) -> Compared:
    thresholds = predictor.card.calibration
    scores = [score(each.score_logit, thresholds) for each in (by_scaled, by_full)]
    areas = [alarm_area(each.mask_net) for each in (by_scaled, by_full)]
    verdicts = {stability.judge(each, thresholds).verdict for each in scores}
    masks = [each.mask_net.astype(np.float32) / 255 for each in (by_scaled, by_full)]
    return Compared(
        factor,
        scaled_s,
        full_s,
        abs(scores[0] - scores[1]),
        float(np.abs(masks[0] - masks[1]).mean()),
        abs(areas[0] - areas[1]),
        mask_agreement(by_full.mask_net, by_scaled.mask_net) if any(areas) else None,
        len(verdicts) > 1,
        stability.near_threshold(scores[0], thresholds, WorkerSettings().stability_band),
    )


def _report(name: str, compared: Sequence[Compared]) -> None:
    speed_up = sum(each.full_s for each in compared) / sum(each.scaled_s for each in compared)
    marked = [each.agreement for each in compared if each.agreement is not None]
    overlap = (
        f"IoU of {len(marked)} marked: mean {np.mean(marked):.3f}, median {np.median(marked):.3f}" if marked else "none marked"
    )
    flips = [each for each in compared if each.flipped]
    alone = sum(not each.looked_again for each in flips)
    print(
        f"{name:>4}: {len(compared)} pictures, {speed_up:.2f} x as fast to the network's input; "
        f"score {_change(each.score_change for each in compared)}; mask {_change(each.mask_change for each in compared)}; "
        f"area {_change(each.alarm_change for each in compared)}; {overlap}; "
        f"verdict flips {len(flips)}, of which {alone} get no second look"
    )


def _change(values: Iterable[float]) -> str:
    given = sorted(values)
    return f"mean {np.mean(given):.4f}, 95 % {given[len(given) * 95 // 100]:.4f}, max {given[-1]:.4f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=200, help="at most this many, spread over the folder")
    parser.add_argument("--model", type=Path, default=builtin_directory(), help="a student's folder")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the engine; 0 takes all cores")
    return parser.parse_args()


if __name__ == "__main__":
    main()
