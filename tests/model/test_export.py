from pathlib import Path

import numpy as np
import openvino
import pytest
import torch

from model.checkpoint import round_to_half
from model.config import StudentConfig
from model.export import BIN_NAME, check_parity, export_openvino
from model.openvino_engine import openvino_core
from model.student import Student
from schemas.errors import ModelInvalid

pytestmark = pytest.mark.slow


@pytest.fixture
def student(tiny: StudentConfig) -> Student:
    torch.manual_seed(0)
    student = Student(tiny).eval()
    round_to_half(student)
    return student


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), dtype=np.uint8)


def test_both_engines_agree(student: Student, pictures: np.ndarray, tmp_path: Path) -> None:
    parity = check_parity(student, export_openvino(student, tmp_path), pictures)
    assert 0 < parity.prob < 1e-3
    assert parity.score_probability < 1e-3


def test_the_exported_graph_has_its_names_and_a_free_batch(student: Student, tmp_path: Path) -> None:
    model = openvino_core().read_model(export_openvino(student, tmp_path))
    assert model.input("pictures").partial_shape.to_string() == "[?,64,64,3]"
    assert model.input("pictures").element_type == openvino.Type.u8
    assert [output.get_any_name() for output in model.outputs] == ["prob", "score_logit"]
    assert (tmp_path / BIN_NAME).stat().st_size < 2.6 * sum(parameter.numel() for parameter in student.parameters())


def test_engines_that_disagree_are_refused(student: Student, pictures: np.ndarray, tmp_path: Path) -> None:
    xml = export_openvino(student, tmp_path)
    with torch.no_grad():
        student.mask_head.bias.add_(0.1)
    with pytest.raises(ModelInvalid, match="differ by"):
        check_parity(student, xml, pictures)


def test_a_student_that_answers_nonsense_is_refused(student: Student, pictures: np.ndarray, tmp_path: Path) -> None:
    xml = export_openvino(student, tmp_path)
    with torch.no_grad():
        student.score_head.bias.fill_(float("nan"))
    with pytest.raises(ModelInvalid, match="nan"):
        check_parity(student, xml, pictures)
