"""Which failures are a lack of memory."""

import pytest
import torch

from model.engines import memory_full, ran_out_of_memory
from schemas.errors import DeviceMemoryFull


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        DeviceMemoryFull("2 pictures do not fit"),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"
        ),
        RuntimeError("Exception from src/inference/src/cpp/infer_request.cpp: std::bad_alloc"),
    ],
    ids=lambda error: f"{type(error).__name__}-{str(error)[:20]}",
)
def test_a_lack_of_memory_is_recognised(error: Exception) -> None:
    assert ran_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        ValueError("out of memory"),
    ],
)
def test_another_failure_is_not(error: Exception) -> None:
    assert not ran_out_of_memory(error)


def test_a_tensor_too_large_for_this_machine_is_recognised() -> None:
    """The allocator's own words, in whichever release of torch is installed."""
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 62, dtype=torch.uint8)
    assert ran_out_of_memory(raised.value)


def test_the_message_counts_and_names_the_device() -> None:
    several, single = memory_full(16, "cuda:1", RuntimeError("CUDA out of memory.\nmore")), memory_full(1, "cpu", MemoryError())
    assert several.message.startswith("16 pictures do not fit into the free memory of cuda:1;")
    assert several.message.endswith("(CUDA out of memory.)")
    assert single.message.startswith("a single picture does not fit into the free memory of cpu;")
    assert single.message.endswith("(MemoryError)")
