import pytest
import torch

from model.fusion import GatedFusion
from model.memory import MemoryBank

CHANNELS = (4, 6, 8, 10)


@pytest.fixture
def maps() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, count, 16 >> index, 12 >> index) for index, count in enumerate(CHANNELS)]


def test_the_fusion_follows_the_papers_formula(maps: list[torch.Tensor]) -> None:
    """Written out again: F' -> gates -> fused -> a (base * mean gate) + (1 - a) memory."""
    fusion = GatedFusion(CHANNELS, 8, 5).eval()
    assert fusion.balance is not None
    assert fusion.gate is not None
    assert fusion.memory is not None
    torch.nn.init.constant_(fusion.balance, 0.7)
    with torch.inference_mode():
        projected = [
            torch.nn.functional.interpolate(project(x), size=(16, 12), mode="bilinear", align_corners=False)
            for project, x in zip(fusion.project, maps, strict=True)
        ]
        gates = [torch.sigmoid(gate(x)) for gate, x in zip(fusion.gate, projected, strict=True)]
        fused = sum(gate * x for gate, x in zip(gates, projected, strict=True))
        share = torch.sigmoid(torch.tensor(0.7))
        expected = share * fusion.base(fused) * (sum(gates) / 4) + (1 - share) * fusion.memory(fused)
        torch.testing.assert_close(fusion(maps), expected, atol=1e-5, rtol=1e-4)


def test_without_gates_and_memory_only_the_base_is_left(maps: list[torch.Tensor]) -> None:
    fusion = GatedFusion(CHANNELS, 8, 5, memory=False, gates=False).eval()
    with torch.inference_mode():
        projected = [
            torch.nn.functional.interpolate(project(x), size=(16, 12), mode="bilinear", align_corners=False)
            for project, x in zip(fusion.project, maps, strict=True)
        ]
        torch.testing.assert_close(fusion(maps), fusion.base(torch.stack(projected).sum(0)), atol=1e-5, rtol=1e-4)


def test_memory_is_recalled_as_a_mean_of_slot_values() -> None:
    torch.manual_seed(1)
    bank = MemoryBank(8, 5)
    fused = torch.randn(2, 8, 3, 4)
    with torch.inference_mode():
        weights = bank.attention(fused)
        recalled = bank(fused)
        values = bank.value(bank.slots)
    assert weights.shape == (2, 12, 5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 12))
    cell = weights[1, 2 * 4 + 3] @ values  # row 2, column 3
    torch.testing.assert_close(recalled[1, :, 2, 3], cell)


def test_what_is_recalled_depends_on_the_picture() -> None:
    torch.manual_seed(1)
    bank = MemoryBank(8, 5)
    first, second = bank(torch.randn(1, 8, 2, 2)), bank(torch.randn(1, 8, 2, 2))
    assert not torch.allclose(first, second)
