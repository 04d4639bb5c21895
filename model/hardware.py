"""What a batch meets on its way through a device, and the CPU's answer to it; `model.cuda` has the other one."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor

Step = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Pictures [B, S, S, 3] uint8 on the device to masks [B, M, M] uint8 and score logits [B] float32, there too."""


class Passage(Protocol):
    """The way of one batch after the other through the device; used by one thread at a time."""

    def sending(self) -> AbstractContextManager[None]:
        """Copies made inside go to the device, beside what it computes."""
        ...

    def computing(self) -> AbstractContextManager[None]:
        """Work begun inside starts when what was sent has arrived, and in the order in which batches came here."""
        ...

    def wait(self) -> float:
        """Wait until the work is done and its answers are on the host; the seconds the device computed for it."""
        ...


class Hardware(Protocol):
    """Where a student runs.

    Attributes:
        lanes: batches that may be under way at once: one computes while the next one is gathered and sent.
        fixed_shapes: whether a batch is padded to one of few sizes, for which the work is recorded once.
    """

    lanes: int
    fixed_shapes: bool

    def host_buffer(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """Memory that the device copies from and to without help of the CPU."""
        ...

    def device_buffer(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """Memory of the device."""
        ...

    def passage(self) -> Passage:
        """A way through the device."""
        ...

    def record(self, step: Step, pictures: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
        """A call that takes the step with what then lies in `pictures`; its answers hold until the next such call."""
        ...

    def memory_share(self) -> float:
        """As `BatchEngine.memory_share`."""
        ...

    def free(self) -> None:
        """Give back what allocators keep for later, after memory ran out."""
        ...


class HostPassage:
    """A batch that is computed by whoever brings it."""

    def __init__(self) -> None:
        self._computed_s = 0.0

    @contextmanager
    def sending(self) -> Iterator[None]:
        yield

    @contextmanager
    def computing(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._computed_s = time.perf_counter() - started

    def wait(self) -> float:
        return self._computed_s


class HostHardware:
    """The CPU: nothing to overlap, so one batch at a time, of exactly its own size."""

    lanes = 1
    fixed_shapes = False

    def host_buffer(self, *shape: int, dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype)

    def device_buffer(self, *shape: int, dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype)

    def passage(self) -> Passage:
        return HostPassage()

    def record(self, step: Step, pictures: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
        return lambda: step(pictures)

    def memory_share(self) -> float:
        return 0.0

    def free(self) -> None:
        """The CPU's allocator keeps nothing that it would have to give back."""
