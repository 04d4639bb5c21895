from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.card import Calibration, Card, FileRecord
from model.checkpoint import LATER_NUMBERS, WEIGHTS_NAME, load_student, load_weights, round_to_half, save_weights
from model.config import StudentConfig
from model.student import Student
from schemas.errors import ModelInvalid


@pytest.fixture
def folder(tmp_path: Path, tiny: StudentConfig) -> Path:
    """A student's weights and card."""
    save_weights(Student(tiny), tmp_path / WEIGHTS_NAME)
    calibration = Calibration(
        temperature=1, bias=0, review_threshold=0.5, flag_threshold=0.5, review_false_alarm_rate=0.1, flag_false_alarm_rate=0.1
    )
    Card(
        name="t",
        version="t-1",
        created="2024-01-01T00:00:00+00:00",
        student=tiny,
        files={"safetensors": FileRecord.of(tmp_path / WEIGHTS_NAME)},
        calibration=calibration,
        licence="test",
    ).save(tmp_path)
    return tmp_path


def test_what_is_loaded_is_what_was_saved_rounded_to_half(tmp_path: Path, tiny: StudentConfig) -> None:
    student, other = Student(tiny), Student(tiny)
    save_weights(student, tmp_path / "w")
    round_to_half(student)
    load_weights(other, tmp_path / "w")
    for name, tensor in student.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    assert next(other.parameters()).dtype == torch.float32


def test_the_file_holds_halves(tmp_path: Path, tiny: StudentConfig) -> None:
    student = Student(tiny)
    save_weights(student, tmp_path / "w")
    count = sum(parameter.numel() for parameter in student.parameters())
    assert 2 * count < (tmp_path / "w").stat().st_size < 2.5 * count


def test_a_student_comes_back_from_its_folder(folder: Path, tiny: StudentConfig) -> None:
    student = load_student(folder)
    assert student.config == tiny
    assert not student.training


def test_changed_weights_are_refused(folder: Path) -> None:
    path = folder / WEIGHTS_NAME
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelInvalid, match="sha256"):
        load_student(folder)


def test_weights_of_another_student_are_refused(folder: Path) -> None:
    with pytest.raises(ModelInvalid, match="does not hold the weights of this student"):
        load_weights(Student(StudentConfig(backbone="test_efficientnet", input_size=64, width=24)), folder / WEIGHTS_NAME)


def test_a_pickle_is_not_read(tmp_path: Path, tiny: StudentConfig) -> None:
    torch.save(Student(tiny).state_dict(), tmp_path / WEIGHTS_NAME)
    with pytest.raises(ModelInvalid):
        load_weights(Student(tiny), tmp_path / WEIGHTS_NAME)


def test_a_student_from_before_the_mask_could_be_moved_is_read(tmp_path: Path, tiny: StudentConfig) -> None:
    student, path = Student(tiny), tmp_path / "w"
    save_file({name: tensor.clone() for name, tensor in student.state_dict().items() if name not in LATER_NUMBERS}, path)
    student.mask_shift.fill_(3.0)
    load_weights(student, path)
    assert float(student.mask_shift) == float(student.mask_coupling) == 0
