"""Which training config a command means: a file or a shipped recipe by name, with single keys set anew."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import model
from model.config import TrainConfig, load_train_config, train_config_of
from schemas.errors import InvalidInput


def recipe_names() -> list[str]:
    """The shipped recipes, by name."""
    return sorted(path.stem for path in _folder().glob("*.toml"))


def training_config(named: str, settings: Sequence[str]) -> TrainConfig:
    """A training config.

    Args:
        named: a TOML file, or the name of a shipped recipe; a file of that name wins.
        settings: "key=value", later ones win; a table's key is written with a dot. Text needs no quotes, other values are TOML.

    Raises:
        InvalidInput: neither file nor recipe, an unknown key, or a value of the wrong type or range.
    """
    path = Path(named)
    if not path.is_file() and named in recipe_names():
        path = _folder() / f"{named}.toml"
    elif not path.is_file():
        raise InvalidInput(
            f"--config {named} is neither a file nor a shipped recipe; the recipes are {', '.join(recipe_names())}"
        )
    values = asdict(load_train_config(path))
    for setting in settings:
        _set(values, setting)
    return train_config_of(values)


def _folder() -> Path:
    return Path(model.__path__[0]) / "configs"


def _set(values: dict[str, Any], setting: str) -> None:
    """Set one key in place; unknown ones are left for `train_config_of` to name."""
    key, equals, text = setting.partition("=")
    *tables, last = key.strip().split(".")
    if not equals or not last:
        raise InvalidInput(f"--set {setting}: write key=value, for instance --set student.input_size=224")
    table: Any = values
    for name in tables:
        table = table.setdefault(name, {}) if isinstance(table, dict) else None
    if not isinstance(table, dict) or isinstance(table.get(last), Mapping):
        raise InvalidInput(f"--set {setting}: {key.strip()} is not a single value")
    table[last] = _value(text.strip(), isinstance(table.get(last), str))


def _value(text: str, is_text: bool) -> Any:
    """What a TOML file would hold; where text is wanted or nothing else fits, the text itself."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, str) or not is_text else text
