from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli import train as verb
from cli.main import app
from model import distill, publish
from model.card import Card
from schemas.errors import EnvironmentMissing, InvalidInput


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    (tmp_path / "c.toml").write_text("steps = 3\noutside_label = 0.2\n")
    (tmp_path / "a.jpg").write_bytes(b"never decoded here")
    (tmp_path / "manifest.csv").write_text("set,image,mask,label\ns,a.jpg,,authentic\n")
    return ["train", "--config", str(tmp_path / "c.toml"), "--images", str(tmp_path), "--out", str(tmp_path / "run")]


def invoke(arguments: list[str]) -> Any:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


@pytest.mark.parametrize("extra", [[], ["--publish"]])
def test_the_verb_trains_then_publishes(
    arguments: list[str], extra: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fake_distill(config: Any, manifest: Any, teacher: Any, run: Path, report: Any, device: str) -> Path:
        calls.append((config.steps, len(manifest.rows), teacher.name, run, device))
        report(distill.Progress("teacher", 1.0, {}))
        report(distill.Progress("student", 0.5, {"step": 2, "total": 0.25}))
        return run

    def fake_publish(run: Path, manifest: Any, directory: Path, report: Any) -> Card:
        calls.append((run, len(manifest.rows), directory))
        report("evaluate", 1, 1)
        overall = {"f1": 0.5, "n_tampered": 2, "fa_area": 0.01, "n_authentic": 3}
        return Card.model_construct(version="s-12345678", metrics={"overall": overall, "image_auc": 0.75})

    monkeypatch.setattr(distill, "distill", fake_distill)
    monkeypatch.setattr(publish, "publish", fake_publish)
    target = tmp_path / "elsewhere" if extra else tmp_path / "run" / "student"
    result = invoke([*arguments, *extra, *([str(target)] if extra else [])])
    assert result.exit_code == 0
    assert calls[0] == (3, 1, "grabcut-320-4-0.1-0.2", tmp_path / "run", "cpu")
    assert calls[1] == (tmp_path / "run", 1, target)
    assert "s-12345678" in result.stdout
    assert "pixel F1 0.500 on 2 manipulated" in result.stdout.replace("\n", " ")


def test_a_config_with_a_typo_is_refused_before_anything_starts(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("stepz = 3\n")
    with pytest.raises(InvalidInput, match="stepz"):
        invoke(arguments)
    assert not (tmp_path / "run").exists()


def test_missing_packages_are_named(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "find_spec", lambda name: None if name == "timm" else object())
    with pytest.raises(EnvironmentMissing, match=r"needs timm: pip install 'tamperwatch\[train\]'"):
        invoke(arguments)
