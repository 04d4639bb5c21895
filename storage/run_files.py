"""What a retraining run left in the blob store beside its candidate: the curves of its training, and the scores of the hold-out.

All of it may be gone; then there is less to show.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import TamperwatchError
from schemas.learning_tables import RetrainRun
from schemas.states import Verdict
from storage.blobs import BlobStore
from storage.model_changes import Change, Said

_LARGEST_CURVES_BYTES = 5_000_000
_LARGEST_SCORES_BYTES = 200_000_000
_PNG = b"\x89PNG\r\n\x1a\n"


class _Picture(BaseModel):
    """Of one picture's scores (`scheduler.scores`) what is compared here."""

    model_config = ConfigDict(extra="ignore")

    sha256: str
    score: float
    verdict: Verdict


class _Scores(BaseModel):
    model_config = ConfigDict(extra="ignore")

    version: str
    pictures: list[_Picture]


def is_png(data: bytes) -> bool:
    """Whether these bytes say that they are a PNG."""
    return data.startswith(_PNG)


def run_curves(run: RetrainRun | None, blobs: BlobStore) -> bytes | None:
    """The curves of its training, as a PNG."""
    data = _file(run, "curves", blobs, _LARGEST_CURVES_BYTES)
    return data if data is not None and is_png(data) else None


def held_out_changes(run: RetrainRun | None, old: str, blobs: BlobStore) -> list[Change]:
    """What its candidate and the version it was compared with said of each held-out picture; none unless that was `old`."""
    data = _file(run, "scores", blobs, _LARGEST_SCORES_BYTES)
    try:
        stored = json.loads(data) if data is not None else {}
        candidate, live = (_Scores.model_validate(stored[name]) for name in ("candidate", "live"))
        said = {picture.sha256: _said(picture) for picture in live.pictures}
        pictures = [picture for picture in candidate.pictures if picture.sha256 in said and live.version == old]
        return [Change(picture.sha256, said[picture.sha256], _said(picture)) for picture in pictures]
    except (KeyError, TypeError, ValueError, ValidationError):
        return []


def measured(run: RetrainRun | None, old: str) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """Means over the hold-out, of the version it was compared with and of its candidate; None unless that was `old`."""
    found = run.figures.get("measured") if run is not None else None
    if not isinstance(found, dict):
        return None
    live, candidate = found.get("live"), found.get("candidate")
    if not isinstance(live, dict) or not isinstance(candidate, dict) or live.get("version") != old:
        return None
    return live, candidate


def _file(run: RetrainRun | None, name: str, blobs: BlobStore, most_bytes: int) -> bytes | None:
    files = run.figures.get("files") if run is not None else None
    key = files.get(name) if isinstance(files, dict) else None
    if not isinstance(key, str):
        return None
    try:
        return blobs.get(key, most_bytes)
    except (TamperwatchError, ValueError):
        return None


def _said(picture: _Picture) -> Said:
    return Said(picture.score, picture.verdict)
