"""`tamperwatch evaluate` from its options to its report and exit status, with an engine that marks every left half."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from click.testing import Result
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from cli import evaluate as verb
from cli.evaluate import evaluate
from cli.evaluation_files import COLUMNS
from model.card import Calibration, Card, builtin_directory
from model.config import StudentConfig
from model.manifest import is_validation
from model.predictor import Predictor
from schemas.errors import EnvironmentMissing, InvalidInput

CALIBRATION = Calibration(
    temperature=1, bias=0, review_threshold=0.3, flag_threshold=0.9, review_false_alarm_rate=0.05, flag_false_alarm_rate=0.01
)
CARD = Card(
    name="half",
    version="half-1",
    created="2020-01-01T00:00:00+00:00",
    student=StudentConfig(input_size=32),
    files={},
    calibration=CALIBRATION,
    licence="test",
)


class HalfEngine:
    """Probability 1 in the left half, and always suspicious enough for a review."""

    name = "half"

    def __call__(self, pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        prob = np.zeros((len(pictures), 8, 8), np.float32)
        prob[:, :, :4] = 1
        return prob, np.zeros(len(pictures), np.float32)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Put the fake student in the place of any folder; returns what was asked for."""
    asked: list[tuple[Any, ...]] = []

    def load(directory: Path, engine: str, *, device: str) -> Predictor:
        asked.append((directory, engine, device))
        return Predictor(CARD, HalfEngine())

    monkeypatch.setattr("cli.evaluate.Predictor.load", load)
    monkeypatch.setenv("COLUMNS", "100")
    return asked


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with two tampered pictures (left half), their masks, one authentic picture and a manifest of all."""
    for folder in ("images", "masks", "authentic"):
        (tmp_path / folder).mkdir()
    mask = Image.new("L", (40, 20), 0)
    mask.paste(255, (0, 0, 20, 20))
    rows = ["set,image,mask,label"]
    for name in ("a", "b [x]"):
        Image.new("RGB", (40, 20), "navy").save(tmp_path / "images" / f"{name}.jpg")
        mask.save(tmp_path / "masks" / f"{name}.png")
        rows.append(f"real,images/{name}.jpg,masks/{name}.png,tampered")
    Image.new("RGB", (40, 20), "green").save(tmp_path / "authentic" / "c.jpg")
    rows.append("clean,authentic/c.jpg,,authentic")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(evaluate)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refusal(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, InvalidInput)
    return result.exception.message


def test_a_manifest_to_table_and_json(data: Path, loaded: list[tuple[Any, ...]]) -> None:
    result = run("--manifest", data / "manifest.csv", "--profiles", "wechat, facebook", "--json", data / "report.json")

    assert result.exit_code == 0, result.output
    report = json.loads((data / "report.json").read_text(encoding="utf-8"))
    assert (report["model_version"], report["engine"], report["input_size"]) == ("half-1", "half", 32)
    assert report["sets"]["real"]["f1"] == pytest.approx(1.0)
    assert (report["sets"]["clean"]["f1"], report["sets"]["clean"]["review_rate"]) == (None, 1.0)
    assert report["sets"]["clean"]["fa_area"] == pytest.approx(0.5)
    assert list(report["profiles"]) == ["none", "wechat", "facebook"]
    assert [word in result.stdout for word in ("half-1", "real", "clean", "1.000", "wechat", "Simulated")] == [True] * 6
    assert loaded == [(builtin_directory(), "auto", "cpu")]


def test_folders_engine_and_model_folder(data: Path, loaded: list[tuple[Any, ...]]) -> None:
    result = run(
        *("--images", data / "images", "--masks", data / "masks", "--authentic", data / "authentic"),
        *("--model", data, "--engine", "torch", "--device", "cuda:1"),
    )

    assert result.exit_code == 0, result.output
    assert data.name in result.stdout
    assert "Simulated" not in result.stdout
    assert loaded == [(data, "torch", "cuda:1")]


def test_all_profiles(data: Path, loaded: list[tuple[Any, ...]]) -> None:
    result = run("--authentic", data / "authentic", "--profiles", "all", "--json", data / "r.json")

    assert result.exit_code == 0, result.output
    assert len(loaded) == 1
    report = json.loads((data / "r.json").read_text(encoding="utf-8"))
    assert list(report["profile_figures"]) == ["none", "facebook", "weibo", "wechat", "whatsapp"]


def test_sweeps_to_table_and_json(data: Path, loaded: list[tuple[Any, ...]]) -> None:
    result = run("--manifest", data / "manifest.csv", "--sweeps", "all", "--json", data / "r.json")

    assert result.exit_code == 0, result.output
    assert len(loaded) == 1
    report = json.loads((data / "r.json").read_text(encoding="utf-8"))
    assert [point["value"] for point in report["sweeps"]["jpeg"]] == [50, 60, 70, 80, 90, 95, 100]
    assert {point["f1_kept"] for point in report["sweeps"]["resize"]} == {1.0}
    assert {"overall", "image_auc", "value"} <= report["sweeps"]["jpeg"][0].keys()
    assert [word in result.stdout for word in ("JPEG compression", "Both sides", "of clean F1", "100.0 %")] == [True] * 4
    assert "Simulated" not in result.stdout


def test_one_sweep(data: Path, loaded: list[tuple[Any, ...]]) -> None:
    result = run("--authentic", data / "authentic", "--sweeps", "resize", "--json", data / "r.json")

    assert result.exit_code == 0, result.output
    assert len(loaded) == 1
    assert list(json.loads((data / "r.json").read_text(encoding="utf-8"))["sweeps"]) == ["resize"]


def test_a_line_for_every_picture_and_variant(data: Path, loaded: list[tuple[Any, ...]]) -> None:
    result = run("--manifest", data / "manifest.csv", "--profiles", "weibo", "--per-picture", data / "p.csv")

    assert result.exit_code == 0, result.output
    assert len(loaded) == 1
    with (data / "p.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert tuple(lines[0]) == COLUMNS
    assert [line["variant"] for line in lines] == ["none", "weibo"] * 3
    first, last = lines[0], lines[-1]
    assert (Path(first["image"]).name, first["set"], first["label"], first["verdict"]) == ("a.jpg", "real", "tampered", "review")
    assert (float(first["f1"]), float(first["area"]), float(first["score"])) == pytest.approx((1.0, 0.5, 0.5), abs=0.01)
    assert (last["label"], last["f1"], last["iou"], last["auc"]) == ("authentic", "", "", "")


@pytest.mark.slow
def test_plots_and_sheets_into_new_folders(data: Path, loaded: list[tuple[Any, ...]]) -> None:
    result = run("--manifest", data / "manifest.csv", "--plots", data / "deep" / "plots", "--worst", data / "worst")

    assert result.exit_code == 0, result.output
    assert len(loaded) == 1
    plots = ["f1-by-set.png", "reliability.png", "roc.png", "scores.png"]
    assert sorted(path.name for path in (data / "deep" / "plots").iterdir()) == plots
    assert sorted(path.name for path in (data / "worst").iterdir()) == ["false-alarms.png", "worst-localized.png"]
    with Image.open(data / "worst" / "worst-localized.png") as sheet:
        assert sheet.size == (1536, 64 + 226 + 24)


def test_authentic_pictures_alone_have_one_sheet(data: Path, loaded: list[tuple[Any, ...]]) -> None:
    assert run("--authentic", data / "authentic", "--worst", data / "worst").exit_code == 0
    assert [path.name for path in (data / "worst").iterdir()] == ["false-alarms.png"]
    assert len(loaded) == 1


def test_plots_without_matplotlib_say_what_to_install(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "find_spec", lambda _: None)

    result = run("--authentic", data / "authentic", "--plots", data / "plots")

    assert isinstance(result.exception, EnvironmentMissing)
    assert "pip install 'tamperwatch[train]'" in result.exception.message
    assert not (data / "plots").exists()


def test_a_split_keeps_near_duplicates_together(data: Path, loaded: list[tuple[Any, ...]]) -> None:
    """Two scenes on either side of the split hold the same picture: they become one scene, by the smaller name."""
    rng = np.random.default_rng(0)
    twins, other = rng.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    for name, pixels in (("one", twins), ("two", twins), ("three", other)):
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(data / f"{name}.png")
    validation = next(name for name in map(str, range(100, 200)) if is_validation(name))
    training = next(name for name in map(str, range(200, 300)) if not is_validation(name))
    lines = ["set,image,mask,label,scene", f"s,one.png,,authentic,{validation}"]
    lines += [f"s,two.png,,authentic,{training}", f"s,three.png,,authentic,{training}x"]
    (data / "twins.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    result = run("--manifest", data / "twins.csv", "--split", "validation", "--json", data / "r.json")

    assert result.exit_code == 0, result.output
    assert len(loaded) == 1
    by_cluster = 2 + is_validation(f"{training}x")
    assert json.loads((data / "r.json").read_text(encoding="utf-8"))["n_pictures"] == by_cluster


def test_a_broken_picture_is_listed_and_ends_with_status_1(data: Path, loaded: list[tuple[Any, ...]]) -> None:
    (data / "images" / "b [x].jpg").write_bytes(b"")

    result = run("--manifest", data / "manifest.csv", "--json", data / "report.json")

    assert result.exit_code == 1
    assert len(loaded) == 1
    assert "b [x].jpg: the file is empty" in result.stderr.replace("\n", "")
    (failure,) = json.loads((data / "report.json").read_text(encoding="utf-8"))["errors"]
    assert (failure["code"], Path(failure["image"]).name) == ("empty", "b [x].jpg")


def test_limit_takes_an_even_sample(data: Path, loaded: list[tuple[Any, ...]]) -> None:
    result = run("--manifest", data / "manifest.csv", "--limit", "2", "--json", data / "r.json")

    assert result.exit_code == 0, result.output
    assert json.loads((data / "r.json").read_text(encoding="utf-8"))["n_pictures"] == 2
    assert len(loaded) == 1


def test_wrong_usage_says_how_to_mend_it(data: Path, loaded: list[tuple[Any, ...]]) -> None:
    manifest = data / "manifest.csv"

    assert "--manifest already names the pictures" in refusal("--manifest", manifest, "--images", data / "images")
    assert "belong together" in refusal("--images", data / "images")
    assert "nothing to evaluate" in refusal()
    assert "--split needs --manifest" in refusal("--authentic", data / "authentic", "--split", "validation")
    assert "folder that exists" in refusal("--manifest", manifest, "--json", data / "nowhere" / "r.json")
    assert "--per-picture" in refusal("--manifest", manifest, "--per-picture", data)
    assert "--plots" in refusal("--manifest", manifest, "--plots", manifest)
    assert "--worst" in refusal("--manifest", manifest, "--worst", manifest)
    assert "unknown profile orkut" in refusal("--manifest", manifest, "--profiles", "orkut")
    assert "unknown sweep zoom" in refusal("--manifest", manifest, "--sweeps", "zoom")
    assert loaded == []


def test_the_help_has_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    result = run("--help")

    assert result.exit_code == 0
    assert "tamperwatch evaluate --manifest data/manifest.csv --split validation" in result.output
