"""Pictures in, masks and raw scores out, on one of two engines that agree to the stated parity.

`openvino` is the default: no torch and no timm are imported. `torch` serves CUDA (bf16, channels-last, optionally
compiled) and is the reference on CPU.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from model.card import Card
from schemas.errors import EnvironmentMissing, InvalidInput

EngineName = Literal["auto", "openvino", "torch"]


@dataclass(frozen=True)
class Prediction:
    """What the network says about one picture.

    Attributes:
        mask_net: [M, M] uint8, probability x 255 that a pixel was manipulated, network frame.
        score_logit: raw image-level logit; `model.calibration.score` reads it.
    """

    mask_net: NDArray[np.uint8]
    score_logit: float


class Engine(Protocol):
    """Runs one batch."""

    name: str

    def __call__(self, pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """[B, S, S, 3] uint8 RGB to probabilities [B, M, M] and score logits [B], float32."""
        ...


class OpenVinoEngine:
    """OpenVINO on the CPU: each picture of a batch runs alone, as many at a time as the CPU has streams for.

    One picture per stream beats one large batch on all cores (the activations of one picture stay in the caches of one
    core), and makes a picture's answer independent of its neighbours by construction. `exact` asks for float32 arithmetic
    where the CPU would choose bfloat16.
    """

    name = "openvino"

    def __init__(self, card: Card, directory: Path, *, threads: int = 0, exact: bool = True) -> None:
        if importlib.util.find_spec("openvino") is None:
            raise EnvironmentMissing("the openvino engine needs the package: pip install openvino")
        import openvino

        xml = card.verified_path(directory, "openvino_xml")
        weights = card.verified_path(directory, "openvino_bin")
        core = openvino.Core()
        options: dict[str, Any] = {"PERFORMANCE_HINT": "THROUGHPUT"}
        if exact:
            options["INFERENCE_PRECISION_HINT"] = "f32"
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        network = core.read_model(xml, weights)
        side = card.student.input_size
        network.reshape([1, side, side, 3])
        self._compiled = core.compile_model(network, "CPU", options)
        self._requests: list[Any] = []

    def __call__(self, pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        # A request for each picture, though only as many run at a time as there are streams: OpenVINO then goes from one
        # to the next by itself, where a callback into Python would have to wait for the interpreter lock in between.
        while len(self._requests) < len(pictures):
            self._requests.append(self._compiled.create_infer_request())
        running = self._requests[: len(pictures)]
        for i, request in enumerate(running):
            request.start_async({"pictures": pictures[i : i + 1]})
        for request in running:
            request.wait()
        answers = [(request.get_tensor("prob").data, request.get_tensor("score_logit").data) for request in running]
        return np.concatenate([prob for prob, _ in answers]), np.concatenate([score_logit for _, score_logit in answers])


class TorchEngine:
    """The same student in torch: float32 on CPU, bfloat16 and channels-last on CUDA."""

    name = "torch"

    def __init__(self, card: Card, directory: Path, *, device: str = "cpu", compiled: bool = False) -> None:
        if importlib.util.find_spec("torch") is None:
            raise EnvironmentMissing("the torch engine needs the extra: pip install 'tamperwatch[gpu]'")
        import torch

        from model.checkpoint import load_student
        from model.student import ServingStudent

        self._torch = torch
        self._device = _torch_device(device)
        module = ServingStudent(load_student(directory, card)).eval().to(self._device)
        self._on_cuda = self._device.type == "cuda"
        if self._on_cuda:
            module = module.to(memory_format=torch.channels_last)
        self._module = torch.compile(module) if compiled else module

    def __call__(self, pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        torch = self._torch
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=self._on_cuda):
            batch = torch.from_numpy(pictures).to(self._device, non_blocking=True)
            prob, score_logit = self._module(batch)
        return prob.float().cpu().numpy(), score_logit.float().cpu().numpy()


class Predictor:
    """A loaded student version."""

    def __init__(self, card: Card, engine: Engine) -> None:
        self.card = card
        self.engine = engine

    @property
    def input_size(self) -> int:
        return self.card.student.input_size

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
    ) -> "Predictor":
        """Load a student folder after checking its files against its card.

        Args:
            directory: folder with card.json, safetensors and OpenVINO files.
            engine: "auto" takes torch for a CUDA device and OpenVINO otherwise.
            device: "cpu" or "cuda:N".
            threads: CPU threads of the OpenVINO engine; 0 leaves it to OpenVINO.
            compiled: `torch.compile` the torch engine (first batches are slow).
            exact: float32 on CPUs that would otherwise use bfloat16 (OpenVINO only).

        Raises:
            ModelInvalid: a file is missing or does not match the card.
            EnvironmentMissing: the engine's packages or the device are not there.
            InvalidInput: the engine cannot run on this device.
        """
        card = Card.load(directory)
        chosen = engine if engine != "auto" else ("openvino" if device == "cpu" else "torch")
        if chosen == "torch":
            return cls(card, TorchEngine(card, directory, device=device, compiled=compiled))
        if device != "cpu":
            raise InvalidInput(f"the openvino engine runs on cpu, not on {device}; use --engine torch")
        return cls(card, OpenVinoEngine(card, directory, threads=threads, exact=exact))

    def predict(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        """Run one batch.

        Args:
            pictures: [S, S, 3] uint8 RGB each, from `model.preprocess`.
        """
        prob, score_logit = self.engine(np.stack(pictures))
        masks_net = np.rint(prob * 255.0).astype(np.uint8)
        return [Prediction(mask, float(logit)) for mask, logit in zip(masks_net, score_logit, strict=True)]


def _torch_device(device: str) -> Any:
    import torch

    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise InvalidInput(f"'{device}' is not a device; use cpu or cuda:N") from error
    if chosen.type not in ("cpu", "cuda"):
        raise InvalidInput(f"the torch engine runs on cpu or cuda:N, not on {device}")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if chosen.type == "cuda" and (chosen.index or 0) >= count:
        found = f"{count} CUDA devices, numbered from 0" if count else "no CUDA device"
        raise EnvironmentMissing(f"{device} was asked for, but torch sees {found}; check the driver, or use --device cpu")
    return chosen
