"""The torch engine: precision, compilation, hardware, and memory that runs out."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model import torch_engine
from model.card import Card, builtin_directory
from model.hardware import HostHardware
from model.predictor import Predictor
from model.torch_engine import TorchEngine
from schemas.errors import DeviceMemoryFull, EnvironmentMissing

CARD = Card.load(builtin_directory())
SIDE = CARD.student.input_size


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def engine() -> TorchEngine:
    return TorchEngine(CARD, builtin_directory())


@pytest.fixture(scope="module")
def pictures() -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(2).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8))


class Padding(HostHardware):
    lanes = 2
    fixed_shapes = True

    def __init__(self) -> None:
        self.freed = 0

    def free(self) -> None:
        self.freed += 1


@pytest.mark.slow
def test_padding_changes_no_answer(
    engine: TorchEngine, pictures: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_engine, "hardware_of", lambda _: Padding())
    padding = TorchEngine(CARD, builtin_directory())
    assert (padding.lanes, padding.searches, engine.lanes, engine.searches) == (2, True, 1, False)
    for count in (3, 1):
        masks, logits = engine.masks(pictures[:count])
        padded_masks, padded_logits = padding.masks(pictures[:count])
        assert np.abs(masks.astype(int) - padded_masks).max() <= 1
        assert np.allclose(logits, padded_logits, atol=1e-3)


@pytest.mark.slow
def test_bf16_is_near_float32_and_not_the_same(engine: TorchEngine, pictures: list[NDArray[np.uint8]]) -> None:
    half = TorchEngine(CARD, builtin_directory(), precision="bf16")
    (prob, _), (half_prob, half_logits) = engine(np.stack(pictures)), half(np.stack(pictures))
    assert (half_prob.dtype, half_logits.dtype) == (np.float32, np.float32)
    assert 0 < np.abs(prob - half_prob).mean() < 0.05


@pytest.mark.parametrize(
    ("device", "precision", "capable", "bf16"),
    [("cpu", "auto", True, False), ("cpu", "bf16", True, True), ("cuda", "auto", True, True), ("cuda", "auto", False, False)],
)
def test_auto_is_bf16_where_the_device_has_it(
    monkeypatch: pytest.MonkeyPatch, device: str, precision: str, capable: bool, bf16: bool
) -> None:
    chosen = SimpleCuda() if device == "cuda" else torch.device("cpu")
    monkeypatch.setattr(torch_engine, "checked_device", lambda _: chosen)
    monkeypatch.setattr(torch_engine, "hardware_of", lambda _: HostHardware())
    monkeypatch.setattr(torch_engine, "has_bf16", lambda _: capable)
    monkeypatch.setattr(torch_engine, "load_student", lambda *_: EmptyStudent())
    monkeypatch.setattr(torch_engine, "ServingStudent", lambda student: student)
    made = TorchEngine(CARD, builtin_directory(), precision=precision)  # type: ignore[arg-type]
    assert made._bf16 is bf16
    assert made._module.channels_last is (device == "cuda")


class SimpleCuda:
    """Says of itself that it is a CUDA device."""

    type = "cuda"


class EmptyStudent:
    """Goes wherever it is sent, and remembers in which layout."""

    channels_last = False

    def eval(self) -> "EmptyStudent":
        return self

    def to(self, _: object = None, memory_format: torch.memory_format | None = None) -> "EmptyStudent":
        self.channels_last = self.channels_last or memory_format is torch.channels_last
        return self


def test_a_compiled_student_is_compiled_for_each_size_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []

    def compile(module: object, dynamic: bool) -> object:
        told.append(dynamic)
        return module

    monkeypatch.setattr(torch, "compile", compile)
    Predictor.load(builtin_directory(), "torch", compiled=True)
    assert told == [False]


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_memory_that_runs_out_is_named_and_given_back(
    engine: TorchEngine, pictures: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    hardware = Padding()

    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(engine, "_hardware", hardware)
    monkeypatch.setattr(engine._staging, "run", fail)
    with pytest.raises(DeviceMemoryFull, match="3 pictures do not fit into the free memory of cpu"):
        engine.masks(pictures)
    assert hardware.freed == 1


def test_another_failure_keeps_its_name(
    engine: TorchEngine, pictures: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(engine._staging, "run", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        engine.masks(pictures)


def test_cuda_without_a_gpu_is_the_environments_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(EnvironmentMissing, match="cuda:0 was asked for, but torch sees no CUDA device"):
        Predictor.load(builtin_directory(), device="cuda:0")
