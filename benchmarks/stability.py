"""What a second look at pictures near a threshold costs and changes, by the width of the band that gets one.

    python -m benchmarks.stability DATA [--split validation] [--pictures 400] [--bands 0.1 0.2 0.3 0.5]

DATA is a manifest or a folder of pictures; masks are not read. Every picture is scored twice, as it is and as it gets its
second look in a worker, with the shipped student or --model; the table says which of them each band would have looked at
again. Read the false-alarm rates on pictures that set neither weights nor thresholds.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model import compress, preprocess, stability
from model.calibration import score
from model.card import Calibration, builtin_directory
from model.evaluation_data import EvaluationItem, manifest_items, sample
from model.folders import read_data
from model.predictor import Predictor
from model.splits import clustered
from model.stability import Judgement
from schemas.settings import WorkerSettings


@dataclass(frozen=True)
class TwoLooks:
    """One picture's calibrated scores, and the seconds each took from its bytes on."""

    tampered: bool
    score: float
    second_score: float
    first_s: float
    second_s: float


def main() -> None:
    """Measure and print."""
    options = _options()
    predictor = Predictor.load(options.model, "openvino", threads=options.threads)
    manifest = clustered(read_data(options.data))
    items = sample(manifest_items(manifest, options.split), options.pictures)
    looks = [two_looks(predictor, item) for item in items]
    print(f"{predictor.card.version}, openvino, input {predictor.input_size}, manifest {manifest.sha256[:12]}, {options.split}")
    print(_moves(looks))
    for name, tampered in (("authentic", False), ("tampered", True)):
        _table(name, [each for each in looks if each.tampered is tampered], options.bands, predictor.card.calibration)


def two_looks(predictor: Predictor, item: EvaluationItem) -> TwoLooks:
    """Score one picture as it is, and again after the recompression."""
    data, side, card = item.image.read_bytes(), predictor.input_size, predictor.card
    started = time.perf_counter()
    (first,) = predictor.predict([preprocess.prepare(data, side).pixels])
    between = time.perf_counter()
    recompressed = compress.deliver(preprocess.decode(data), stability.SECOND_LOOK)
    (second,) = predictor.predict([preprocess.stretch(recompressed, side)])
    ended = time.perf_counter()
    scores = [score(each.score_logit, card.calibration) for each in (first, second)]
    return TwoLooks(item.tampered, scores[0], scores[1], between - started, ended - between)


def _moves(looks: Sequence[TwoLooks]) -> str:
    """How far scores move, and what the second look costs."""
    moves = sorted(abs(each.second_score - each.score) for each in looks)
    cost = sum(each.second_s for each in looks) / sum(each.first_s for each in looks)
    middle, high = moves[len(moves) // 2], moves[len(moves) * 9 // 10]
    return f"score moves by {middle:.3f} (median), {high:.3f} (90th percentile); a second look takes {cost:.1f} x the first"


def _table(name: str, looks: Sequence[TwoLooks], bands: Sequence[float], thresholds: Calibration) -> None:
    if not looks:
        return
    columns = ("band", "second look", "verdict flips", "flagged", "to review", "passed")
    print(f"\n{len(looks)} {name} pictures\n" + "".join(f"{column:>18}" for column in columns))
    for band in (0.0, *bands):
        judged = [judged_with(band, each, thresholds) for each in looks]
        counts = [
            sum(each.stable is not None for each in judged),
            sum(each.stable is False for each in judged),
            *(sum(each.verdict == word for each in judged) for word in ("flag", "review", "pass")),
        ]
        print(f"{band:>18g}" + "".join(f"{f'{count} ({count / len(looks):.1%})':>18}" for count in counts))


def judged_with(band: float, each: TwoLooks, thresholds: Calibration) -> Judgement:
    """What a worker with this band would have said."""
    near = stability.near_threshold(each.score, thresholds, band)
    return stability.judge(each.score, thresholds, each.second_score if near else None)


def _options() -> argparse.Namespace:
    default = WorkerSettings().stability_band
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", choices=("training", "validation", "all"), default="validation")
    parser.add_argument("--pictures", type=int, default=None, help="at most this many, spread over the manifest; all if left out")
    parser.add_argument("--bands", type=float, nargs="+", default=sorted({0.1, default, 0.3, 0.5, 1.0}), help="in log-odds")
    parser.add_argument("--model", type=Path, default=builtin_directory(), help="a student's folder")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the engine; 0 takes all cores")
    return parser.parse_args()


if __name__ == "__main__":
    main()
