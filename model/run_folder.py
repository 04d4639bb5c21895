"""The folder of one training run: what the run is, its log, its resumable state, its pictures and its summary.

run.json            config, data, teacher, and the number of steps once it is fixed
log.jsonl           one line a step; lines with validation figures have `image_auc` and `f1_<set>`
state.pt            everything needed to go on; replaced whole, so a crash leaves the previous one
pseudo-masks/       what the teacher said
sheets/, curves.png validation pictures and curves, redrawn at every validation
summary.json        written when the run is complete
diverged-step-N.pt  batch and state before a step whose loss was not a number
"""

import errno
import io
import json
import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from schemas.errors import DiskFull, InvalidInput, ModelInvalid

STATE_NAME, RUN_NAME, LOG_NAME, MASKS_NAME = "state.pt", "run.json", "log.jsonl", "pseudo-masks"
SUMMARY_NAME, CURVES_NAME, SHEETS_NAME = "summary.json", "curves.png", "sheets"
PLANNED = "planned_steps"
# May differ between the calls that make one run: they change neither data nor weights.
FREE_KEYS = frozenset({"loader_workers", "checkpoint_every_steps", "licence", "notes"})
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class RunFolder:
    """Reads and writes one run's files.

    Args:
        path: of the folder; made by `claim` if missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def claim(self, identity: Mapping[str, Any], planned: int | None) -> None:
        """Write what this run is, or check that the folder's run is the same.

        Args:
            identity: plain values; "config" holds the training config.
            planned: steps of the whole run, None if a time budget will tell.

        Raises:
            InvalidInput: the folder holds another run; the message lists what differs.
        """
        wanted = json.loads(json.dumps(identity))
        if not (self.path / RUN_NAME).exists():
            self._write_record(wanted | {PLANNED: planned})
            return
        kept = self.record()
        different = _differences(kept["config"], wanted["config"], FREE_KEYS)
        different += _differences({key: kept.get(key) for key in wanted}, wanted, frozenset({"config"}))
        if different:
            listed = "; ".join(different)
            raise InvalidInput(f"{self.path} holds a run of another config, data set or teacher: {listed}. Name another folder")
        self._write_record(wanted | {PLANNED: kept.get(PLANNED)})

    def record(self) -> dict[str, Any]:
        """What the run is.

        Raises:
            InvalidInput: the folder holds no run.
        """
        try:
            record: dict[str, Any] = json.loads((self.path / RUN_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{self.path} holds no training run: {RUN_NAME} is missing or damaged") from error
        return record

    def planned_steps(self) -> int | None:
        """The number of steps of the whole run, None until it is fixed."""
        steps: int | None = self.record().get(PLANNED)
        return steps

    def plan(self, steps: int) -> None:
        """Fix the number of steps, for this and every later call."""
        self._write_record(self.record() | {PLANNED: steps})

    def log(self, entry: Mapping[str, Any]) -> None:
        """Append one line."""
        with _room_for(self.path / LOG_NAME), (self.path / LOG_NAME).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def entries(self) -> list[dict[str, Any]]:
        """All lines of the log, without one that a crash has torn."""
        path = self.path / LOG_NAME
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        return [entry for entry in map(_parsed, lines) if entry is not None]

    def rewind_log(self, step: int) -> None:
        """Drop the lines after a step: the run goes on from there and writes them anew."""
        kept = [entry for entry in self.entries() if entry.get("step", 0) <= step]
        self.write(LOG_NAME, "".join(json.dumps(entry) + "\n" for entry in kept).encode())

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Replace the resumable state.

        Raises:
            DiskFull: no room; the previous state is untouched.
        """
        self.write(STATE_NAME, _packed(state))

    def load_state(self) -> dict[str, Any] | None:
        """The resumable state on the CPU, or None before the first checkpoint.

        Raises:
            ModelInvalid: the file is damaged.
        """
        path = self.path / STATE_NAME
        if not path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
            raise ModelInvalid(f"{path} is damaged; delete it to train from the start") from error
        return state

    def save_divergence(self, step: int, evidence: Mapping[str, Any]) -> Path:
        """Keep the batch and the state before a step that failed; returns the file."""
        return self.write(f"diverged-step-{step}.pt", _packed(evidence))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the summary of the complete run."""
        self.write(SUMMARY_NAME, (json.dumps(summary, indent=2) + "\n").encode())

    def summary(self) -> dict[str, Any]:
        """What `finish` wrote."""
        summary: dict[str, Any] = json.loads((self.path / SUMMARY_NAME).read_text(encoding="utf-8"))
        return summary

    def write(self, name: str, data: bytes) -> Path:
        """Write a file whole or not at all, safe against a crash and a loss of power; returns its path.

        Raises:
            DiskFull: no room; what was there before is untouched.
            InvalidInput: the folder cannot be written to.
        """
        path = self.path / name
        partial = path.with_name(path.name + ".part")
        with _room_for(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with partial.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
        return path

    def _write_record(self, record: Mapping[str, Any]) -> None:
        self.write(RUN_NAME, (json.dumps(record, indent=2) + "\n").encode())


def _packed(state: Mapping[str, Any]) -> bytes:
    """As `torch.save` writes it; through memory, because its own file writer hides why a write failed."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _differences(kept: Mapping[str, Any], wanted: Mapping[str, Any], free: frozenset[str]) -> list[str]:
    """What differs, in words, by key."""
    keys = sorted((kept.keys() | wanted.keys()) - free)
    return [f"{key} was {kept.get(key)!r}, now {wanted.get(key)!r}" for key in keys if kept.get(key) != wanted.get(key)]


@contextmanager
def _room_for(path: Path) -> Iterator[None]:
    """Raises DiskFull for a full disk or quota, InvalidInput for another failure to write."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise DiskFull(
                f"no space left to write {path}; the last checkpoint is intact. Free some and give the same command again"
            ) from error
        raise InvalidInput(f"{path} cannot be written: {error.strerror}") from error
