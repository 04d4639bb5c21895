import json
from dataclasses import asdict
from pathlib import Path

import pytest

from model.config import StudentConfig, TrainConfig, load_train_config, train_config_of
from schemas.errors import InvalidInput

CONFIGS = sorted((Path(__file__).parents[2] / "model" / "configs").glob("*.toml"))


def test_the_output_grid_is_a_quarter_of_the_input() -> None:
    assert StudentConfig(input_size=320).mask_size == 80


@pytest.mark.parametrize(
    "changes", [{"input_size": 225}, {"input_size": 0}, {"width": 0}, {"slots": 0}, {"std": (0.0, 1.0, 1.0)}]
)
def test_a_student_that_cannot_be_built_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="student config"):
        StudentConfig(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_configs_that_ship_can_be_read(path: Path) -> None:
    assert path.stem == load_train_config(path).name


def test_a_config_survives_the_way_through_json() -> None:
    config = TrainConfig(student=StudentConfig(mean=(0.5, 0.5, 0.5)), set_weights={"a": 2.0}, notes=("one", "two"))
    assert train_config_of(json.loads(json.dumps(asdict(config)))) == config


def test_every_problem_of_a_config_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('stepz = 3\nsteps = "many"\nfreeze_norm = 1\nnotes = "not a list"\n')
    with pytest.raises(InvalidInput) as caught:
        load_train_config(path)
    for word in ("stepz", "steps must", "freeze_norm must", "notes must"):
        assert word in caught.value.message


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[student]\nwidht = 3", "widht"),
        ("student = 3", "table"),
        ("steps = -1", "steps"),
        ("real_share = 0.9", "share"),
        ("ema_decay = 1.0", "ema_decay"),
        ('pretrained = "web"', "pretrained"),
        ('precision = "int8"', "precision"),
        ("= 3", "TOML"),
    ],
)
def test_a_wrong_config_is_refused_by_name(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=word):
        load_train_config(path)


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"absent\.toml"):
        load_train_config(tmp_path / "absent.toml")


def test_whole_numbers_pass_where_fractions_are_meant(tmp_path: Path) -> None:
    path = tmp_path / "ok.toml"
    path.write_text("limit_minutes = 3\n[set_weights]\na = 2\n")
    config = load_train_config(path)
    assert (config.limit_minutes, config.set_weights) == (3.0, {"a": 2.0})
