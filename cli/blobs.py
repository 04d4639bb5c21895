"""`tamperwatch blobs`: the blob store's content to a folder and back."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from cli.console import load_settings, stderr, stdout
from schemas.errors import InvalidInput
from storage.blob_copies import Copied, Copy, copy_blobs
from storage.blobs import BlobStore, DirectoryBlobStore, open_blob_store

app = typer.Typer(help="Back up the blob store, and bring it back.", no_args_is_help=True)

_Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Holds one file a blob, under its key.")]


@app.command("save")
def save(
    folder: _Folder,
    mirror: Annotated[bool, typer.Option("--mirror", help="Also delete from DIR what the store no longer has.")] = False,
) -> None:
    """Copy pictures, models, pseudo-masks and the records of runs to a folder, while everything runs.

    What is there already is not read again. Save the rows first (pg_dump) and the blobs second: then every row that was saved
    finds its bytes. Exit status 1: a stored picture is not what its name says, and was not copied.

    \b
    Examples:
      tamperwatch blobs save /backup/blobs
      tamperwatch blobs save /backup/blobs --mirror    # forgets there what was purged here
    """
    _tell(_copied(open_blob_store(load_settings().blobs), DirectoryBlobStore(folder), mirror))


@app.command("load")
def load(folder: _Folder) -> None:
    """Copy what `blobs save` wrote into the blob store. Blobs that are there stay.

    \b
    Example:
      tamperwatch blobs load /backup/blobs
    """
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder; name the one that `tamperwatch blobs save` wrote")
    _tell(_copied(DirectoryBlobStore(folder), open_blob_store(load_settings().blobs), mirror=False))


def _copied(source: BlobStore, target: BlobStore, mirror: bool) -> list[tuple[Copy, int, int]]:
    """How many blobs, of how many bytes together, met each end; what is wrong is named as it is met."""
    counts: Counter[Copy] = Counter()
    sizes: Counter[Copy] = Counter()
    for each in copy_blobs(source, target, mirror):
        counts[each.outcome] += 1
        sizes[each.outcome] += each.bytes
        if each.outcome is Copy.CORRUPT:
            _name(each)
    return [(outcome, counts[outcome], sizes[outcome]) for outcome in Copy if counts[outcome]]


def _name(wrong: Copied) -> None:
    stderr.print(f"{wrong.key}: {wrong.outcome}", markup=False, highlight=False, soft_wrap=True)


def _tell(ends: list[tuple[Copy, int, int]]) -> None:
    for outcome, count, size_bytes in ends:
        stdout.print(f"{count:,} blobs {outcome}, {size_bytes:,} bytes", highlight=False, soft_wrap=True)
    if not ends:
        stdout.print("there are no blobs")
    if any(outcome is Copy.CORRUPT for outcome, _, _ in ends):
        stderr.print("a picture that is damaged where it came from: submit it again, or take it from another backup")
        raise typer.Exit(1)
