"""How a night trains on from a student."""

from dataclasses import asdict
from pathlib import Path

import pytest

from model.card import Card, builtin_directory
from model.config import TrainConfig
from scheduler.students import folder_of, run_config
from schemas.errors import EnvironmentMissing, InvalidInput
from schemas.retrain_settings import RetrainSettings
from schemas.settings import BlobSettings, Settings
from schemas.tables import ModelVersion
from storage import registry
from storage.blobs import open_blob_store

CARD = Card.load(builtin_directory())


def told(**changes: object) -> TrainConfig:
    """How ten steps are trained under these settings."""
    return run_config(CARD, Settings(retrain=RetrainSettings.model_validate(changes)), seed=1, steps=10)


def test_the_live_students_own_recipe_with_its_network_and_gentle_rates() -> None:
    config = run_config(CARD, Settings(), seed=5, steps=800)
    recipe = CARD.training["config"]
    assert config.student == CARD.student
    assert (config.seed, config.steps, config.limit_minutes, config.pretrained) == (5, 800, 0.0, "none")
    assert (config.batch_size, config.real_share) == (recipe["batch_size"], recipe["real_share"])
    assert (config.lr_head, config.lr_backbone) == (2e-4, 6e-5) < (recipe["lr_head"], recipe["lr_backbone"])
    assert (config.evaluate_every_steps, config.checkpoint_every_steps) == (100, 20)
    assert config.warmup_steps == min(recipe["warmup_steps"], 80)
    assert config.threads == 0  # this machine's affair, whatever the student was trained on
    # The next night's recipe is this one's: learning rates do not shrink from night to night.
    again = Card.model_validate(CARD.model_dump() | {"training": {"config": asdict(config) | {"steps": 800}}})
    for told_elsewhere in ("name", "student", "licence", "notes"):
        del again.training["config"][told_elsewhere]
    assert run_config(again, Settings(), seed=5, steps=800) == config


def test_a_recipe_by_name_or_file_gives_the_numbers_never_the_network(tmp_path: Path) -> None:
    config = told(recipe="paper", batch=3, threads=1)
    assert (config.student, config.name) == (CARD.student, CARD.name)
    assert (config.batch_size, config.threads, config.teacher) == (3, 1, "grabcut")
    (tmp_path / "mine.toml").write_text('real_share = 0.5\nteacher = "masks"\n')
    mine = told(recipe=str(tmp_path / "mine.toml"))
    assert (mine.real_share, mine.teacher) == (0.5, "grabcut")
    with pytest.raises(InvalidInput, match="neither a file nor a shipped recipe"):
        told(recipe="nonsense")


def test_how_long_is_found_out_before_how_many_steps_are_known() -> None:
    config = run_config(CARD, Settings(), seed=1, steps=10**6, limit_minutes=30.0)
    assert (config.steps, config.limit_minutes, config.evaluate_every_steps) == (10**6, 30.0, 150)


def test_where_a_versions_files_are(tmp_path: Path) -> None:
    settings, blobs = Settings(), open_blob_store(BlobSettings(directory=tmp_path))
    shipped = ModelVersion(version=CARD.version, location=registry.PACKAGE_LOCATION, card={}, reason="")
    assert folder_of(shipped, blobs, settings) == builtin_directory()
    elsewhere = ModelVersion(version="x", location=str(builtin_directory()), card={}, reason="")
    assert folder_of(elsewhere, blobs, settings) == builtin_directory()
    other = ModelVersion(version="student-0", location=registry.PACKAGE_LOCATION, card={}, reason="")
    with pytest.raises(EnvironmentMissing, match="another release"):
        folder_of(other, blobs, settings)
