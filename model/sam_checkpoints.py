"""SAM's published checkpoints: where they lie, how they are fetched once and resumed, and the sha256 each must have. No torch."""

import contextlib
import fcntl
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedRandom, BufferedReader
from pathlib import Path

from schemas.errors import EnvironmentMissing, InvalidInput

TIMEOUT_S = 60.0
BLOCK_BYTES = 1 << 20

Report = Callable[[int, int], None]
"""Called with (bytes here, bytes of the whole file; 0 where the server does not say)."""


@dataclass(frozen=True)
class SamCheckpoint:
    """One of the files Meta published with SAM.

    Args:
        model_type: its key in `segment_anything.sam_model_registry`.
        url: the publisher's.
        sha256: of the whole file. The publisher states none; these are the ones other projects check their downloads from
            that address against, for instance micro_sam's registry and SlicerSegmentAnything. The six hex digits in the
            file's name are the beginning of its MD5, not of this.
    """

    model_type: str
    url: str
    sha256: str

    @property
    def file_name(self) -> str:
        return self.url.rpartition("/")[2]


SAM_CHECKPOINTS = {
    "sam-vit-b": SamCheckpoint(
        "vit_b",
        "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    "sam-vit-l": SamCheckpoint(
        "vit_l",
        "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_l_0b3195.pth",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    "sam-vit-h": SamCheckpoint(
        "vit_h",
        "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_h_4b8939.pth",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
}


@contextlib.contextmanager
def opened_checkpoint(kind: str, given: Path | None, report: Report) -> Iterator[BufferedReader]:
    """The published file, open at its start; its sha256 was computed over this very handle.

    Args:
        kind: a key of `SAM_CHECKPOINTS`.
        given: where the user keeps the file; None takes the one in the cache, downloading it first where there is none.
        report: progress of a download.

    Raises:
        InvalidInput: the file given is missing or is not the published one.
        EnvironmentMissing: the download failed, or brought another file.
    """
    wanted = SAM_CHECKPOINTS[kind]
    path = given or _cached(wanted, report)
    try:
        file = path.open("rb")
    except OSError as error:
        raise InvalidInput(f"the SAM checkpoint {path} cannot be read ({error.strerror}); get it from {wanted.url}") from error
    with file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != wanted.sha256:
            raise InvalidInput(_mismatch(kind, path, found))
        file.seek(0)
        yield file


def cache_folder() -> Path:
    """Where downloads are kept: `tamperwatch/sam` in the user's cache folder (XDG base directory specification)."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "tamperwatch" / "sam"


def _cached(wanted: SamCheckpoint, report: Report) -> Path:
    """The file in the cache; downloaded by one process while others wait, and only a whole, checked file gets its name."""
    path = cache_folder() / wanted.file_name
    if path.exists():
        return path
    partial = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not path.exists():  # else another process has just finished it
                _download(wanted.url, file, report)
                _accept(wanted, file, partial, path)
    except (OSError, http.client.HTTPException) as error:
        raise EnvironmentMissing(
            f"{wanted.file_name} could not be downloaded from {wanted.url} to {path.parent}: {error}. The same command goes on "
            "where it stopped; or fetch the file by other means and name it with --sam-checkpoint"
        ) from error
    return path


def _download(url: str, file: BufferedRandom, report: Report) -> None:
    """Append what is missing to the partial file.

    Raises:
        OSError: no connection, a refusal by the server, a broken transfer, a full disk.
    """
    here = file.seek(0, os.SEEK_END)
    request = urllib.request.Request(url, headers={"Range": f"bytes={here}-"} if here else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            if here and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # nothing is missing; the hash decides
            raise
    with response:
        if response.status != http.client.PARTIAL_CONTENT and here:
            here = file.truncate(0)  # the server sends it from the start
        whole = here + int(response.headers.get("Content-Length") or 0)
        while block := response.read(BLOCK_BYTES):
            file.write(block)
            here += len(block)
            report(here, whole)
    if here < whole:
        raise OSError(f"the transfer broke off after {here} of {whole} bytes")


def _accept(wanted: SamCheckpoint, file: BufferedRandom, partial: Path, path: Path) -> None:
    """Give a complete download its name, or remove it."""
    file.flush()
    os.fsync(file.fileno())
    file.seek(0)
    found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted.sha256:
        partial.unlink()
        raise OSError(f"what came has the sha256 {found}, not the known {wanted.sha256}, and was removed")
    partial.replace(path)


def _mismatch(kind: str, path: Path, found: str) -> str:
    """What a file with another hash is, and what to do."""
    wanted = SAM_CHECKPOINTS[kind]
    others = [name for name, each in SAM_CHECKPOINTS.items() if each.sha256 == found]
    if others:
        return f'{path} is the checkpoint of {others[0]}, the config says teacher = "{kind}": change one of them'
    return (
        f"{path} is not the published {wanted.file_name}: its sha256 is {found}, not {wanted.sha256}. "
        f"It may be damaged; remove it and get it again from {wanted.url}"
    )
