"""The benchmark of training steps: what it measures, and on a CPU without bfloat16."""

from pathlib import Path

import pytest
import torch

from benchmarks import training
from benchmarks.training import main, noise
from model.config import StudentConfig, TrainConfig

RECIPE = """
steps = 40
[student]
backbone = "tf_efficientnet_lite0"
input_size = 64
width = 8
slots = 4
correlation = 8
"""


def test_a_batch_has_the_shapes_that_the_data_gives() -> None:
    batch = noise(TrainConfig(batch_size=3, student=StudentConfig(input_size=64)))
    shapes = [tuple(part.shape) for part in batch]
    assert shapes == [(3, 64, 64, 3), (3, 16, 16), (3,), (3,), (3,), (3, 8, 8)]
    assert batch.label.tolist() == [0, 1, 0]


@pytest.mark.slow
@pytest.mark.parametrize(("has_bf16", "ways"), [(True, ["float32", "autocast", "mixed"]), (False, ["float32"])])
def test_every_way_is_held_against_float32(
    has_bf16: bool, ways: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE)
    for room in (training, training.trainer_room):
        monkeypatch.setattr(room, "computes_bf16", lambda _: has_bf16)
    threads = torch.get_num_threads()
    main(["--config", str(recipe), "--batch", "2", "--steps", "1", "--rounds", "1", "--threads", "1"])
    torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "tf_efficientnet_lite0 at 64 px, batches of 2, cpu, 1 threads, 1 rounds"
    shown = [line.split() for line in lines[3:]]
    assert [words[0] for words in shown[: len(ways)]] == ways
    assert all(float(words[1]) > 0 for words in shown[: len(ways)])
    assert shown[0][2] == "1.00"
