from pathlib import Path

import pytest

from cli.recipes import recipe_names, training_config
from model.config import TrainConfig, load_train_config
from schemas.errors import InvalidInput

CONFIGS = Path(__file__).parents[2] / "model" / "configs"


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "c.toml"
    path.write_text('name = "mine"\nsteps = 3\nnotes = ["one"]\n[set_weights]\na = 2.0\n[student]\ninput_size = 64\n')
    return str(path)


def test_every_shipped_recipe_can_be_named() -> None:
    assert recipe_names() == sorted(path.stem for path in CONFIGS.glob("*.toml"))
    for name in recipe_names():
        assert training_config(name, []) == load_train_config(CONFIGS / f"{name}.toml")


def test_a_file_without_settings_is_taken_as_it_is(file: str) -> None:
    assert training_config(file, []) == load_train_config(Path(file))


def test_keys_are_set_at_the_top_in_the_student_and_in_weights(file: str) -> None:
    settings = ["steps=8", "student.input_size = 96", "lr_head=1", "delivery=false", "set_weights.b=0.5", 'notes=["x", "y"]']
    config = training_config(file, settings)
    assert (config.steps, config.student.input_size, config.lr_head, config.delivery) == (8, 96, 1.0, False)
    assert config.set_weights == {"a": 2.0, "b": 0.5}
    assert config.notes == ("x", "y")


@pytest.mark.parametrize(("text", "name"), [("plain", "plain"), ('"quoted"', "quoted"), ("2024", "2024"), ("a=b", "a=b")])
def test_text_needs_no_quotes(file: str, text: str, name: str) -> None:
    assert training_config(file, [f"name={text}"]).name == name


def test_the_later_setting_wins(file: str) -> None:
    assert training_config(file, ["steps=8", "steps=9"]).steps == 9


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("steps", "write key=value"),
        ("=3", "write key=value"),
        ("stepz=3", "unknown key 'stepz'"),
        ("student.inputsize=3", "unknown key 'inputsize'"),
        ("elsewhere.steps=3", "unknown key 'elsewhere'"),
        ("steps=many", "steps must be of the kind of"),
        ("steps=1.5", "steps must be of the kind of"),
        ("steps=true", "steps must be of the kind of"),
        ("student.input_size=33", "multiple of 32"),
        ("steps.more=1", "not a single value"),
        ("student=1", "not a single value"),
        ("teacher=oracle", "teacher 'oracle' is not one of"),
    ],
)
def test_a_wrong_setting_says_what_is_wrong(file: str, setting: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        training_config(file, [setting])


def test_a_name_that_is_neither_lists_the_recipes(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"neither a file nor a shipped recipe; the recipes are .*student-2"):
        training_config("student-0", [])
    with pytest.raises(InvalidInput, match="neither a file"):
        training_config(str(tmp_path / "missing.toml"), [])


def test_settings_alone_change_nothing_else(file: str) -> None:
    assert training_config(file, [f"seed={TrainConfig().seed}"]) == training_config(file, [])
