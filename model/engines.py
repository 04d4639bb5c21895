"""What runs a student: the contract of all engines, and how running out of memory is told from other failures."""

from collections.abc import Sequence
from typing import Final, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from schemas.errors import DeviceMemoryFull

EngineName = Literal["auto", "openvino", "torch"]
Precision = Literal["auto", "float32", "bf16"]

# How allocators that raise a plain RuntimeError say it: torch on the CPU, CUDA and its libraries, OpenVINO's C++ runtime.
_WORDS: Final = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "bad_alloc",
    "bad allocation",
    "status_alloc_failed",
)


class Engine(Protocol):
    """Runs one batch and waits for it."""

    name: str

    def __call__(self, pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """[B, S, S, 3] uint8 RGB to probabilities [B, M, M] and score logits [B], float32."""
        ...


@runtime_checkable
class BatchEngine(Engine, Protocol):
    """An engine that gathers pictures where its device reads them and rounds masks before they come back."""

    @property
    def lanes(self) -> int:
        """How many threads may be in `masks` at once to some gain: one waits for the device, the next gathers and sends."""
        ...

    @property
    def searches(self) -> bool:
        """Whether larger batches are worth trying for; a CPU gains nothing from them."""
        ...

    @property
    def busy_s(self) -> float:
        """Seconds the device has computed in `masks` since it was loaded."""
        ...

    def masks(self, pictures: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """[S, S, 3] uint8 RGB each to [B, M, M] uint8, probability x 255 rounded, and score logits [B] float32.

        Raises:
            DeviceMemoryFull: so many do not fit; fewer may.
        """
        ...

    def memory_share(self) -> float:
        """How much of the device's memory this process has needed at once so far, 0 to 1; 0 where it is not counted."""
        ...


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an engine's error says that memory ran out, whichever allocator it came from."""
    if isinstance(error, MemoryError | DeviceMemoryFull):
        return True
    names = {each.__name__ for each in type(error).__mro__}
    return "OutOfMemoryError" in names or (isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS))


def memory_full(count: int, device: str, error: BaseException) -> DeviceMemoryFull:
    """The error of a batch that did not fit."""
    pictures = "a single picture does" if count == 1 else f"{count} pictures do"
    first_line = str(error).strip().partition("\n")[0] or type(error).__name__
    return DeviceMemoryFull(
        f"{pictures} not fit into the free memory of {device}; another process may hold it, or set a smaller "
        f"TAMPERWATCH_WORKER__MAX_BATCH ({first_line})"
    )
