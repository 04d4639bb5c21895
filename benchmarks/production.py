"""The production roles from first start to restored backup, as compose would run them, against real stores.

    python -m benchmarks.production --pictures 1000

`migrate`, `web`, `beat`, two `worker` and a `trainer` run as separate processes between redis-server (append-only file,
password), PostgreSQL and SeaweedFS. Pictures come through the HTTP API; half-way another model version is promoted; every
role's /metrics is read. Then the stack is backed up as docs/operations.md says, everything is thrown away, the stores are made
anew, the backup is loaded, and rows and blobs are counted and compared.

The student is a tiny one with nearly random weights: this shows the machinery, not the model.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlmodel import col, func, select

from benchmarks.chaos_servers import chaos_servers
from benchmarks.production_site import Role, Sample, Site, rows_by_table
from model.card import Card
from schemas.states import JobState
from schemas.tables import AuditResult
from storage import queries
from storage.blobs import BlobStore
from tests.local_servers import postgres_program
from tests.nights import tiny_student
from tests.pictures import picture_bytes
from tests.waiting import wait_for
from web.client import TamperwatchClient

_ROLES = ("web-1", "beat", "worker-1", "worker-2", "trainer")
_UPLOAD = 16
_SAMPLE = 25
_LIMIT_BYTES = 10**8
FIRST, SECOND = "tiny-first", "tiny-second"

Say = Callable[[str], None]


@dataclass
class State:
    """What the stores hold, to be compared: rows and their digest by table, bytes by blob, and the bytes of some of them."""

    rows: dict[str, tuple[int, str]]
    blobs: dict[str, int]
    sample: dict[str, bytes]


@dataclass
class Seen:
    """What a run showed; `differences` and `problems` are empty where all is well."""

    pictures: int
    done: int = 0
    by_version: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    exits: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    blobs: int = 0
    differences: list[str] = field(default_factory=list)
    check: str = ""
    answered_after: bool = False
    seconds: dict[str, float] = field(default_factory=dict)


def live_through(pictures: int, students: Sequence[Path], folder: Path, say: Say) -> Seen:
    """The whole story, from empty stores to restored ones, with the students of `tiny_students`."""
    seen = Seen(pictures)
    backup = folder / "backup"
    with _stack(folder / "before") as site:
        _audit_all(site, students, seen, say)
        seen.exits = {name: site.stop(name) for name in _ROLES}
        state = state_of(site)
        seen.rows, seen.blobs = sum(count for count, _ in state.rows.values()), len(state.blobs)
        say(f"stopped: {seen.exits}; {seen.rows} rows, {seen.blobs} blobs")
        seen.seconds["backup"] = _timed(lambda: back_up(site, backup))
    say(f"backed up in {seen.seconds['backup']:.1f} s; the stores are gone")
    with _stack(folder / "after") as site:
        seen.seconds["restore"] = _timed(lambda: restore(site, backup))
        seen.differences = differences(state, state_of(site))
        seen.check = site.run("check").strip()
        say(f"restored in {seen.seconds['restore']:.1f} s: {seen.differences or 'the same rows and blobs'}; {seen.check}")
        seen.answered_after = _serves_again(site, folder / "key")
    return seen


@contextmanager
def _stack(folder: Path) -> Iterator[Site]:
    """New stores and nothing on them, in a folder of their own that goes with them."""
    folder.mkdir(parents=True)
    with chaos_servers(folder) as servers, Site(servers, folder / "site", NIGHTS="true") as site:
        yield site
    shutil.rmtree(folder)


def tiny_students(folder: Path) -> list[Path]:
    """Two published students of nearly random weights, which differ in their version's name."""
    folder.mkdir(parents=True)
    made = tiny_student(folder, steps=1)
    found = []
    for version in (FIRST, SECOND):
        copy = folder / version
        copy.mkdir()
        for path in made.iterdir():
            (copy / path.name).write_bytes(path.read_bytes())
        Card.load(copy).model_copy(update={"version": version}).save(copy)
        found.append(copy)
    return found


