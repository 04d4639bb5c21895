"""The student in torch: the engine of CUDA devices, and the reference on the CPU."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.card import Card
from model.checkpoint import load_student
from model.cuda import CudaHardware, checked_cuda, has_bf16
from model.engines import Precision, memory_full, ran_out_of_memory
from model.hardware import Hardware, HostHardware
from model.staging import Staging
from model.student import ServingStudent
from schemas.errors import InvalidInput


class TorchEngine:
    """One student on one device: float32 on the CPU, bfloat16 and channels-last on CUDA.

    Called, it answers in probabilities, step by step; `masks` is what serves: buffers of its own, work recorded for each
    batch size where the device does that, and masks rounded before they come back.
    """

    name = "torch"

    def __init__(
        self, card: Card, directory: Path, *, device: str = "cpu", compiled: bool = False, precision: Precision = "auto"
    ) -> None:
        """Load the weights onto the device.

        Args:
            card: of the student.
            directory: where its files are.
            device: "cpu" or "cuda:N".
            compiled: let `torch.compile` make the device's code; the first batch of each size then takes long.
            precision: of the arithmetic; auto is bfloat16 on CUDA devices that have it, float32 elsewhere.

        Raises:
            ModelInvalid: the weights are missing or damaged.
            EnvironmentMissing: the device is not there.
            InvalidInput: it is no device of torch's, or neither CPU nor CUDA.
        """
        self._device = checked_device(device)
        hardware = hardware_of(self._device)
        self._bf16 = precision == "bf16" or (precision == "auto" and self._device.type == "cuda" and has_bf16(self._device))
        module = ServingStudent(load_student(directory, card)).eval().to(self._device)
        if self._device.type == "cuda":
            module = module.to(memory_format=torch.channels_last)
        self._module = torch.compile(module, dynamic=False) if compiled else module
        self._hardware = hardware
        self._staging = Staging(self._rounded, card.student.input_size, card.student.mask_size, hardware)
        self.lanes, self.searches = hardware.lanes, hardware.fixed_shapes

    @property
    def busy_s(self) -> float:
        """Seconds the device has computed in `masks`."""
        return self._staging.busy_s

    def __call__(self, pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """[B, S, S, 3] uint8 RGB to probabilities [B, M, M] and score logits [B], float32."""
        with torch.inference_mode(), self._arithmetic():
            prob, score_logit = self._module(torch.from_numpy(pictures).to(self._device))
        return prob.float().cpu().numpy(), score_logit.float().cpu().numpy()

    def masks(self, pictures: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """As `BatchEngine.masks`.

        Raises:
            DeviceMemoryFull: so many do not fit; fewer may.
        """
        try:
            return self._staging.run(pictures)
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error):
                raise
            self._hardware.free()
            raise memory_full(len(pictures), str(self._device), error) from error

    def memory_share(self) -> float:
        """As `BatchEngine.memory_share`."""
        return self._hardware.memory_share()

    def _rounded(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures [B, S, S, 3] uint8 to masks [B, M, M] uint8 and score logits [B] float32, all on the device."""
        with self._arithmetic():
            prob, score_logit = self._module(pictures)
        return (prob.float() * 255.0).round().to(torch.uint8), score_logit.float()

    def _arithmetic(self) -> AbstractContextManager[None]:
        arithmetic: AbstractContextManager[None] = torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16)
        return arithmetic


def checked_device(device: str) -> torch.device:
    """A device of this machine, by name.

    Raises:
        InvalidInput: it is no device of torch's, or neither CPU nor CUDA.
        EnvironmentMissing: it is not there.
    """
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise InvalidInput(f"'{device}' is not a device; use cpu or cuda:N") from error
    if chosen.type not in ("cpu", "cuda"):
        raise InvalidInput(f"the torch engine runs on cpu or cuda:N, not on {device}")
    return checked_cuda(chosen) if chosen.type == "cuda" else chosen


def hardware_of(device: torch.device) -> Hardware:
    """What staging needs to know of a device."""
    return CudaHardware(device) if device.type == "cuda" else HostHardware()
