"""The card that travels with every student: what it is, what its files must hash to, how its score is read."""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model.config import StudentConfig
from schemas.errors import ModelInvalid

CARD_NAME = "card.json"
_HASH_CHUNK_BYTES = 1 << 20


class FileRecord(BaseModel):
    """One file beside the card."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(gt=0)

    @classmethod
    def of(cls, path: Path) -> "FileRecord":
        return cls(name=path.name, sha256=sha256_of(path), bytes=path.stat().st_size)


class Calibration(BaseModel):
    """How a raw image logit becomes a probability and a verdict.

    probability = sigmoid(score_logit / temperature + bias), fitted on validation scenes (Platt 1999). The two
    thresholds are probabilities; each was set for the stated chance of an authentic picture to score above it.
    """

    model_config = ConfigDict(frozen=True)

    temperature: float = Field(gt=0)
    bias: float
    review_threshold: float = Field(ge=0, le=1)
    flag_threshold: float = Field(ge=0, le=1)
    review_false_alarm_rate: float = Field(ge=0, le=1)
    flag_false_alarm_rate: float = Field(ge=0, le=1)


class Card(BaseModel):
    """Everything needed to load, trust and judge one student version."""

    model_config = ConfigDict(frozen=True)

    format: int = 1
    name: str
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    created: str = Field(description="UTC, ISO 8601")
    student: StudentConfig
    files: dict[str, FileRecord] = Field(description="safetensors, openvino_xml, openvino_bin")
    calibration: Calibration
    training: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    licence: str
    notes: list[str] = []

    @classmethod
    def load(cls, directory: Path) -> "Card":
        """Read and validate `card.json` of a student folder.

        Raises:
            ModelInvalid: the card is missing or is not a card of a known format.
        """
        path = directory / CARD_NAME
        try:
            data = path.read_bytes()
            _check_format(data, path)
            return cls.model_validate_json(data)
        except FileNotFoundError as error:
            raise ModelInvalid(f"{path} does not exist; a student folder holds {CARD_NAME} beside its weights") from error
        except (OSError, ValidationError) as error:
            raise ModelInvalid(f"{path} cannot be read as a model card: {error}") from error

    def save(self, directory: Path) -> Path:
        """Write `card.json`, readable by people, into the folder."""
        path = directory / CARD_NAME
        path.write_text(json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return path

    def verified_path(self, directory: Path, key: str) -> Path:
        """The path of one of the card's files, after checking its sha256.

        Raises:
            ModelInvalid: the card lists no such file, or the file is missing or differs from the card.
        """
        record = self.files.get(key)
        if record is None:
            raise ModelInvalid(f"model {self.version} carries no '{key}' file (it has: {', '.join(sorted(self.files))})")
        path = directory / record.name
        if not path.is_file():
            raise ModelInvalid(f"{path} is missing; restore it or reinstall the package")
        try:
            found = sha256_of(path)
        except OSError as error:
            raise ModelInvalid(f"{path} cannot be read: {error.strerror or error}") from error
        if found != record.sha256:
            raise ModelInvalid(f"{path} does not match the sha256 in its card; restore the file, it may be damaged or replaced")
        return path


class _Header(BaseModel):
    """What every format of the card has."""

    format: int = 1


def _check_format(data: bytes, path: Path) -> None:
    """Raises ModelInvalid before the fields of a later format are held against this one's."""
    found = _Header.model_validate_json(data).format
    if found != 1:
        raise ModelInvalid(f"{path} has card format {found}; this release reads format 1, upgrade tamperwatch")


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_HASH_CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def builtin_directory() -> Path:
    """Where the student that ships in the package lies."""
    return Path(__file__).parent / "weights" / "student-4"
