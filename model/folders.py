"""Data sets without a manifest, and the choice between the two.

    data/
        tampered/    manipulated pictures, in subfolders if you like
        authentic/   pictures as they were taken
        masks/       true masks of manipulated pictures, named like them up to the ending; optional where there are boxes
        boxes.csv    image,x0,y0,x1,y1: one box a line, x1 and y1 exclusive; optional where there are masks
        boxes.json   the same as COCO, instead of boxes.csv

Boxes name pictures by their path below `tampered`. Hidden files are passed over; every other file is taken for a picture.
Pictures named alike up to the ending are one scene, so a manipulated picture and its original stay together.
"""

import hashlib
import json
import os
from pathlib import Path

from model.box_files import Boxes, read_box_file
from model.manifest import MANIFEST_NAME, Manifest, ManifestRow, read_manifest
from model.problems import Kind, Problem, refuse
from schemas.errors import InvalidInput
from schemas.geometry import PixelBox

TAMPERED, AUTHENTIC, MASKS = "tampered", "authentic", "masks"
BOX_FILES = ("boxes.csv", "boxes.json")
_LAYOUTS = """Data is a manifest, or a folder in one of two layouts:
- manifest.csv with the columns set,image,mask,label and, where you have them, scene,boxes,width,height,split:
    set,image,mask,label,boxes
    phones,pictures/1.jpg,masks/1.png,tampered,"[[10, 20, 110, 90]]"
    phones,pictures/2.jpg,,authentic,
- folders with tampered/1.jpg, authentic/2.jpg and masks/1.png; instead of masks, or beside them, boxes.csv (or boxes.json, COCO):
    image,x0,y0,x1,y1
    1.jpg,10,20,110,90"""


def read_data(path: Path, *, strict: bool = True) -> Manifest:
    """Read a data set: a manifest, or folders of pictures.

    Args:
        path: a CSV file, a folder that holds `manifest.csv`, or a folder as this module's page shows it.
        strict: as in `model.manifest.read_manifest`.

    Raises:
        InvalidInput: neither of them, with both layouts explained; or what `read_manifest` and `read_folder` raise.
    """
    if path.is_file() or (path / MANIFEST_NAME).is_file():
        return read_manifest(path, strict=strict)
    if (path / TAMPERED).is_dir() or (path / AUTHENTIC).is_dir():
        return read_folder(path, strict=strict)
    what = f"holds neither {MANIFEST_NAME} nor a folder {TAMPERED} or {AUTHENTIC}" if path.is_dir() else "does not exist"
    raise InvalidInput(f"{path} {what}. {_LAYOUTS}")


def read_folder(root: Path, *, strict: bool = True) -> Manifest:
    """Folders of pictures as a manifest; its sha256 is of the files' names, sizes in bytes, and boxes.

    Args:
        root: folder that holds `tampered` or `authentic`; the set is named after it.
        strict: refuse names that are not UTF-8, two masks for one picture, and boxes that are none or of unknown
            pictures. Otherwise they are left out and told in `problems`.

    Raises:
        InvalidInput: an empty folder, two files of boxes, or one that cannot be read; where strict, any of the problems above.
    """
    boxes, problems = _boxes(root)
    masks = masks_by_stem(root / MASKS) if (root / MASKS).is_dir() else {}
    tampered = files_below(root / TAMPERED) if (root / TAMPERED).is_dir() else []
    authentic = files_below(root / AUTHENTIC) if (root / AUTHENTIC).is_dir() else []
    problems += [
        Problem(Kind.LINE, ascii(str(path)), "its name is not UTF-8; rename it")
        for path in (*tampered, *authentic, *(mask for found in masks.values() for mask in found))
        if not _is_utf8(path)
    ]
    rows = []
    for image in filter(_is_utf8, tampered):
        name = image.relative_to(root / TAMPERED)
        found = [mask for mask in masks.get(name.with_suffix(""), []) if _is_utf8(mask)]
        if len(found) > 1:
            problems.append(Problem(Kind.MASK, _posix(image, root), f"{len(found)} masks are named like it"))
        rows.append(_row(root, image, found[0] if found else None, boxes.pop(name.as_posix(), ())))
    rows += [_row(root, image, None, None) for image in filter(_is_utf8, authentic)]
    problems += [Problem(Kind.FILE, "boxes", f"no picture {TAMPERED}/{name}") for name in boxes]
    if strict:
        refuse(problems, f"data in {root}")
    return Manifest(root, tuple(rows), _sha256(root, rows), tuple(problems))


def masks_by_stem(masks: Path) -> dict[Path, list[Path]]:
    """Masks by their path below the folder without its ending, which is how pictures find theirs.

    Raises:
        InvalidInput: there is no such folder, or no file in it.
    """
    found: dict[Path, list[Path]] = {}
    for path in files_below(masks):
        found.setdefault(path.relative_to(masks).with_suffix(""), []).append(path)
    return found


def files_below(folder: Path) -> list[Path]:
    """Every non-hidden file of a folder and its subfolders, sorted.

    Raises:
        InvalidInput: there is no such folder, or no file in it.
    """
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder")
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    files = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not files:
        raise InvalidInput(f"{folder} holds no files")
    return files


def _row(root: Path, image: Path, mask: Path | None, boxes: tuple[PixelBox, ...] | None) -> ManifestRow:
    """A row; boxes are None for an authentic picture."""
    set_name, name = root.resolve().name, _posix(image, root)
    _, _, scene = name.partition("/")
    return ManifestRow(
        set_name=set_name,
        image=name,
        mask=_posix(mask, root) if mask else None,
        tampered=boxes is not None,
        kind="",
        scene=f"{set_name}:{Path(scene).with_suffix('').as_posix()}",
        boxes=boxes or (),
        objects=(),
        size_px=None,
    )


def _boxes(root: Path) -> tuple[Boxes, list[Problem]]:
    """Boxes by path below `tampered`."""
    files = [root / name for name in BOX_FILES if (root / name).is_file()]
    if len(files) > 1:
        raise InvalidInput(f"{root} holds {' and '.join(BOX_FILES)}; leave one of them")
    if not files:
        return {}, []
    named, problems = read_box_file(files[0])
    boxes: Boxes = {}
    for name, found in named.items():
        below = Path(name).as_posix().removeprefix(f"{TAMPERED}/")
        boxes[below] = (*boxes.get(below, ()), *found)
    return boxes, problems


def _posix(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _is_utf8(path: Path) -> bool:
    """False where the file system's name has bytes that no text has, which could neither be hashed nor printed."""
    return not any("\ud800" <= char <= "\udfff" for char in str(path))


def _sha256(root: Path, rows: list[ManifestRow]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        sizes = [os.stat(root / name).st_size for name in row.files]
        entry = [row.image, row.mask, row.tampered, [box.as_tuple() for box in row.boxes], sizes]
        digest.update(json.dumps(entry).encode() + b"\n")
    return digest.hexdigest()
