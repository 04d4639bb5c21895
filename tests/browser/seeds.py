"""Pictures that the real student has audited: the samples, and the manipulated ones again as their mirror images.

All go through `tamperwatch audit`: an embedded Redis, a worker process and the student of the package. Scores, maps, regions are
its own. Verdicts are by their rank: the student's thresholds would leave too few of so few pictures to look at.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from PIL import Image, ImageOps
from sqlmodel import col, select

from schemas.states import Verdict
from schemas.tables import AuditResult
from storage.database import Database
from tests.web.process import ROOT

_SAMPLES: Final = ROOT / "samples" / "pictures"
_STORE: Final = ".tamperwatch"
# A busy machine is no defect.
_PATIENT: Final = {
    "PYTHONPATH": str(ROOT),
    "TAMPERWATCH_WORKER__HANG_EXIT_S": "800",
    "TAMPERWATCH_WORKER__PREDICT_TIMEOUT_S": "600",
    "TAMPERWATCH_WORKER__VISIBILITY_TIMEOUT_S": "900",
    "TAMPERWATCH_WORKER__STABILITY_BAND": "0",
    "TAMPERWATCH_WORKER__MAX_BATCH": "4",
}


def audited(folder: Path) -> Path:
    """Audit the pictures, and return the folder with the database and the blobs."""
    pictures = folder / "pictures"
    pictures.mkdir()
    for path in sorted(_SAMPLES.iterdir()):
        (pictures / path.name).write_bytes(path.read_bytes())
        if "-" in path.stem and path.stem != "grace-hopper":
            _again(path, pictures)
    env = {name: value for name, value in os.environ.items() if not name.startswith("TAMPERWATCH_")} | _PATIENT
    argv = [sys.executable, "-m", "cli.main", "audit", str(pictures), "--out", str(folder / "out")]
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    _rank(folder / "out" / _STORE / "tamperwatch.db")
    return folder / "out" / _STORE


def _rank(path: Path) -> None:
    """The upper half is flagged, the rest is for review."""
    database = Database(f"sqlite:///{path}")
    with database.write() as session:
        rows = session.exec(select(AuditResult).order_by(col(AuditResult.score).desc())).all()
        for place, row in enumerate(rows):
            row.verdict = Verdict.FLAG if place < len(rows) / 2 else Verdict.REVIEW
            session.add(row)
    database.close()


def _again(path: Path, folder: Path) -> None:
    """The same forgery as another file."""
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    ImageOps.mirror(image).save(folder / f"{path.stem}-mirrored.jpg", quality=95)
