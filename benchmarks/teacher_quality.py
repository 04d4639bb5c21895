"""How good are the pseudo-masks? Teachers against true masks, by set and by looseness of the box.

    python -m benchmarks.teacher_quality DATA [--pictures 20] [--sets nist16 casia2] [--plot teacher.png]
    python -m benchmarks.teacher_quality DATA --sam sam-vit-b --sam-checkpoint sam_vit_b_01ec64.pth --device cuda:0

DATA holds a manifest.csv with boxes and true masks; only its training scenes are read. Beside each teacher's IoU stands that
of the boxes themselves, the mask one would have without a teacher. Below: whether a teacher's own quality figure predicts the
IoU (Spearman's rank correlation over pictures), and the mean IoU by quality, from which to choose `trusted_quality`.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.config import TrainConfig
from model.evaluation_data import true_mask
from model.manifest import Manifest, ManifestRow, read_manifest
from model.preprocess import decode
from model.teacher import BoxTeacher, GrabCutTeacher, covered

MARGINS = (0.0, 0.1, 0.25, 0.5)
BANDS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Measured:
    """One picture at one margin: IoU with the true mask of the pseudo-mask and of the boxes, and the teacher's own quality."""

    set_name: str
    margin: float
    of_mask: float
    of_box: float
    quality: float


def main() -> None:
    arguments = _arguments()
    manifest = read_manifest(arguments.data)
    chosen = list(chosen_rows(manifest, arguments.sets, arguments.pictures))
    teachers: list[BoxTeacher] = [GrabCutTeacher(outside_label=TrainConfig().outside_label)]
    if arguments.sam:
        teachers.append(_sam(arguments.sam, arguments.sam_checkpoint, arguments.device))
    print(f"manifest {manifest.sha256[:12]}, training scenes, {len(chosen)} pictures")
    results = {teacher.name: [one for row in chosen for one in measured(manifest.root, row, teacher)] for teacher in teachers}
    for name, found in results.items():
        print_tables(name, found)
    if arguments.plot:
        plot(results, arguments.plot)


def _sam(kind: str, checkpoint: Path | None, device: str) -> BoxTeacher:
    from model.sam import load_sam_teacher

    return load_sam_teacher(kind, checkpoint, device, TrainConfig().outside_label, lambda *_: None)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pictures", type=int, default=20, help="at most this many a set")
    parser.add_argument("--sets", nargs="+", help="only these sets")
    parser.add_argument("--sam", choices=("sam-vit-b", "sam-vit-l", "sam-vit-h"), help="measure SAM too")
    parser.add_argument("--sam-checkpoint", type=Path, help="the published file; downloaded once where not given")
    parser.add_argument("--device", default="cpu", help="of SAM")
    parser.add_argument("--plot", type=Path, help="PNG to write")
    return parser.parse_args()


def chosen_rows(manifest: Manifest, sets: Sequence[str] | None, pictures: int) -> Iterator[ManifestRow]:
    """Manipulated pictures with box and mask, spread evenly over each set."""
    groups: dict[str, list[ManifestRow]] = defaultdict(list)
    for row in manifest.split("training"):
        if row.tampered and row.mask and row.boxes and (not sets or row.set_name in sets):
            groups[row.set_name].append(row)
    for _, rows in sorted(groups.items()):
        yield from rows[:: max(1, len(rows) // pictures)][:pictures]


def measured(root: Path, row: ManifestRow, teacher: BoxTeacher) -> Iterator[Measured]:
    """One picture at every margin."""
    image = decode((root / row.image).read_bytes())
    truth_orig = true_mask((root / str(row.mask)).read_bytes(), image.width, image.height)
    for margin in MARGINS:
        boxes = [box.loosened(margin, image.width, image.height) for box in row.boxes]
        inside = covered((box.as_tuple() for box in boxes), truth_orig.shape)
        made = teacher.pseudo_mask(image, boxes)
        yield Measured(row.set_name, margin, iou(made.soft > 127, truth_orig), iou(inside, truth_orig), made.quality)


def print_tables(name: str, found: Sequence[Measured]) -> None:
    """IoU by set and margin, correlation by margin, IoU by quality."""
    print(f"\n{name}: mean IoU with the true mask, teacher (and the box itself)")
    print(f"{'set':<12}{'n':>4}" + "".join(f"{f'margin {margin:.0%}':>18}" for margin in MARGINS))
    for set_name in [*sorted({one.set_name for one in found}), "all"]:
        cells = by_margin([one for one in found if set_name in (one.set_name, "all")])
        print(f"{set_name:<12}{len(cells[0]):>4}" + "".join(f"{_mean_ious(cell):>18}" for cell in cells))
    print("does its quality predict that IoU? Spearman's rank correlation over all pictures")
    print(f"{'':<16}" + "".join(f"{rank_correlation(cell):>18.2f}" for cell in by_margin(found)))
    print(f"all margins together: {rank_correlation(found):.2f}\n{'quality':<12}{'n':>4}")
    for low, high in zip((-1.0, *BANDS[:-1]), BANDS, strict=True):
        band = [one for one in found if low < one.quality <= high]
        label = "0" if high == 0 else f"{low:.1f} .. {high:.1f}"
        print(f"{label:<12}{len(band):>4}" + "".join(f"{_mean_ious(cell):>18}" for cell in by_margin(band)))


def by_margin(found: Sequence[Measured]) -> list[list[Measured]]:
    return [[one for one in found if one.margin == margin] for margin in MARGINS]


def plot(results: dict[str, list[Measured]], target: Path) -> None:
    """Left: IoU over margin, teachers and box. Right: IoU over quality, one point a picture and margin."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    over_margin, over_quality = figure.subplots(1, 2)
    for name, found in results.items():
        cells = by_margin(found)
        over_margin.plot(MARGINS, [_mean(one.of_mask for one in cell) for cell in cells], "o-", label=name)
        over_quality.plot([one.quality for one in found], [one.of_mask for one in found], ".", alpha=0.4, label=name)
    over_margin.plot(MARGINS, [_mean(one.of_box for one in cell) for cell in cells], "s--", color="grey", label="the box itself")
    over_margin.set(xlabel="margin of the box, share of its extent", ylabel="mean IoU with the true mask", ylim=(0, 1))
    over_quality.set(xlabel="quality the teacher gives", ylabel="IoU with the true mask", ylim=(0, 1))
    for axes in (over_margin, over_quality):
        axes.legend()
    figure.savefig(target)


def rank_correlation(found: Sequence[Measured]) -> float:
    """Spearman's, of quality and IoU; nan where one of them does not vary."""
    quality, of_mask = ranks([one.quality for one in found]), ranks([one.of_mask for one in found])
    if np.ptp(quality) == 0 or np.ptp(of_mask) == 0:
        return float("nan")
    return float(np.corrcoef(quality, of_mask)[0, 1])


def ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Ranks from 1; equal values share their mean rank."""
    _, place, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[place]


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float((first & second).sum() / max(1, (first | second).sum()))


def _mean_ious(cell: Sequence[Measured]) -> str:
    return f"{_mean(one.of_mask for one in cell):.2f} ({_mean(one.of_box for one in cell):.2f})" if cell else "-"


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


if __name__ == "__main__":
    main()
