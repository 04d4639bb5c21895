"""The CUDA half as far as a machine without CUDA can show it: what is missing is said, and the order of what is asked of it.

A stand-in for `torch.cuda` does the work at once on the CPU and writes down what it was told: that copies and computing wait for
each other as they must can be read off, that a real device is well served cannot.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model import cuda
from model.cuda import CudaHardware, checked_cuda, has_bf16
from model.staging import Staging
from schemas.errors import EnvironmentMissing

SIDE, MASK = 4, 2


def brightness(pictures: Tensor) -> tuple[Tensor, Tensor]:
    return pictures[:, ::2, ::2, 0].clone(), pictures.float().mean((1, 2, 3))


class StandIn:
    """In place of torch, in `model.cuda` alone."""

    def __init__(self, devices: list[str]) -> None:
        self.told: list[str] = []
        self.streams = iter(("copying", "computing"))
        self.events = 0
        self.uint8, self.float32 = torch.uint8, torch.float32
        self.device = torch.device
        self.version = SimpleNamespace(cuda="13.0")
        self.backends = SimpleNamespace(cudnn=SimpleNamespace(benchmark=False))
        self.fails: RuntimeError | None = None
        self.cuda = SimpleNamespace(
            is_available=lambda: bool(devices),
            device_count=lambda: len(devices),
            get_device_name=lambda number: devices[number],
            get_device_capability=lambda device: (8, 0) if "H100" in devices[device.index] else (7, 5),
            get_device_properties=lambda _: SimpleNamespace(total_memory=8_000),
            max_memory_reserved=lambda _: 2_000,
            empty_cache=lambda: self.told.append("empty cache"),
            synchronize=lambda _: None,
            graph_pool_handle=lambda: "pool",
            device=self._within("device"),
            stream=lambda stream: self._within("on")(stream.name),
            Stream=lambda _: self._stream(),
            Event=self._event,
            CUDAGraph=lambda: SimpleNamespace(replay=None),
            graph=self._graph,
        )

    def zeros(self, *shape: Any, dtype: torch.dtype = torch.float32, device: Any = None, pin_memory: bool = False) -> Tensor:
        if self.fails:
            raise self.fails
        self.told.append("pinned" if pin_memory else f"on {device}")
        return torch.zeros(*shape, dtype=dtype)

    def _within(self, word: str) -> Callable[[Any], Any]:
        @contextmanager
        def block(what: Any) -> Iterator[None]:
            self.told.append(f"{word} {what}")
            yield

        return block

    def _stream(self) -> SimpleNamespace:
        name = next(self.streams)
        return SimpleNamespace(
            name=name,
            synchronize=lambda: self.told.append(f"wait for all of {name}"),
            wait_event=lambda event: self.told.append(f"{name} waits for {event.name}"),
        )

    def _event(self, enable_timing: bool = False, blocking: bool = False) -> SimpleNamespace:
        name = ("arrived", "begun", "ended")[self.events % 3]
        self.events += 1
        assert (enable_timing, blocking) == (name != "arrived", name == "ended")
        return SimpleNamespace(
            name=name,
            record=lambda stream: self.told.append(f"{name} noted on {stream.name}"),
            synchronize=lambda: self.told.append(f"thread sleeps until {name}"),
            elapsed_time=lambda _: 250.0,
        )

    @contextmanager
    def _graph(self, graph: Any, pool: str, stream: Any, capture_error_mode: str) -> Iterator[None]:
        assert (pool, stream.name, capture_error_mode) == ("pool", "computing", "thread_local")
        graph.replay = lambda: self.told.append("replay")
        self.told.append("recording")
        yield
        self.told.append("recorded")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn(["H100", "T4"])
    monkeypatch.setattr(cuda, "torch", made)
    return made


def test_a_batch_goes_through_the_streams_in_order(stand_in: StandIn) -> None:
    hardware = CudaHardware(torch.device("cuda:1"))
    staging = Staging(brightness, SIDE, MASK, hardware)
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    staging.run([picture])
    first = list(stand_in.told)
    stand_in.told.clear()
    masks, logits = staging.run([picture])
    assert stand_in.told == [
        "on copying",
        "arrived noted on copying",
        "on computing",
        "computing waits for arrived",
        "begun noted on computing",
        "replay",
        "ended noted on computing",
        "thread sleeps until ended",
    ]
    assert first[-8:] == stand_in.told
    assert (masks.shape, logits.tolist(), staging.busy_s) == ((1, MASK, MASK), [0.0], 0.5)
    assert (hardware.lanes, hardware.fixed_shapes, hardware.memory_share()) == (2, True, 0.25)
    assert stand_in.backends.cudnn.benchmark is True


def test_work_is_recorded_after_it_ran_and_host_memory_is_pinned(stand_in: StandIn) -> None:
    ran: list[int] = []

    def step(pictures: Tensor) -> tuple[Tensor, Tensor]:
        ran.append(len(pictures))
        stand_in.told.append("step")
        return brightness(pictures)

    Staging(step, SIDE, MASK, CudaHardware(torch.device("cuda:1"))).run([np.zeros((SIDE, SIDE, 3), np.uint8)] * 3)
    assert ran == [4] * 4
    recording = stand_in.told.index("recording")
    assert stand_in.told[recording - 5 : recording + 3] == [
        "on computing",
        *["step"] * 3,
        "wait for all of computing",
        "recording",
        "step",
        "recorded",
    ]
    assert stand_in.told.count("pinned") == 2 * 3  # pictures, masks and logits of two lanes
    pinned = stand_in.told.index("pinned")
    assert stand_in.told[pinned - 1] == "device cuda:1"


def test_what_allocators_keep_is_given_back(stand_in: StandIn) -> None:
    CudaHardware(torch.device("cuda:0")).free()
    assert stand_in.told == ["empty cache"]


@pytest.mark.usefixtures("stand_in")
def test_a_device_that_is_there() -> None:
    assert checked_cuda(torch.device("cuda")) == torch.device("cuda:0")
    assert checked_cuda(torch.device("cuda:1")) == torch.device("cuda:1")
    assert [has_bf16(torch.device("cuda", number)) for number in (0, 1)] == [True, False]


@pytest.mark.usefixtures("stand_in")
def test_a_device_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(EnvironmentMissing, match=r"cuda:3 was asked for, but torch sees only cuda:0 \(H100\), cuda:1 \(T4\);"):
        checked_cuda(torch.device("cuda:3"))


def test_a_device_that_is_taken_says_so(stand_in: StandIn) -> None:
    stand_in.fails = RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nmore")
    with pytest.raises(EnvironmentMissing, match=r"^cuda:1 \(T4\) is there but cannot be used: CUDA error.*unavailable$"):
        checked_cuda(torch.device("cuda:1"))


@pytest.mark.parametrize(
    ("built_for", "words"), [("13.0", "check the driver with nvidia-smi"), (None, "this torch was built without CUDA")]
)
def test_no_device_at_all(monkeypatch: pytest.MonkeyPatch, built_for: str | None, words: str) -> None:
    nothing = StandIn([])
    nothing.version.cuda = built_for
    monkeypatch.setattr(cuda, "torch", nothing)
    with pytest.raises(EnvironmentMissing, match=f"cuda:0 was asked for, but torch sees no CUDA device.*{words}"):
        checked_cuda(torch.device("cuda:0"))
