"""What `submit` and `results` do with `--api`: the same over HTTP, with nothing but an address and an API key."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from schemas.errors import EnvironmentMissing, InvalidInput
from schemas.records import AuditRecord
from schemas.states import AuditQueue, Verdict
from workers.submission import SourceFile, Submission

if TYPE_CHECKING:
    from web.client import TamperwatchClient
    from web.views import AuditView

KEY_VARIABLE: Final = "TAMPERWATCH_API_KEY"
# What a server takes in one request unless its settings say otherwise: 16 pictures, 200 MB with what stands around them.
_MOST_FILES: Final = 16
_MOST_BYTES: Final = 150_000_000
_PAGE: Final = 500
_PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Wanted:
    """How pictures are to be audited."""

    queue: AuditQueue
    profiles: tuple[str, ...]
    source_profile: str | None


@contextmanager
def connected(address: str) -> Iterator["TamperwatchClient"]:
    """A client of the API at an address, whose errors are ours.

    Raises:
        EnvironmentMissing: the server does not answer, or the extra is not installed.
        InvalidInput: the server refuses, or the address is none.
    """
    if find_spec("httpx2") is None:
        raise EnvironmentMissing("--api needs httpx2: pip install 'tamperwatch[web]'")
    from web.client import ApiError, TamperwatchClient
    from web.client_connection import is_passing

    if not address.startswith(("http://", "https://")):
        raise InvalidInput(f"--api {address}: give an address as in https://audit.example.com")
    try:
        with TamperwatchClient(address, give_up_s=20) as client:
            yield client
    except ApiError as error:
        hint = f" (the key is read from {KEY_VARIABLE})" if error.status in (401, 403) else ""
        kind = EnvironmentMissing if is_passing(error) else InvalidInput
        raise kind(f"{address}: {error}{hint}") from error


def send(
    client: "TamperwatchClient", files: Iterable[SourceFile], wanted: Wanted, sent: Callable[[int, int], None]
) -> list["AuditView"]:
    """Send files, group by group. The same file under the same name is one job for good, as without `--api`.

    Args:
        sent: told of each group: how many files, and how many of them are in no audit because all were refused.

    Raises:
        InvalidInput: a file cannot be read.
    """
    from web.client import ApiError

    audits = []
    for group in _groups(files):
        paths, refs = [each.path for each in group], [_reference(each, wanted) for each in group]
        try:
            audit = client.submit_files(
                paths,
                queue=wanted.queue,
                profiles=wanted.profiles or None,
                source_profile=wanted.source_profile,
                client_refs=refs,
            )
        except ApiError as error:
            if error.status not in (413, 415, 422) or error.problem is None or error.problem.code == "invalid_request":
                raise
            sent(len(group), len(group))
            continue
        audits.append(audit)
        sent(len(group), 0)
    return audits


def page(
    client: "TamperwatchClient", since: int, verdict: Verdict | None, source_profile: str | None, limit: int
) -> tuple[Sequence[AuditRecord], int]:
    """At most so many results behind a cursor, and the cursor to go on from."""
    records: list[AuditRecord] = []
    cursor, more = since, True
    while more and len(records) < limit:
        found = client.page(cursor, verdict, min(_PAGE, limit - len(records)), source_profile)
        records += found.results
        cursor, more = found.next_cursor, found.more
    return records, cursor


def _groups(files: Iterable[SourceFile]) -> Iterator[list[SourceFile]]:
    """Files in groups that a request may hold."""
    group: list[SourceFile] = []
    size_bytes = 0
    for each in files:
        with _readable(each):
            file_bytes = each.path.stat().st_size
        if group and (len(group) == _MOST_FILES or size_bytes + file_bytes > _MOST_BYTES):
            yield group
            group, size_bytes = [], 0
        group.append(each)
        size_bytes += file_bytes
    if group:
        yield group


@contextmanager
def _readable(file: SourceFile) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidInput(f"cannot read {file.path}: {error.strerror or error}") from error


def _reference(file: SourceFile, wanted: Wanted) -> str:
    """The name that a submission without `--api` gives it, too."""
    digest = hashlib.sha256()
    with _readable(file), file.path.open("rb") as opened:
        while piece := opened.read(_PIECE_BYTES):
            digest.update(piece)
    return Submission("", 0, profiles=wanted.profiles).reference(file.source, digest.hexdigest())
