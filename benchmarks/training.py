"""Pictures a second of training steps, by arithmetic, as ratios of one run.

    python -m benchmarks.training [--config student-3] [--size PX] [--batch 4] [--steps 2] [--rounds 3] [--threads N]

float32    the whole step in single precision
autocast   bfloat16 as `torch.autocast` has it
mixed      bfloat16 as `tamperwatch train` has it: on a CPU, depthwise convolutions stay in float32

Steps are the trainer's own (forward, losses, backward, AdamW, average) on noise; drawing samples is not in them. The three are
measured in turn in every round, so that whatever else the machine does is shared.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from unittest import mock

import torch

import model
from model import trainer as trainer_room
from model.augment import Sample
from model.config import CORRELATION_STRIDE, TrainConfig, load_train_config
from model.mixed_precision import computes_bf16
from model.trainer import Trainer, device_of

WAYS: Final = ("float32", "autocast", "mixed")
_UNKNOWN_MATCH: Final = -2


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = _options(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    config, device = _config(options), device_of(options.device)
    ways = WAYS if computes_bf16(device) else WAYS[:1]
    batch = noise(config)
    steps = {way: _steps(config, device, way, batch) for way in ways}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(options.rounds + 1):
        for way, step in steps.items():
            started_s = time.perf_counter()
            for _ in range(options.steps):
                step()
            if number:  # the first round warms up
                rates[way].append(options.steps * config.batch_size / (time.perf_counter() - started_s))
    show(config, options, rates)


def noise(config: TrainConfig) -> Sample:
    """One batch of the config's shapes; half of it manipulated."""
    side, cells, grid = config.student.input_size, config.student.mask_size, config.student.input_size // CORRELATION_STRIDE
    size, drawn = config.batch_size, torch.Generator().manual_seed(1)
    return Sample(
        pixels=torch.randint(0, 256, (size, side, side, 3), dtype=torch.uint8, generator=drawn),
        soft_mask=torch.randint(0, 256, (size, cells, cells), dtype=torch.uint8, generator=drawn),
        label=(torch.arange(size) % 2).float(),
        weight=torch.ones(size),
        score_weight=torch.ones(size),
        match=torch.full((size, grid, grid), _UNKNOWN_MATCH),
    )


def show(config: TrainConfig, options: argparse.Namespace, rates: dict[str, list[float]]) -> None:
    """Print a table for people."""
    student = config.student
    print(f"{student.backbone} at {student.input_size} px, batches of {config.batch_size}, {options.device},", end=" ")
    print(f"{torch.get_num_threads()} threads, {options.rounds} rounds\n")
    print("            pictures/s   times float32")
    for way, found in rates.items():
        ratios = [one / plain for one, plain in zip(found, rates["float32"], strict=True)]
        spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{way:<12}{statistics.median(found):>10.2f}   {statistics.median(ratios):>7.2f} {spread}")
    if len(rates) == 1:
        print("\nno bfloat16 instructions here: training computes in float32, whatever the recipe says")


def _steps(config: TrainConfig, device: torch.device, way: str, batch: Sample) -> Callable[[], Any]:
    """One step of a trainer that computes in that way."""
    trainer = Trainer(replace(config, precision="fp32" if way == "float32" else "bf16"), device)

    def step() -> None:
        if way != "autocast":
            trainer.train_step(batch, config.steps)
            return
        with mock.patch.object(trainer_room, "mixed_precision", _autocast):
            trainer.train_step(batch, config.steps)

    return step


def _autocast(device: torch.device) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, torch.bfloat16)


def _config(options: argparse.Namespace) -> TrainConfig:
    path = Path(options.config)
    shipped = Path(model.__path__[0]) / "configs" / f"{options.config}.toml"
    config = load_train_config(shipped if shipped.is_file() else path)
    student = replace(config.student, input_size=options.size) if options.size else config.student
    return replace(config, student=student, pretrained="none", batch_size=options.batch)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="student-3", help="a shipped recipe or a file")
    parser.add_argument("--size", type=int, default=0, help="input size in pixels; the recipe's if left out")
    parser.add_argument("--batch", type=int, default=4, help="pictures a step")
    parser.add_argument("--steps", type=int, default=2, help="steps of each way in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="of torch; its own choice if left out")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda:N")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
