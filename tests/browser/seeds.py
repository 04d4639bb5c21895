"""Pictures that the real student has audited: the samples, and the manipulated ones again, mirrored and resaved.

All go through `tamperwatch audit`: an embedded Redis, a worker process and the student of the package.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from PIL import Image, ImageOps

from tests.web.process import ROOT

_SAMPLES: Final = ROOT / "samples" / "pictures"
_STORE: Final = ".tamperwatch"


def audited(folder: Path) -> Path:
    """Audit the pictures, and return the folder with the database and the blobs."""
    pictures = folder / "pictures"
    pictures.mkdir()
    for path in sorted(_SAMPLES.iterdir()):
        (pictures / path.name).write_bytes(path.read_bytes())
        if "-" in path.stem and path.stem != "grace-hopper":
            _again(path, pictures)
    env = {name: value for name, value in os.environ.items() if not name.startswith("TAMPERWATCH_")} | {"PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "cli.main", "audit", str(pictures), "--out", str(folder / "out"), "--profiles", "wechat"]
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "out" / _STORE


def _again(path: Path, folder: Path) -> None:
    """The same forgery as two other files."""
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    ImageOps.mirror(image).save(folder / f"{path.stem}-mirrored.jpg", quality=95)
    image.resize((image.width * 3 // 4, image.height * 3 // 4)).save(folder / f"{path.stem}-smaller.png")
