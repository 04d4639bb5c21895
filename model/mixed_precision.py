"""bfloat16 where it is faster than float32, and nowhere else."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from model.cuda import has_bf16

_CPU_BF16 = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
_GROUPS = 6  # place of the argument in torch.conv2d


def computes_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; a CPU without them emulates it, five times as slow as float32."""
    if device.type == "cuda":
        return has_bf16(device)
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # younger than the oldest torch that we take
    return not known or any(known.get(name, False) for name in _CPU_BF16)


@contextmanager
def mixed_precision(device: torch.device) -> Iterator[None]:
    """Autocast to bfloat16; on a CPU depthwise convolutions stay in float32.

    oneDNN has no fast bfloat16 kernel for the gradient of depthwise convolutions with strides or 5 x 5 windows: one takes up to
    nine times as long as in float32, a whole step half as long again (docs/experiments.md, 2026-12-01).
    """
    with torch.autocast(device.type, torch.bfloat16):
        if device.type != "cpu":
            yield
            return
        with _DepthwiseInFloat32():
            yield


class _DepthwiseInFloat32(TorchFunctionMode):
    """Calls grouped `torch.conv2d` outside autocast; its backward pass follows what the forward pass computed in."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        groups = args[_GROUPS] if len(args) > _GROUPS else named.get("groups", 1)
        depthwise = func is torch.conv2d and groups > 1
        if not depthwise:
            return func(*args, **named)
        with torch.autocast("cpu", enabled=False):
            exact = tuple(part.float() if isinstance(part, torch.Tensor) else part for part in args)
            return func(*exact, **named)
