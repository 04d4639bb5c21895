import pytest
import torch
from torch import nn

from model import mixed_precision as room
from model.mixed_precision import computes_bf16, mixed_precision

CPU = torch.device("cpu")


def test_a_gpu_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "has_bf16", lambda device: device.index == 0)
    assert [computes_bf16(torch.device("cuda", number)) for number in (0, 1)] == [True, False]


@pytest.mark.parametrize("named", [False, True])
def test_only_depthwise_convolutions_stay_in_float32(named: bool) -> None:
    torch.manual_seed(1)
    pictures, dense, depthwise = torch.randn(2, 4, 8, 8), torch.randn(4, 4, 3, 3), torch.randn(4, 1, 3, 3)
    with mixed_precision(CPU):
        first = torch.conv2d(pictures, dense)
        second = torch.conv2d(first, depthwise, groups=4) if named else torch.conv2d(first, depthwise, None, 1, 0, 1, 4)
    assert (first.dtype, second.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(second, torch.conv2d(first.float(), depthwise, groups=4))
    assert not torch.is_autocast_enabled("cpu")


def test_gradients_reach_float32_weights_on_both_sides() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 1, 1))
    with mixed_precision(CPU):
        found = layers(torch.randn(2, 3, 8, 8)).float().mean()
    found.backward()
    assert all(part.grad is not None and part.grad.dtype == torch.float32 and part.grad.any() for part in layers.parameters())
