import pytest
import torch

from model.high_pass import HighPassFrontEnd


@pytest.mark.parametrize("kind", ["srm", "bayar"])
def test_the_map_has_a_quarter_of_the_pictures_side(kind: str) -> None:
    front = HighPassFrontEnd(kind).eval()  # type: ignore[arg-type]
    with torch.inference_mode():
        assert front(torch.randn(2, 3, 64, 64)).shape == (2, front.channels, 16, 16)


@pytest.mark.parametrize("kind", ["srm", "bayar"])
def test_flat_and_sloping_pictures_leave_no_residual(kind: str) -> None:
    """The fixed kernels also kill a slope; the learned ones only what is flat: their weights sum to zero."""
    front = HighPassFrontEnd(kind).eval()  # type: ignore[arg-type]
    kernels = front._constrained() if kind == "bayar" else front.kernels
    assert torch.allclose(kernels.sum((1, 2)), torch.zeros(len(kernels)), atol=1e-5)
    if kind == "srm":
        ramp = torch.arange(5.0).repeat(5, 1)
        assert torch.allclose((kernels * ramp).sum((1, 2)), torch.zeros(3), atol=1e-5)
    assert torch.isfinite(kernels).all()


def test_only_learned_kernels_train() -> None:
    assert not HighPassFrontEnd("srm").kernels.requires_grad
    front = HighPassFrontEnd("bayar")
    front(torch.randn(1, 3, 32, 32)).square().sum().backward()
    assert front.kernels.grad is not None
    assert float(front.kernels.grad.abs().sum()) > 0