def prepare(site: Site, students: Sequence[Path]) -> str:
    """Migrate, import the students, make the first one live; returns an API key that may do everything."""
    site.run("migrate")
    for student in students:
        site.run("models", "import", str(student), "--by", "production", "--reason", "a student for this run")
    site.run("models", "promote", FIRST, "--by", "production", "--reason", "the first one", "--yes")
    return site.run("keys", "create", "production", "--scope", "admin", "--rate", "0").strip()


def draw_pictures(folder: Path, numbers: Sequence[int]) -> list[Path]:
    """Small pictures, each with other bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.jpg" for number in numbers]
    for number, path in zip(numbers, paths, strict=True):
        path.write_bytes(picture_bytes(number))
    return paths


def _audit_all(site: Site, students: Sequence[Path], seen: Seen, say: Say) -> None:
    token = prepare(site, students)
    (site.folder.parent.parent / "key").write_text(token, encoding="utf-8")
    for name in _ROLES:
        site.start(name)
    seen.seconds["all roles ready"] = _timed(site.wait_until_ready)
    say(f"all roles are ready after {seen.seconds['all roles ready']:.1f} s")
    paths = draw_pictures(site.folder / "pictures", range(seen.pictures))
    half = len(paths) // 2
    started = time.monotonic()
    with TamperwatchClient(site.web("web-1"), token) as client:
        _through(client, site, paths[:half], half)
        client.promote(SECOND, "half-way", from_version=FIRST)
        for name in ("worker-1", "worker-2"):
            wait_for(lambda name=name: _version(site.roles[name]) == SECOND, f"{SECOND} on {name}", 60)  # type: ignore[misc]
        say(f"{half} pictures audited; {SECOND} is promoted and in use on both workers")
        _through(client, site, paths[half:], len(paths))
    seen.seconds["pictures"] = time.monotonic() - started
    with site.database.read() as session:
        seen.done = queries.job_counts(session)[JobState.DONE]
        counted = select(AuditResult.model_version, func.count()).group_by(col(AuditResult.model_version))
        seen.by_version = dict(session.exec(counted).all())
    seen.metrics = {name: shown_metrics(role) for name, role in site.roles.items()}


def _through(client: TamperwatchClient, site: Site, paths: Sequence[Path], total: int) -> None:
    """Upload pictures, and wait until that many jobs have ended."""
    for start in range(0, len(paths), _UPLOAD):
        client.submit_files(paths[start : start + _UPLOAD])
    wait_for(lambda: ended(site) == total, f"end of {total} jobs", 60 + total)


def ended(site: Site) -> int:
    """How many jobs have ended, well or not."""
    with site.database.read() as session:
        counts = queries.job_counts(session)
    return counts[JobState.DONE] + counts[JobState.FAILED]


def shown_metrics(role: Role) -> dict[str, float]:
    """What a role's /metrics says that a person looks for first, by a name that fits in a line."""
    samples = role.metrics()
    wanted = (
        "tamperwatch_images_total",
        "tamperwatch_results_total",
        "tamperwatch_failures_total",
        "tamperwatch_model_info",
        "tamperwatch_model_swaps_total",
        "tamperwatch_queue_messages",
        "tamperwatch_unacked_messages",
        "tamperwatch_up",
        "tamperwatch_http_request_seconds_count",
        "tamperwatch_retrain_looked_timestamp_seconds",
        "tamperwatch_retrain_begun_total",
        "tamperwatch_retrain_ended_total",
        "tamperwatch_process_resident_memory_bytes",
    )
    return {_spelt(key): value for key, value in samples.items() if key[0] in wanted}


def _spelt(sample: Sample) -> str:
    name, *labels = sample
    return f"{name}{{{','.join(labels)}}}" if labels else name


def _version(role: Role) -> str:
    """The model version that a worker says it uses."""
    return next((key[-1] for key, value in role.metrics().items() if key[0] == "tamperwatch_model_info" and value == 1), "")


def back_up(site: Site, folder: Path) -> None:
    """As docs/operations.md says: the rows first, the blobs second, the secrets by whoever keeps secrets."""
    folder.mkdir()
    _postgres("pg_dump", site, "--format=custom", f"--file={folder / 'rows.dump'}")
    site.run("blobs", "save", str(folder / "blobs"))


