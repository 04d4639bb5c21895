"""Which files a path names, and what each is called in everything we print and write."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from schemas.errors import InvalidInput
from workers.sources import SourceFile

# Names travel in a column of 4096 characters, and a folder's name may still come in front.
_LONGEST_NAME = 2800


def list_files(paths: Iterable[Path], exclude: Path | None = None) -> list[SourceFile]:
    """Every non-hidden file the paths name, folders searched through, sorted by name.

    A file given by itself is named after itself; a file in a folder by its path below that folder. Where two would
    get the same name, both carry the name of the folder they were found under. A folder that may not be opened is
    listed itself, so that it fails by name; links to folders are not followed.

    Args:
        paths: files and folders.
        exclude: a folder to leave out: our own output, when it lies inside the pictures.

    Raises:
        InvalidInput: a path does not exist, is the folder to leave out, or there is no file at all.
    """
    paths = _existing(paths)
    if exclude is not None and any(path.resolve() == exclude.resolve() for path in paths):
        raise InvalidInput(f"{exclude} cannot be audited into itself: the next run would take its masks for pictures")
    found = {_place(file.path): (root, file) for root in paths for file in _below(root, exclude)}
    if not found:
        raise nothing_in(paths)
    in_order = [found[place] for place in sorted(found)]
    return sorted(_distinct(in_order), key=lambda file: file.name)


def stream_files(paths: Iterable[Path]) -> Iterator[SourceFile]:
    """The files that `list_files` finds, each as it is met: in no order, and without keeping them.

    Names cannot be compared with all others here. So where several paths are given, whatever lies in a folder carries
    the folder's name in front, and a path that lies within another one is left out.

    Raises:
        InvalidInput: a path does not exist; raised at once, before the first file is asked for.
    """
    roots = _outermost(_existing(paths))
    names = _root_names(roots) if len(roots) > 1 else {}
    return (_renamed(file, root, names.get(root)) for root in roots for file in _below(root, None))


def nothing_in(paths: Iterable[Path]) -> InvalidInput:
    """The error that says that these paths hold no picture."""
    where = ", ".join(str(path) for path in paths)
    return InvalidInput(f"nothing to audit: no visible file in {where} (names that begin with a dot are left out)")


def _existing(paths: Iterable[Path]) -> list[Path]:
    paths = list(paths)
    # Not Path.exists, which raises for a name that is too long.
    missing = [str(path) for path in paths if not os.path.exists(path)]
    if missing:
        raise InvalidInput(f"no such file or folder: {', '.join(missing)}")
    return paths


def _outermost(paths: list[Path]) -> list[Path]:
    """The paths without those that the search of another one meets anyway."""
    places = {Path(os.fsdecode(_place(path) if not path.is_dir() else os.path.realpath(path))): path for path in reversed(paths)}
    folders = {place for place, path in places.items() if path.is_dir()}

    def is_met(place: Path) -> bool:
        above = [folder for folder in place.parents if folder in folders]
        # The search passes hidden names by.
        return any(not any(part.startswith(".") for part in place.relative_to(folder).parts) for folder in above)

    return [path for place, path in reversed(places.items()) if not is_met(place)]


def _root_names(roots: list[Path]) -> dict[Path, str]:
    """A name of its own for each path: its last part, numbered where several are called alike."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for root in roots:
        base, number = _printable(root.resolve().name if root.is_dir() else root.name) or "root", 1
        while (name := base if number == 1 else f"{base}-{number}") in taken:
            number += 1
        taken.add(name)
        names[root] = name
    return names


def _renamed(file: SourceFile, root: Path, root_name: str | None) -> SourceFile:
    if root_name is None:
        return file
    return SourceFile(file.path, root_name if file.path == root else f"{root_name}/{file.name}")


def _place(path: Path) -> bytes:
    """Where a file lies, the same by whatever way it was reached; a link to a file is a file of its own."""
    return os.fsencode(os.path.join(os.path.realpath(path.parent), path.name))


def _below(root: Path, exclude: Path | None) -> Iterator[SourceFile]:
    if not root.is_dir():
        yield SourceFile(root, _printable(root.name))
        return
    left_out = exclude.resolve() if exclude else None
    # Not os.walk, which recurses: a stranger's folders may be nested deeper than Python's stack.
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            # Entry by entry: a folder of millions is never held as a list.
            with os.scandir(folder) as entries:
                for path in (folder / entry.name for entry in entries if not entry.name.startswith(".")):
                    if not os.path.isdir(path):
                        yield SourceFile(path, _name_below(root, path))
                    elif not path.is_symlink() and (left_out is None or path.resolve() != left_out):
                        pending.append(path)
        except OSError:
            yield SourceFile(folder, _name_below(root, folder))


def _name_below(root: Path, path: Path) -> str:
    return _printable(str(path.relative_to(root)) if path != root else root.resolve().name)


def _distinct(found: list[tuple[Path, SourceFile]]) -> Iterator[SourceFile]:
    """Names that no two files share: their root's name is put in front, numbered where roots are named alike.

    What still clashes, by chance or by design, is numbered too: results are kept by name.
    """
    owners: dict[str, set[Path]] = {}
    for root, file in found:
        owners.setdefault(file.name, set()).add(root)
    clashing = {root for roots in owners.values() if len(roots) > 1 for root in roots}
    prefixes: dict[Path, str] = {}
    for root in sorted(clashing):
        folder = root if root.is_dir() else root.parent
        base, number = _printable(folder.resolve().name) or "root", 1
        while (prefix := base if number == 1 else f"{base}-{number}") in prefixes.values():
            number += 1
        prefixes[root] = prefix
    taken: set[str] = set()
    for root, file in found:
        wanted, number = f"{prefixes[root]}/{file.name}" if root in prefixes else file.name, 1
        while (name := wanted if number == 1 else f"{wanted} ({number})") in taken:
            number += 1
        taken.add(name)
        yield SourceFile(file.path, name)


def _printable(name: str) -> str:
    """A name as valid Unicode of bounded length; bytes that are not UTF-8 are shown as escapes, to keep names apart."""
    given = os.fsencode(name)
    printable = given.decode("utf-8", "backslashreplace")
    if len(printable) <= _LONGEST_NAME:
        return printable
    return f"{printable[:_LONGEST_NAME]}…{hashlib.sha256(given).hexdigest()[:16]}"
