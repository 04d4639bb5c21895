"""Pictures in, masks and raw scores out, on one of two engines that agree to the stated parity.

`openvino` is the default: no torch and no timm are imported. `torch` serves CUDA devices and is the reference on the CPU.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.card import Card
from model.engines import BatchEngine, Engine, EngineName, Precision
from model.openvino_engine import OpenVinoEngine
from schemas.errors import EnvironmentMissing, InvalidInput


@dataclass(frozen=True)
class Prediction:
    """What the network says about one picture.

    Attributes:
        mask_net: [M, M] uint8, probability x 255 that a pixel was manipulated, network frame.
        score_logit: raw image-level logit; `model.calibration.score` reads it.
    """

    mask_net: NDArray[np.uint8]
    score_logit: float


class Predictor:
    """A loaded student version."""

    def __init__(self, card: Card, engine: Engine) -> None:
        self.card = card
        self.engine = engine
        self._batches = engine if isinstance(engine, BatchEngine) else None

    @property
    def input_size(self) -> int:
        return self.card.student.input_size

    @property
    def lanes(self) -> int:
        """How many threads may be in `predict` at once to some gain."""
        return self._batches.lanes if self._batches else 1

    @property
    def searches(self) -> bool:
        """Whether larger batches are worth trying for on this device."""
        return self._batches is not None and self._batches.searches

    @property
    def busy_s(self) -> float:
        """Seconds the device has computed so far; 0 where the engine does not count."""
        return self._batches.busy_s if self._batches else 0.0

    def memory_share(self) -> float:
        """How much of the device's memory has been needed at once so far, 0 to 1; 0 where it is not counted."""
        return self._batches.memory_share() if self._batches else 0.0

    @classmethod
    def load(
        cls,
        directory: Path,
        engine: EngineName = "auto",
        *,
        device: str = "cpu",
        threads: int = 0,
        compiled: bool = False,
        exact: bool = True,
        precision: Precision = "auto",
    ) -> "Predictor":
        """Load a student folder after checking its files against its card.

        Args:
            directory: folder with card.json, safetensors and OpenVINO files.
            engine: "auto" takes torch for a CUDA device and OpenVINO otherwise.
            device: "cpu" or "cuda:N".
            threads: CPU threads of the OpenVINO engine; 0 leaves it to OpenVINO.
            compiled: `torch.compile` the torch engine (first batches are slow).
            exact: float32 on CPUs that would otherwise use bfloat16 (OpenVINO only).
            precision: of the torch engine's arithmetic; auto is bfloat16 on CUDA devices that have it, else float32.

        Raises:
            ModelInvalid: a file is missing or does not match the card.
            EnvironmentMissing: the engine's packages or the device are not there.
            InvalidInput: the engine cannot run on this device.
        """
        card = Card.load(directory)
        chosen = engine if engine != "auto" else ("openvino" if device == "cpu" else "torch")
        if chosen == "torch":
            return cls(card, _torch_engine(card, directory, device, compiled, precision))
        if device != "cpu":
            raise InvalidInput(f"the openvino engine runs on cpu, not on {device}; use --engine torch")
        return cls(card, OpenVinoEngine(card, directory, threads=threads, exact=exact))

    def predict(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        """Run one batch.

        Args:
            pictures: [S, S, 3] uint8 RGB each, from `model.preprocess`.

        Raises:
            DeviceMemoryFull: so many do not fit into the device's memory; fewer may.
        """
        if self._batches:
            masks_net, score_logit = self._batches.masks(pictures)
        else:
            prob, score_logit = self.engine(np.stack(pictures))
            masks_net = np.rint(prob * 255.0).astype(np.uint8)
        return [Prediction(mask, float(logit)) for mask, logit in zip(masks_net, score_logit, strict=True)]


def _torch_engine(card: Card, directory: Path, device: str, compiled: bool, precision: Precision) -> Engine:
    if importlib.util.find_spec("torch") is None:
        raise EnvironmentMissing("the torch engine needs the extra: pip install 'tamperwatch[gpu]'")
    from model.torch_engine import TorchEngine

    return TorchEngine(card, directory, device=device, compiled=compiled, precision=precision)
