"""Which files a path names, and what each is called in everything we print and write."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from schemas.errors import InvalidInput
from workers.submission import SourceFile

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
    paths = list(paths)
    # Not Path.exists, which raises for a name that is too long.
    missing = [str(path) for path in paths if not os.path.exists(path)]
    if missing:
        raise InvalidInput(f"no such file or folder: {', '.join(missing)}")
    if exclude is not None and any(path.resolve() == exclude.resolve() for path in paths):
        raise InvalidInput(f"{exclude} cannot be audited into itself: the next run would take its masks for pictures")
    found = {_place(file.path): (root, file) for root in paths for file in _below(root, exclude)}
    if not found:
        where = ", ".join(str(path) for path in paths)
        raise InvalidInput(f"nothing to audit: no visible file in {where} (names that begin with a dot are left out)")
    in_order = [found[place] for place in sorted(found)]
    return sorted(_distinct(in_order), key=lambda file: file.name)


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
            names = [name for name in os.listdir(folder) if not name.startswith(".")]
        except OSError:
            yield SourceFile(folder, _name_below(root, folder))
            continue
        for path in (folder / name for name in names):
            if not os.path.isdir(path):
                yield SourceFile(path, _name_below(root, path))
            elif not path.is_symlink() and (left_out is None or path.resolve() != left_out):
                pending.append(path)


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
