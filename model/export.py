"""Torch student to OpenVINO IR, and the proof that both say the same."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

from model.openvino_engine import openvino_core
from model.student import ServingStudent, Student
from schemas.errors import ModelInvalid

XML_NAME = "student.xml"
BIN_NAME = "student.bin"
INPUT_NAME = "pictures"
OUTPUT_NAMES = ("prob", "score_logit")
TOLERANCE = 1e-3
PARITY_BATCHES = (1, 8)


@dataclass(frozen=True)
class Parity:
    """Largest absolute differences between the engines over all batches tried; both outputs at fp32 arithmetic."""

    prob: float
    score_probability: float


def export_openvino(student: Student, directory: Path) -> Path:
    """Write `student.xml` and `student.bin` (fp16 weights, dynamic batch) into a folder.

    The front end's graph is saved as it is: OpenVINO's usual conversion folds batch norms into the convolutions first, and
    rounding those products to fp16 moves probabilities by up to 7e-3. The engine folds them itself, in float32, when it compiles.

    Args:
        student: any mode; exported in eval mode. Its weights should already be rounded to fp16.

    Returns:
        Path of the XML file.
    """
    side = student.config.input_size
    front_end = FrontEndManager().load_by_framework("pytorch")
    traced = _traced(ServingStudent(student).eval(), side)  # must outlive the model, which reads its tensors
    model = front_end.convert(front_end.load(traced))
    model.reshape({0: openvino.PartialShape([-1, side, side, 3])})
    model.inputs[0].get_tensor().set_names({INPUT_NAME})
    for output, name in zip(model.outputs, OUTPUT_NAMES, strict=True):
        output.get_tensor().set_names({name})
    path = directory / XML_NAME
    openvino.save_model(model, path, compress_to_fp16=True)
    return path


def _traced(serving: ServingStudent, side: int) -> TorchScriptPythonDecoder:
    """A trace in the form OpenVINO's front end reads."""
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    with torch.inference_mode(), warnings.catch_warnings():
        # It still traces with torch.jit, and the sizes a trace freezes are fixed here anyway.
        warnings.filterwarnings("ignore", message=r".*torch\.jit|Converting a tensor to a Python")
        return TorchScriptPythonDecoder(serving, example_input=(example,))


def check_parity(student: Student, xml: Path, pictures: NDArray[np.uint8], tolerance: float = TOLERANCE) -> Parity:
    """Compare torch and OpenVINO at float32 arithmetic, alone and in batches of eight.

    Args:
        student: float32, weights rounded to fp16, the one that was exported.
        xml: its OpenVINO IR.
        pictures: [N, S, S, 3] uint8, N >= 8; real pictures show more than noise.
        tolerance: on mask probabilities and on the sigmoid of the score.

    Returns:
        The largest differences seen.

    Raises:
        ModelInvalid: the engines differ by more than the tolerance.
    """
    compiled = openvino_core().compile_model(xml, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    serving = ServingStudent(student).eval()
    worst_prob = worst_score = 0.0
    for batch_size in PARITY_BATCHES:
        for start in range(0, len(pictures) - batch_size + 1, batch_size):
            batch = np.ascontiguousarray(pictures[start : start + batch_size])
            with torch.inference_mode():
                prob, score_logit = serving(torch.from_numpy(batch))
            answer = compiled({INPUT_NAME: batch})
            score = torch.from_numpy(answer["score_logit"].copy()).sigmoid()
            # np.maximum keeps a nan, which the comparison below then refuses
            worst_prob = float(np.maximum(worst_prob, np.abs(prob.numpy() - answer["prob"]).max()))
            worst_score = float(np.maximum(worst_score, np.abs(score_logit.sigmoid().numpy() - score.numpy()).max()))
    if not (worst_prob <= tolerance and worst_score <= tolerance):
        seen = f"{worst_prob:.2e} (mask) and {worst_score:.2e} (score)"
        raise ModelInvalid(f"{xml}: OpenVINO and torch differ by {seen}; the limit is {tolerance:.0e}")
    return Parity(worst_prob, worst_score)
