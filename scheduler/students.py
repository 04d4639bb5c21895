"""Where a version's files are on this machine, and how a run trains on from it."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import model
from model.card import Card, builtin_directory
from model.config import TrainConfig, load_train_config, train_config_of
from schemas.errors import EnvironmentMissing, InvalidInput
from schemas.settings import Settings
from schemas.tables import ModelVersion
from storage import registry
from storage.blobs import BlobStore
from storage.model_files import student_folder

_VALIDATIONS: Final = 8
_PLANNED_EVERY: Final = 150  # steps between two validations, as long as their number is not known
_CHECKPOINT_EVERY: Final = 20
_LEAST_BETWEEN: Final = 25  # two validations: each draws curves and a sheet of pictures
_LEAST_UNSAVED: Final = 5
_WARM_SHARE: Final = 10
TUNING_PICTURES: Final = 200


def folder_of(row: ModelVersion, blobs: BlobStore, settings: Settings) -> Path:
    """The folder of a version's files; fetched from the blob store, if need be.

    Raises:
        ModelInvalid: files are missing or damaged.
        EnvironmentMissing: it came with another release, or there is no place to keep the files.
        BlobStoreUnavailable, DiskFull
    """
    if row.location != registry.PACKAGE_LOCATION:
        return student_folder(blobs, row.location, Path(settings.engine.model_cache))
    packaged = Card.load(builtin_directory()).version
    if packaged != row.version:
        raise EnvironmentMissing(f"{row.version} came with another release than this one, which has {packaged}")
    return builtin_directory()


def run_config(card: Card, settings: Settings, seed: int, steps: int, limit_minutes: float = 0.0) -> TrainConfig:
    """How a run trains: the recipe's numbers, the live student's network, the settings' pace.

    Args:
        card: of the student that training begins from.
        settings: recipe, learning rates, batch, teacher.
        seed: of the run.
        steps: of the whole run.
        limit_minutes: to find out how many steps that is; 0 where it is known.

    Raises:
        InvalidInput: no such recipe, or a value in it is wrong.
    """
    chosen, teacher = settings.retrain, settings.teacher
    values = dict(_recipe(card, chosen.recipe))
    values |= {
        "name": card.name,
        "student": asdict(card.student),
        "licence": card.licence,
        "notes": list(card.notes),
        "pretrained": "none",
        "seed": seed,
        "steps": steps,
        "lr_head": chosen.lr_head,
        "lr_backbone": chosen.lr_backbone,
        "teacher": teacher.model if teacher.uses_sam else "grabcut",
        "limit_minutes": limit_minutes,
        "threads": chosen.threads,
        "loader_workers": chosen.loader_workers,
        "validation_images": TUNING_PICTURES,
        "evaluate_every_steps": _PLANNED_EVERY if limit_minutes else max(_LEAST_BETWEEN, steps // _VALIDATIONS),
        "checkpoint_every_steps": max(_LEAST_UNSAVED, min(_CHECKPOINT_EVERY, steps // _VALIDATIONS)),
    }
    values |= {"batch_size": chosen.batch} if chosen.batch else {}
    warmup_steps = min(train_config_of(values).warmup_steps, max(1, steps // _WARM_SHARE))
    return train_config_of(values | {"warmup_steps": warmup_steps})


def _recipe(card: Card, named: str) -> Mapping[str, Any]:
    if not named:
        trained: Mapping[str, Any] = card.training.get("config", {})
        return trained
    path = Path(named).expanduser()
    shipped = Path(model.__path__[0]) / "configs" / f"{named}.toml"
    if not path.is_file() and shipped.is_file():
        path = shipped
    elif not path.is_file():
        raise InvalidInput(f"TAMPERWATCH_RETRAIN__RECIPE {named!r} is neither a file nor a shipped recipe")
    return asdict(load_train_config(path))
