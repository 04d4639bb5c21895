"""The bundled page, made anew where its sources have changed."""

import subprocess
import sys
from pathlib import Path

FRONTEND = Path(__file__).parents[2] / "web" / "frontend"


def bundled(development: bool = False) -> None:
    """Bundle the page unless that is done."""
    arguments = ["--development"] if development else []
    done = subprocess.run([sys.executable, FRONTEND / "bundle.py", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
