import json
from pathlib import Path

import pytest
import torch

from model.run_folder import LOG_NAME, RUN_NAME, STATE_NAME, RunFolder
from schemas.errors import DiskFull, InvalidInput, ModelInvalid

IDENTITY = {"config": {"steps": 5, "loader_workers": 1}, "manifest_sha256": "ab", "teacher": "t"}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.claim(IDENTITY, planned=None)
    return folder


def test_the_same_run_may_go_on_and_keeps_its_plan(folder: RunFolder) -> None:
    folder.plan(3)
    folder.claim(IDENTITY, planned=None)
    assert folder.planned_steps() == 3


def test_another_run_is_refused_with_what_differs(folder: RunFolder) -> None:
    with pytest.raises(InvalidInput, match=r"another config.*steps was 5, now 6; teacher was 't', now 'u'\. Name another folder"):
        folder.claim(IDENTITY | {"config": {"steps": 6, "loader_workers": 1}, "teacher": "u"}, planned=None)
    assert folder.record()["teacher"] == "t"


def test_keys_that_change_no_weights_may_change(folder: RunFolder) -> None:
    folder.claim(IDENTITY | {"config": {"steps": 5, "loader_workers": 0}}, planned=None)
    assert folder.record()["config"]["loader_workers"] == 0


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no training run"):
        RunFolder(tmp_path).record()


def test_a_damaged_record_is_named(folder: RunFolder) -> None:
    (folder.path / RUN_NAME).write_text("{")
    with pytest.raises(InvalidInput, match="missing or damaged"):
        folder.claim(IDENTITY, planned=None)


def test_the_log_keeps_every_bit_of_a_loss(folder: RunFolder) -> None:
    loss = float(torch.rand(()))
    folder.log({"step": 1, "total": loss})
    assert folder.entries() == [{"step": 1, "total": loss}]


def test_rewinding_drops_later_steps_and_a_torn_line(folder: RunFolder) -> None:
    for step in (1, 2, 3):
        folder.log({"step": step})
    with (folder.path / LOG_NAME).open("a") as file:
        file.write('{"step": 4, "tot')
    folder.rewind_log(2)
    folder.log({"step": 3})
    lines = (folder.path / LOG_NAME).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]


def test_the_state_comes_back_to_the_bit(folder: RunFolder) -> None:
    assert folder.load_state() is None
    weights = torch.randn(3)
    folder.save_state({"weights": weights, "step": 7})
    state = folder.load_state()
    assert state is not None
    assert torch.equal(state["weights"], weights)
    assert state["step"] == 7


def test_a_damaged_state_says_how_to_mend_it(folder: RunFolder) -> None:
    (folder.path / STATE_NAME).write_bytes(b"not a state")
    with pytest.raises(ModelInvalid, match=r"state\.pt is damaged; delete it to train from the start"):
        folder.load_state()


def test_a_full_disk_leaves_the_last_state(folder: RunFolder) -> None:
    folder.save_state({"step": 1})
    (folder.path / f"{STATE_NAME}.part").symlink_to("/dev/full")
    with pytest.raises(DiskFull, match=r"no space left to write .*state\.pt; the last checkpoint is intact"):
        folder.save_state({"step": 2})
    assert folder.load_state() == {"step": 1}
    assert not (folder.path / f"{STATE_NAME}.part").is_symlink()


def test_a_full_disk_stops_the_log_too(folder: RunFolder) -> None:
    (folder.path / LOG_NAME).symlink_to("/dev/full")
    with pytest.raises(DiskFull, match=r"log\.jsonl"):
        folder.log({"step": 1})


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InvalidInput, match=r"run\.json cannot be written"):
        RunFolder(tmp_path / "file").claim(IDENTITY, planned=1)


def test_evidence_and_summary_are_files_of_their_own(folder: RunFolder) -> None:
    file = folder.save_divergence(12, {"batch": {"pixels": torch.ones(2)}})
    assert file == folder.path / "diverged-step-12.pt"
    assert torch.equal(torch.load(file, weights_only=True)["batch"]["pixels"], torch.ones(2))
    folder.finish({"steps": 5})
    assert folder.summary() == {"steps": 5}
