"""All that is CUDA's alone: which devices are there, streams, pinned memory, recorded graphs.

CUDA graphs are recorded here and not by `torch.compile(mode="reduce-overhead")`: graphs recorded by that are tied to the
thread that compiled, and fail an assertion in others (pytorch issue 123177), while batches come from several threads here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor

from model.hardware import Passage, Step
from schemas.errors import EnvironmentMissing

_LANES: Final = 2
_RUNS_BEFORE_RECORDING: Final = 3  # cuDNN chooses its algorithms, compiled code compiles: neither may happen while recording


def checked_cuda(device: torch.device) -> torch.device:
    """The device with its number.

    Raises:
        EnvironmentMissing: it is not there, or cannot be used; says which are.
    """
    chosen = torch.device("cuda", device.index or 0)
    names = _names()
    if chosen.index >= len(names):
        raise EnvironmentMissing(f"{device} was asked for, but torch sees {_listed(names)}")
    try:
        torch.zeros(1, device=chosen)
    except RuntimeError as error:
        first_line = str(error).strip().partition("\n")[0]
        raise EnvironmentMissing(f"{chosen} ({names[chosen.index]}) is there but cannot be used: {first_line}") from error
    return chosen


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 by itself (Ampere and later)."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


class CudaHardware:
    """One CUDA device: two batches under way, each padded to a size whose work is recorded as a CUDA graph."""

    lanes = _LANES
    fixed_shapes = True

    def __init__(self, device: torch.device) -> None:
        torch.backends.cudnn.benchmark = True  # shapes are few and come again
        self._device = device
        self._copying = torch.cuda.Stream(device)
        self._computing = torch.cuda.Stream(device)
        # Graphs run one after the other on one stream, and answers are copied out on it before the next: so they may share.
        self._pool = torch.cuda.graph_pool_handle()

    def host_buffer(self, *shape: int, dtype: torch.dtype) -> Tensor:
        with torch.cuda.device(self._device):  # else the memory is pinned through device 0, which may be another worker's
            return torch.zeros(shape, dtype=dtype, pin_memory=True)

    def device_buffer(self, *shape: int, dtype: torch.dtype) -> Tensor:
        buffer = torch.zeros(shape, dtype=dtype, device=self._device)
        torch.cuda.synchronize(self._device)  # the zeros are written on another stream than what comes after
        return buffer

    def passage(self) -> Passage:
        return CudaPassage(self._copying, self._computing)

    def record(self, step: Step, pictures: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device):
            with torch.cuda.stream(self._computing):
                for _ in range(_RUNS_BEFORE_RECORDING):
                    step(pictures)
            self._computing.synchronize()
            # thread_local: another version may be serving in other threads while this one gets ready.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._computing, capture_error_mode="thread_local"):
                answers = step(pictures)

        def replay() -> tuple[Tensor, Tensor]:
            graph.replay()
            return answers

        return replay

    def memory_share(self) -> float:
        total_bytes: int = torch.cuda.get_device_properties(self._device).total_memory
        return torch.cuda.max_memory_reserved(self._device) / total_bytes

    def free(self) -> None:
        torch.cuda.empty_cache()


class CudaPassage:
    """Copies on one stream, computing on another; three events tell when a batch has arrived, begun and ended."""

    def __init__(self, copying: torch.cuda.Stream, computing: torch.cuda.Stream) -> None:
        self._copying, self._computing = copying, computing
        self._arrived = torch.cuda.Event()
        self._begun = torch.cuda.Event(enable_timing=True)
        # blocking: a waiting thread sleeps, the cores are busy decoding.
        self._ended = torch.cuda.Event(enable_timing=True, blocking=True)

    @contextmanager
    def sending(self) -> Iterator[None]:
        with torch.cuda.stream(self._copying):
            yield
            self._arrived.record(self._copying)

    @contextmanager
    def computing(self) -> Iterator[None]:
        with torch.cuda.stream(self._computing):
            self._computing.wait_event(self._arrived)
            self._begun.record(self._computing)
            yield
            self._ended.record(self._computing)

    def wait(self) -> float:
        self._ended.synchronize()
        return float(self._begun.elapsed_time(self._ended)) / 1000


def _names() -> list[str]:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [torch.cuda.get_device_name(number) for number in range(count)]


def _listed(names: list[str]) -> str:
    """What there is, in words, and what to do about it."""
    if names:
        found = ", ".join(f"cuda:{number} ({name})" for number, name in enumerate(names))
        return f"only {found}; choose one of these (CUDA_VISIBLE_DEVICES hides others)"
    if torch.version.cuda is None:
        return "no CUDA device: this torch was built without CUDA; install a CUDA build, or use --device cpu"
    return "no CUDA device; check the driver with nvidia-smi, or use --device cpu"
