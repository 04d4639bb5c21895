"""How good are the pseudo-masks? Teacher against true masks, by set and by looseness of the box.

    python -m benchmarks.teacher_quality DATA [--pictures 20]

DATA holds a manifest.csv with boxes and true masks; only its training scenes are read.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.evaluation_data import true_mask
from model.manifest import ManifestRow, read_manifest
from model.preprocess import decode
from model.teacher import BoxTeacher, GrabCutTeacher

MARGINS = (0.0, 0.1, 0.25, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pictures", type=int, default=20, help="at most this many a set")
    arguments = parser.parse_args()
    manifest, teacher = read_manifest(arguments.data), GrabCutTeacher(outside_label=0.1)
    groups: dict[str, list[ManifestRow]] = defaultdict(list)
    for row in manifest.split("training"):
        if row.tampered and row.mask and row.boxes:
            groups[row.set_name].append(row)
    print(f"{teacher.name}, manifest {manifest.sha256[:12]}: mean IoU with the true mask, teacher (and the box itself)")
    print(f"{'set':<12}{'n':>4}" + "".join(f"{f'margin {margin:.0%}':>18}" for margin in MARGINS))
    for name, rows in sorted(groups.items()):
        chosen = rows[:: max(1, len(rows) // arguments.pictures)][: arguments.pictures]
        ious = np.mean([measured(manifest.root, row, teacher) for row in chosen], axis=0)
        print(f"{name:<12}{len(chosen):>4}" + "".join(f"{f'{of_mask:.2f} ({of_box:.2f})':>18}" for of_mask, of_box in ious))


def measured(root: Path, row: ManifestRow, teacher: BoxTeacher) -> list[tuple[float, float]]:
    """(IoU of the pseudo-mask, IoU of the boxes) at each margin."""
    image = decode((root / row.image).read_bytes())
    truth_orig = true_mask((root / str(row.mask)).read_bytes(), image.width, image.height)
    ious = []
    for margin in MARGINS:
        boxes = [box.loosened(margin, image.width, image.height) for box in row.boxes]
        inside = np.zeros_like(truth_orig)
        for box in boxes:
            inside[box.y0 : box.y1, box.x0 : box.x1] = True
        ious.append((iou(teacher.pseudo_mask(image, boxes).soft > 127, truth_orig), iou(inside, truth_orig)))
    return ious


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float((first & second).sum() / max(1, (first | second).sum()))


if __name__ == "__main__":
    main()
