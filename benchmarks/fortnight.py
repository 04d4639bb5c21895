"""A fortnight of the learning loop, simulated with labelled pictures: does the live model get better, and never worse?

    python -m benchmarks.fortnight DATA --out RUN [--plot fortnight.png]

DATA holds a manifest.csv with boxes and true masks. The first student is trained on half of its sets. The pictures of the others
are annotated over fourteen days by four moderators, boxes loosened by up to a quarter and one in twenty drawn somewhere else, and
each night a real run (selection, GrabCut, training, promotion rule; SQLite, a directory of blobs, a process of its own) makes a
candidate. Every version is also held against true masks that the loop never sees, of pictures no near-duplicate of which
trains: that is what the plot shows. The same command goes on where it was stopped. Pictures are read where they lie, except those
annotated, which the blob store in RUN keeps.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.fortnight_data import NIGHTS, fortnight, write_base
from benchmarks.fortnight_figures import plot, print_table
from benchmarks.fortnight_nights import NightFigures, Nights, read_figures, told

START: Final = {
    "name": "fortnight",
    "student.input_size": "192",
    "threads": "1",
    "loader_workers": "1",
    "steps": "160",
    "ema_decay": "0.99",
    "batch_size": "12",
    "warmup_steps": "20",
    "validation_images": "60",
    "evaluate_every_steps": "200",
    "checkpoint_every_steps": "20",
    "licence": "a simulation, not for use",
}
"""What the first student changes of the recipe `ablation`: EfficientNet-Lite0, at 192 px instead of 224, a beginner, from whom
there is something to gain that a hundred held-out pictures can tell."""

SETTINGS: Final = {
    "ENGINE__THREADS": "1",
    "SCHEDULE__LEASE_S": "60",
    "SELECTION__TUNING_SHARE": "0.2",
    "SELECTION__HOLDOUT_SHARE": "0.3",
    "SELECTION__HOLDOUT_MOST": "260",
    "RETRAIN__STEPS": "240",
    "RETRAIN__LR_HEAD": "6e-4",
    "RETRAIN__LR_BACKBONE": "2e-4",
    "RETRAIN__BATCH": "12",
    "RETRAIN__THREADS": "1",
    "RETRAIN__LOADER_WORKERS": "0",
    "RETRAIN__KEEP_RUNS": "3",
}
"""What a small machine and few pictures change; the rule of promotion is the shipped one."""


def main() -> None:
    arguments = _arguments()
    folder = arguments.out.resolve()
    plan = fortnight(arguments.data)
    base = folder / "base.csv"
    write_base(plan, base)
    student = _first_student(folder, base)
    told(folder, base, SETTINGS)
    nights = Nights(folder, plan)
    nights.begin_with(student)
    file = folder / "nights.jsonl"
    for night in range(len(read_figures(file)) + 1, arguments.nights + 1):
        _note(file, nights.pass_night(night))
    nights.close()
    figures = read_figures(file)
    print_table(figures)
    if arguments.plot:
        plot(figures, arguments.plot)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the simulation; the same one goes on")
    parser.add_argument("--nights", type=int, default=NIGHTS, help="only the first so many")
    parser.add_argument("--plot", type=Path, help="PNG to write")
    return parser.parse_args()


def _first_student(folder: Path, base: Path) -> Path:
    """Trained by the command that everybody trains with; one that is there stays."""
    student = folder / "start" / "student"
    if not student.exists():
        settings = [word for name, value in START.items() for word in ("--set", f"{name}={value}")]
        command = ["train", "--config", "ablation", "--images", str(base), "--out", str(folder / "start"), *settings]
        subprocess.run([sys.executable, "-m", "cli.main", *command], check=True)
    return student


def _note(file: Path, figures: NightFigures) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.write(figures.model_dump_json() + "\n")
    print(f"night {figures.night}: {figures.state} after {figures.wall_s:.0f} s, {figures.cpu_s:.0f} s of CPU; {figures.reason}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