def restore(site: Site, folder: Path) -> None:
    """The blobs first, the rows second, so that no worker meets a row without its bytes; then the schema of this release."""
    site.run("blobs", "load", str(folder / "blobs"))
    _postgres("pg_restore", site, "--exit-on-error", "--no-owner", str(folder / "rows.dump"))
    site.run("migrate")


def state_of(site: Site) -> State:
    """Everything that both stores hold."""
    blobs: BlobStore = site.blobs()
    found = {blob.key: blob.bytes for blob in blobs.list("")}
    some = sorted(found)[:: max(1, len(found) // _SAMPLE)]
    return State(rows_by_table(site.database), found, {key: blobs.get(key, _LIMIT_BYTES) for key in some})


def differences(before: State, after: State) -> list[str]:
    """What is not as it was, in words."""
    rows = {name for name in before.rows if before.rows[name] != after.rows.get(name)}
    blobs = {key for key in before.blobs | after.blobs if before.blobs.get(key) != after.blobs.get(key)}
    bytes_ = {key for key in before.sample if before.sample[key] != after.sample.get(key)}
    return [
        *(f"table {name}: {before.rows[name]} and {after.rows.get(name)}" for name in sorted(rows)),
        *(f"blob {key}: {before.blobs.get(key)} and {after.blobs.get(key)} bytes" for key in sorted(blobs)),
        *(f"blob {key} has other bytes" for key in sorted(bytes_)),
    ]


def _serves_again(site: Site, key_file: Path) -> bool:
    """Whether the roles start on the restored stores, the old key opens, and the promoted version answers."""
    for name in ("web-1", "worker-1"):
        site.start(name)
    site.wait_until_ready()
    (path,) = draw_pictures(site.folder / "pictures", [10**6])
    with TamperwatchClient(site.web("web-1"), key_file.read_text(encoding="utf-8")) as client:
        (picture,) = client.wait(client.submit_files([path]).id, 120).pictures
    return picture.result is not None and picture.result.model_version == SECOND


def _postgres(program: str, site: Site, *arguments: str) -> None:
    url = make_url(site.servers.postgres_url)
    where = ["--host", str(url.host), "--port", str(url.port), "--username", str(url.username), "--dbname", str(url.database)]
    with postgres_program(program) as binary:
        done = subprocess.run([binary, *where, *arguments], env=os.environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{program} failed: {done.stderr}")


def _timed(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def report(seen: Seen) -> str:
    """Everything that a run showed."""
    lines = [f"{seen.done} of {seen.pictures} pictures done, by version {seen.by_version}, {seen.seconds['pictures']:.1f} s"]
    for name, metrics in seen.metrics.items():
        lines += [f"/metrics of {name}:", *(f"  {key} {value:g}" for key, value in sorted(metrics.items()) if value)]
    seconds = ", ".join(f"{name} {took:.1f} s" for name, took in seen.seconds.items())
    lines.append(f"exit statuses after SIGTERM: {seen.exits}; {seconds}")
    same = seen.differences or "the same"
    lines.append(f"{seen.rows} rows and {seen.blobs} blobs, after backup, wipe and restore: {same}; check: {seen.check}")
    lines.append(f"the restored stack audits with {SECOND}: {seen.answered_after}")
    return "\n".join(lines)


def well(seen: Seen) -> bool:
    """Whether everything was as it must be."""
    versions = {FIRST: seen.pictures // 2, SECOND: seen.pictures - seen.pictures // 2}
    return (
        (seen.done, seen.by_version) == (seen.pictures, versions)
        and not seen.differences
        and seen.answered_after
        and seen.check == "both stores agree"
        and all(status == 0 for status in seen.exits.values())
    )


def main() -> None:
    """Run it, print what was seen, and fail where anything is not as it must be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=1000)
    count = parser.parse_args().pictures
    with tempfile.TemporaryDirectory(prefix="tamperwatch-production-") as folder:
        students = tiny_students(Path(folder) / "students")
        seen = live_through(count, students, Path(folder), lambda line: print(line, flush=True))
    print(report(seen))
    sys.exit(0 if well(seen) else 1)


if __name__ == "__main__":
    main()
