"""Files of boxes that people drew elsewhere: CSV or COCO, read whole before anything is stored, all problems at once.

CSV has the columns image,x0,y0,x1,y1 (ends exclusive) and, where you have them, kind,width,height,sha256,source_id,note. Each
line is one box; with `authentic` in column kind and no box it says that the picture is not manipulated. COCO has images and
annotations with bbox [x, y, width, height]; an image with "kind": "authentic" is not manipulated, and one that has neither that
nor an annotation says nothing. Lines and images may come in any order.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from model.box_files import CSV_COLUMNS, CocoAnnotation, CocoImage, widened
from model.csv_lines import SURPLUS, SURPLUS_REMEDY, records
from schemas.errors import InvalidInput
from schemas.geometry import PixelBox
from schemas.states import AnnotationKind
from storage.pictures import SHA256

SOURCE_COLUMN = "source_id"
_KINDS = ("", AnnotationKind.BOXES.value, AnnotationKind.AUTHENTIC.value)


class FileFormat(StrEnum):
    """Formats of boxes."""

    CSV = "csv"
    COCO = "coco"


@dataclass(frozen=True)
class Refusal:
    """Something that cannot be taken: where in the file, and why."""

    where: str
    why: str


@dataclass
class FileWord:
    """All that a file says of one picture.

    Attributes:
        name: as the file has it.
        where: the first place that speaks of it.
        size_px: (width, height) of the upright picture.
        refused: whether anything in the file about it was wrong.
    """

    name: str
    where: str
    sha256: str = ""
    boxes: list[PixelBox] = field(default_factory=list)
    authentic: bool = False
    size_px: tuple[int, int] | None = None
    source_id: str = ""
    note: str = ""
    refused: bool = False

    @property
    def kind(self) -> AnnotationKind:
        return AnnotationKind.AUTHENTIC if self.authentic else AnnotationKind.BOXES


@dataclass(frozen=True)
class AnnotationFile:
    """What a file says.

    Attributes:
        words: one a picture. Pictures with anything wrong are left out whole: a part of their boxes would mislead.
        refusals: everything that is wrong, in the file's order.
        silent: images that the file lists and says nothing of.
    """

    words: list[FileWord]
    refusals: list[Refusal]
    silent: int = 0


def read_annotation_file(file: Path, file_format: FileFormat | None, source_column: str | None) -> AnnotationFile:
    """Read a file of boxes.

    Args:
        file_format: by the file's ending, where it is not given: `.json` is COCO.
        source_column: column or image field that says where the picture comes from; `source_id`, if there is one, by default.

    Raises:
        InvalidInput: the file cannot be read, is not of its format, or says nothing at all.
    """
    chosen = file_format or (FileFormat.COCO if file.suffix.lower() == ".json" else FileFormat.CSV)
    try:
        found = (_read_csv if chosen is FileFormat.CSV else _read_coco)(file, source_column)
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror or error}") from error
    if not found.words and not found.refusals:
        raise InvalidInput(f"{file} says nothing of any picture")
    return found


class _Words:
    """What a file says, collected piece by piece."""

    def __init__(self) -> None:
        self._by_name: dict[str, FileWord] = {}
        self._refusals: list[Refusal] = []

    def of(self, name: str, where: str) -> FileWord:
        return self._by_name.setdefault(name, FileWord(name, where))

    def refuse(self, where: str, why: str, word: FileWord | None = None) -> None:
        self._refusals.append(Refusal(where, why))
        if word is not None:
            word.refused = True

    def settle(self, word: FileWord, where: str, fact: str, value: Any) -> None:
        """Note a fact of the whole picture; two places that contradict each other are refused."""
        earlier = getattr(word, fact)
        if value and earlier and value != earlier:
            self.refuse(where, f"{fact} is {value}, and was {earlier} before", word)
        elif value:
            setattr(word, fact, value)

    def add_sha256(self, word: FileWord, where: str, sha256: str) -> None:
        if sha256 and not SHA256.fullmatch(sha256.lower()):
            self.refuse(where, "sha256 must be 64 hexadecimal digits", word)
        self.settle(word, where, "sha256", sha256.lower())

    def add_size(self, word: FileWord, where: str, width: Any, height: Any) -> None:
        try:
            self.settle(word, where, "size_px", (int(width), int(height)) if width or height else None)
        except (ValueError, TypeError):
            self.refuse(where, "width and height must both be whole numbers, or both be left out", word)

    def add_box(self, word: FileWord, where: str, edges: Iterable[float]) -> None:
        x0, y0, x1, y1 = edges
        try:
            word.boxes.append(widened((x0, y0, x1, y1)))
        except (ValueError, OverflowError):
            shown = ", ".join(f"{edge:g}" for edge in (x0, y0, x1, y1))
            self.refuse(where, f"x0, y0, x1, y1 = {shown} is no box inside a picture; x1 and y1 are exclusive", word)

    def finished(self) -> AnnotationFile:
        for word in self._by_name.values():
            if word.authentic and word.boxes:
                self.refuse(word.where, f"{word.name} is called authentic and has boxes", word)
        sound = [word for word in self._by_name.values() if not word.refused]
        words = [word for word in sound if word.authentic or word.boxes]
        return AnnotationFile(words, self._refusals, silent=len(sound) - len(words))


def _read_csv(file: Path, source_column: str | None) -> AnnotationFile:
    words = _Words()
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            for index, (number, record) in enumerate(records(lines)):
                values = {name: value.strip() for name, value in record.items() if name != SURPLUS}
                if index == 0:
                    _check_columns(values, source_column)
                _take_line(words, f"line {number}", values, SURPLUS in record, source_column or SOURCE_COLUMN)
    except ValueError as error:
        raise InvalidInput(f"{file} cannot be read: {error}") from error
    return words.finished()


def _check_columns(values: dict[str, str], source_column: str | None) -> None:
    """Raises ValueError: a column is missing. Boxes are not needed where column kind says authentic."""
    required = {"image"} | ({source_column} if source_column else set())
    required |= set() if "kind" in values and not set(CSV_COLUMNS[1:]) & set(values) else set(CSV_COLUMNS)
    if missing := sorted(required - set(values)):
        raise ValueError(f"it lacks columns: {', '.join(missing)}; its first line names them, separated by commas")


def _take_line(words: _Words, where: str, values: dict[str, str], surplus: bool, source_column: str) -> None:
    if not values["image"]:
        words.refuse(where, "column image is empty")
        return
    word = words.of(values["image"], where)
    words.add_sha256(word, where, values.get("sha256", ""))
    words.settle(word, where, "source_id", values.get(source_column, ""))
    words.add_size(word, where, values.get("width"), values.get("height"))
    if (note := values.get("note", "")) not in word.note:
        word.note = f"{word.note}; {note}" if word.note else note
    kind, edges = values.get("kind", "").lower(), [values.get(name, "") for name in CSV_COLUMNS[1:]]
    if surplus:
        words.refuse(where, SURPLUS_REMEDY, word)
    elif kind not in _KINDS:
        words.refuse(where, f"kind is {kind}; use boxes or authentic", word)
    elif kind == AnnotationKind.AUTHENTIC and not any(edges):
        word.authentic = True
    elif kind == AnnotationKind.AUTHENTIC:
        words.refuse(where, "an authentic picture has no box", word)
    elif not any(edges):
        words.refuse(where, "no box; if the picture is not manipulated, write authentic in column kind", word)
    else:
        try:
            words.add_box(word, where, [float(edge) for edge in edges])
        except ValueError:
            words.refuse(where, "x0, y0, x1, y1 must be numbers", word)


class _Coco(BaseModel):
    images: list[Any]
    annotations: list[Any]


class _Image(CocoImage):
    model_config = ConfigDict(extra="allow")

    width: int | None = None
    height: int | None = None
    sha256: str = ""
    kind: str = ""


def _read_coco(file: Path, source_column: str | None) -> AnnotationFile:
    try:
        coco = _Coco.model_validate(json.loads(file.read_bytes()))
    except ValidationError as error:
        raise InvalidInput(f"{file} is not COCO with images and annotations: {_first(error)}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{file} is not JSON: {error}") from error
    words = _Words()
    by_id: dict[int | str, FileWord] = {}
    for number, entry in enumerate(coco.images, start=1):
        where = f"image {number}"
        try:
            image = _Image.model_validate(entry)
        except ValidationError as error:
            words.refuse(where, _first(error))
            continue
        if image.id in by_id:
            words.refuse(where, f"id {image.id!r} is that of an image before, too", by_id[image.id])
        else:
            by_id[image.id] = _taken_image(words, where, image, source_column or SOURCE_COLUMN)
    for number, entry in enumerate(coco.annotations, start=1):
        _take_annotation(words, f"annotation {number}", entry, by_id)
    return words.finished()


def _taken_image(words: _Words, where: str, image: _Image, source_column: str) -> FileWord:
    word = words.of(image.file_name, where)
    words.add_sha256(word, where, image.sha256)
    words.settle(word, where, "source_id", str((image.model_extra or {}).get(source_column) or ""))
    words.add_size(word, where, image.width, image.height)
    word.authentic = word.authentic or image.kind == AnnotationKind.AUTHENTIC
    if not image.file_name.isprintable():
        words.refuse(where, "file_name holds characters that cannot be shown", word)
    if image.kind not in _KINDS:
        words.refuse(where, f"kind is {image.kind}; use boxes or authentic", word)
    return word


def _take_annotation(words: _Words, where: str, entry: Any, by_id: dict[int | str, FileWord]) -> None:
    try:
        annotation = CocoAnnotation.model_validate(entry)
    except ValidationError as error:
        of_image = entry.get("image_id") if isinstance(entry, dict) else None
        words.refuse(where, _first(error), by_id.get(of_image) if isinstance(of_image, int | str) else None)
        return
    if annotation.image_id not in by_id:
        words.refuse(where, f"image_id {annotation.image_id!r} is not among the images")
        return
    x, y, width, height = annotation.bbox
    words.add_box(by_id[annotation.image_id], where, (x, y, x + width, y + height))


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'document'}: {first['msg']}"
