"""What a room may load, shown in fresh interpreters. Who may import whom is import-linter's (pyproject.toml)."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "torchvision", "timm", "openvino"}
_ROOMS_WITHOUT_MODEL = [
    f"{path.parent.name}.{path.stem}" for room in ("schemas", "storage") for path in sorted((ROOT / room).glob("[a-z]*.py"))
]
_PREDICT = """
import numpy as np
from model.card import builtin_directory
from model.predictor import Predictor
predictor = Predictor.load(builtin_directory(), "auto", threads=1)
predictor.predict([np.zeros((predictor.input_size, predictor.input_size, 3), np.uint8)])
"""


def loaded_by(code: str) -> set[str]:
    """The heavy packages in `sys.modules` after running this code."""
    report = f"{code}\nimport sys; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", report], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_shared_words_storage_and_the_queue_load_no_engine() -> None:
    modules = [*_ROOMS_WITHOUT_MODEL, "workers.app", "workers.sweeper", "workers.submission"]
    assert loaded_by("import " + ", ".join(modules)) == set()


def test_the_api_and_its_client_load_no_engine() -> None:
    assert loaded_by("import web.app, web.server, web.client") == set()


def test_the_client_loads_no_server() -> None:
    server = {"celery", "fastapi", "limits", "openvino", "redis", "uvicorn"}
    report = f"import sys, web.client; print(*sorted({server!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", report], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []


def test_choosing_measuring_and_judging_load_no_engine() -> None:
    modules = ("selection", "label_sources", "measurement", "promotion")
    assert loaded_by("import " + ", ".join(f"scheduler.{name}" for name in modules)) == set()


@pytest.mark.slow
def test_the_command_line_loads_no_torch() -> None:
    assert loaded_by("import cli.main") <= {"openvino"}


@pytest.mark.slow
def test_a_worker_loads_no_torch_before_its_engine_is_known() -> None:
    assert loaded_by("import workers.pipeline, workers.runtime, workers.tasks") <= {"openvino"}


@pytest.mark.slow
def test_the_cpu_engine_needs_no_torch() -> None:
    assert loaded_by(_PREDICT) == {"openvino"}
