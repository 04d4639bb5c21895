from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.config import TrainConfig
from model.distill import averaged_student, distill
from model.initial import initial_weights
from model.manifest import Manifest
from model.run_folder import MASKS_NAME, RunFolder
from model.teacher import GrabCutTeacher
from model.trainer import Trainer
from schemas.errors import InvalidInput


@pytest.fixture(scope="module")
def run(drawn: Manifest, tiny_training: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = replace(tiny_training, steps=2)
    return distill(config, drawn, GrabCutTeacher(), tmp_path_factory.mktemp("earlier"), lambda _: None)


def test_a_run_gives_its_averaged_weights_by_name(run: Path, tiny_training: TrainConfig) -> None:
    initial = initial_weights(run, tiny_training.student)
    earlier, _, _ = averaged_student(run)
    assert initial.name.startswith("tiny at step 2 (")
    assert all(torch.equal(initial.state[name], tensor) for name, tensor in earlier.state_dict().items())


def test_training_starts_from_them_at_another_size_too(run: Path, tiny_training: TrainConfig) -> None:
    larger = replace(tiny_training, student=replace(tiny_training.student, input_size=96))
    initial = initial_weights(run, larger.student)
    trainer = Trainer(larger, torch.device("cpu"), initial)
    for student in (trainer.student, trainer.average):
        assert all(torch.equal(initial.state[name], tensor) for name, tensor in student.state_dict().items())


def test_the_run_remembers_where_it_started(run: Path, drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    config, initial = replace(tiny_training, steps=2), initial_weights(run, tiny_training.student)
    distill(config, drawn, GrabCutTeacher(), tmp_path, lambda _: None, initial=initial)
    assert RunFolder(tmp_path).record()["initial"] == initial.name
    with pytest.raises(InvalidInput, match=r"initial was 'tiny at step 2"):
        distill(config, drawn, GrabCutTeacher(), tmp_path, lambda _: None)


def test_no_steps_measure_an_earlier_student_as_it_is_at_another_size(
    run: Path, drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path
) -> None:
    larger = replace(tiny_training, steps=0, student=replace(tiny_training.student, input_size=96))
    initial = initial_weights(run, larger.student)
    distill(larger, drawn, GrabCutTeacher(), tmp_path, lambda _: None, initial=initial)
    student, config, record = averaged_student(tmp_path)
    assert all(torch.equal(initial.state[name], tensor) for name, tensor in student.state_dict().items())
    assert (config.student.input_size, record["step"]) == (96, 0)
    assert "f1_discs" in RunFolder(tmp_path).entries()[-1]
    assert not (tmp_path / MASKS_NAME).exists()


def test_no_steps_and_no_earlier_student_are_refused(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="name it with --initial"):
        distill(replace(tiny_training, steps=0), drawn, GrabCutTeacher(), tmp_path / "run", lambda _: None)
    assert not (tmp_path / "run").exists()


def test_what_was_fitted_for_publishing_is_forgotten(run: Path, tiny_training: TrainConfig, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.claim(RunFolder(run).record(), 2)
    state = RunFolder(run).load_state()
    assert state is not None
    state["average"]["mask_shift"] += 0.5
    folder.save_state(state)
    assert float(initial_weights(tmp_path, tiny_training.student).state["mask_shift"]) == 0


def test_another_network_is_refused_by_what_differs(run: Path, tiny_training: TrainConfig) -> None:
    with pytest.raises(InvalidInput, match="another network than the config's: width is 24, was 16"):
        initial_weights(run, replace(tiny_training.student, width=24))


def test_a_folder_of_neither_kind_is_refused(tmp_path: Path, tiny_training: TrainConfig) -> None:
    with pytest.raises(InvalidInput, match="neither a published student"):
        initial_weights(tmp_path, tiny_training.student)
