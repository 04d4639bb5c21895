import errno
import gc
import hashlib
import os
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import pytest
from celery import Celery
from sqlmodel import select

from schemas.errors import BlobStoreUnavailable, BrokerUnavailable, DiskFull, TooLarge
from schemas.messages import AuditMessage
from schemas.records import ErrorRecord
from schemas.settings import Settings
from schemas.states import AuditQueue, JobState
from schemas.tables import AuditJob, Picture
from storage import jobs
from storage.blobs import DirectoryBlobStore, picture_key
from storage.database import Database
from tests.local_servers import free_ports
from workers.app import make_app, queue_depths
from workers.sources import Source
from workers.submission import SourceFile, Step, Submission, submit_files, submit_sources


class Outbox(list[AuditMessage]):
    """Takes the place of Redis: remembers what was sent."""

    def send(self, _app: Celery, messages: Iterator[AuditMessage]) -> int:
        before = len(self)
        self.extend(messages)
        return len(self) - before


@pytest.fixture
def outbox(monkeypatch: pytest.MonkeyPatch) -> Outbox:
    box = Outbox()
    monkeypatch.setattr("workers.sending.send_audits", box.send)
    return box


@pytest.fixture
def blobs(tmp_path: Path) -> DirectoryBlobStore:
    return DirectoryBlobStore(tmp_path / "blobs")


@pytest.fixture
def submit(sqlite: Database, blobs: DirectoryBlobStore) -> Callable[..., list[int]]:
    def submitted(files: list[SourceFile], **changes: object) -> list[int]:
        submission = Submission(**{"id": "s", "max_bytes": 1000, **changes})  # type: ignore[arg-type]
        return list(submit_files(files, submission, sqlite, blobs, make_app(Settings())))

    return submitted


def source(path: Path, data: bytes | None) -> SourceFile:
    if data is not None:
        path.write_bytes(data)
    return SourceFile(path, path.name)


def stored(database: Database) -> dict[str, tuple[JobState, str | None]]:
    with database.read() as session:
        return {job.source: (job.state, job.error_code) for job in session.exec(select(AuditJob))}


def test_bytes_row_and_message_belong_together(
    submit: Callable[..., list[int]], outbox: Outbox, sqlite: Database, blobs: DirectoryBlobStore, tmp_path: Path
) -> None:
    files = [source(tmp_path / name, name.encode()) for name in ("a b.jpg", "ü 🦆.png", "no extension")]
    assert submit(files, queue=AuditQueue.HIGH, profiles=("wechat",)) == [3]
    with sqlite.read() as session:
        rows = {job.id: job for job in session.exec(select(AuditJob))}
    assert {message.source for message in outbox} == {"a b.jpg", "ü 🦆.png", "no extension"}
    for message in outbox:
        assert message.sha256 == rows[message.job_id].sha256 == hashlib.sha256(message.source.encode()).hexdigest()
        assert (message.queue, message.profiles) == (AuditQueue.HIGH, ("wechat",))
        assert blobs.get(picture_key(message.sha256), 100) == message.source.encode()
        assert (rows[message.job_id].submission, rows[message.job_id].state) == ("s", JobState.QUEUED)


def test_rows_come_before_messages(
    submit: Callable[..., list[int]], sqlite: Database, blobs: DirectoryBlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object) -> int:
        raise BrokerUnavailable("no Redis")

    monkeypatch.setattr("workers.sending.send_audits", down)
    with pytest.raises(BrokerUnavailable):
        submit([source(tmp_path / "a", b"a")])
    assert stored(sqlite) == {"a": (JobState.QUEUED, None)}
    assert blobs.exists(picture_key(hashlib.sha256(b"a").hexdigest()))


def test_what_cannot_be_read_fails_alone(
    submit: Callable[..., list[int]], outbox: Outbox, sqlite: Database, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "broken link").symlink_to("nowhere")
    (tmp_path / "device").symlink_to(os.devnull)  # a pipe would block a reader that does not look
    names = ("folder", "loop", "broken link", "device", "vanished")
    files = [SourceFile(tmp_path / name, name) for name in names]
    files += [
        source(tmp_path / "large", b"x" * 1001),
        source(tmp_path / "just right", b"x" * 1000),
        source(tmp_path / "empty", b""),
    ]
    assert submit(files) == [8]
    found = stored(sqlite)
    assert {name: found[name] for name in names} == dict.fromkeys(names, (JobState.FAILED, "unreadable"))
    assert found["large"] == (JobState.FAILED, "too_large")
    assert {message.source for message in outbox} == {"just right", "empty"}


def test_a_file_without_permission_is_unreadable(
    submit: Callable[..., list[int]], outbox: Outbox, sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_bytes = Path.read_bytes

    def guarded(path: Path) -> bytes:
        if path.name == "secret":
            raise PermissionError(errno.EACCES, "Permission denied")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", guarded)
    submit([source(tmp_path / "open", b"x"), source(tmp_path / "secret", b"y")])
    assert stored(sqlite) == {"open": (JobState.QUEUED, None), "secret": (JobState.FAILED, "unreadable")}
    assert [message.source for message in outbox] == ["open"]


def test_a_folder_that_vanishes_under_way_fails_file_by_file(
    submit: Callable[..., list[int]], outbox: Outbox, sqlite: Database, tmp_path: Path
) -> None:
    (tmp_path / "card").mkdir()
    gone = [SourceFile(tmp_path / "card" / f"{number}.jpg", f"card/{number}.jpg") for number in range(70)]
    (tmp_path / "card").rmdir()
    assert submit([*gone, source(tmp_path / "here", b"x")]) == [64, 7]
    assert list(stored(sqlite).values()).count((JobState.FAILED, "unreadable")) == 70
    assert [message.source for message in outbox] == ["here"]


def test_a_full_disk_fails_what_it_could_not_take_and_trying_again_heals_it(
    submit: Callable[..., list[int]], outbox: Outbox, sqlite: Database, blobs: DirectoryBlobStore, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    put = blobs.put

    def nearly_full(key: str, data: bytes) -> None:
        if len(data) > 5:
            raise DiskFull("no space left")
        put(key, data)

    files = [source(tmp_path / "small", b"x"), source(tmp_path / "big", b"x" * 9)]
    monkeypatch.setattr(blobs, "put", nearly_full)
    submit(files)
    assert stored(sqlite) == {"small": (JobState.QUEUED, None), "big": (JobState.FAILED, "disk_full")}
    assert [message.source for message in outbox] == ["small"]
    monkeypatch.undo()
    monkeypatch.setattr("workers.sending.send_audits", outbox.send)
    submit(files)
    assert stored(sqlite) == {"small": (JobState.QUEUED, None), "big": (JobState.QUEUED, None)}


def test_submitting_again_continues_and_never_doubles(
    submit: Callable[..., list[int]], outbox: Outbox, sqlite: Database, tmp_path: Path
) -> None:
    files = [source(tmp_path / "a", b"a"), source(tmp_path / "b", b"b")]
    submit(files)
    with sqlite.write() as session:
        done = session.exec(select(AuditJob).where(AuditJob.source == "a")).one()
        done.state = JobState.DONE
    first = [message.job_id for message in outbox]
    outbox.clear()
    submit(files, id="again")
    assert [message.job_id for message in outbox] == [first[1]]
    assert len(stored(sqlite)) == 2


@pytest.mark.parametrize("changed", [{"profiles": ("wechat",)}, {"model_version": "student-2"}])
def test_another_question_about_the_same_bytes_is_another_job(
    submit: Callable[..., list[int]], outbox: Outbox, tmp_path: Path, changed: dict[str, object]
) -> None:
    file = source(tmp_path / "a", b"a")
    submit([file], model_version="student-1")
    submit([file], **{"model_version": "student-1", **changed})
    assert len({message.job_id for message in outbox}) == 2


def test_changed_bytes_under_the_same_name_are_another_job(
    submit: Callable[..., list[int]], outbox: Outbox, tmp_path: Path
) -> None:
    submit([source(tmp_path / "a", b"before")])
    submit([source(tmp_path / "a", b"after")])
    assert len({message.sha256 for message in outbox}) == 2


def test_the_same_file_named_twice_is_audited_once(submit: Callable[..., list[int]], outbox: Outbox, tmp_path: Path) -> None:
    file = source(tmp_path / "a", b"a")
    assert submit([file, file]) == [2]
    assert len(outbox) == 1


def test_the_order_of_profiles_is_no_other_question(submit: Callable[..., list[int]], outbox: Outbox, tmp_path: Path) -> None:
    file = source(tmp_path / "a", b"a")
    submit([file], profiles=("wechat", "weibo"))
    submit([file], profiles=("weibo", "wechat"))
    assert len({message.job_id for message in outbox}) == 1


def test_files_are_taken_as_they_are_needed(sqlite: Database, blobs: DirectoryBlobStore, outbox: Outbox, tmp_path: Path) -> None:
    taken = 0

    def endless() -> Iterator[SourceFile]:
        nonlocal taken
        file = source(tmp_path / "a", b"a")
        while True:
            taken += 1
            yield SourceFile(file.path, f"{taken}.jpg")

    progress = submit_files(endless(), Submission("s", max_bytes=10), sqlite, blobs, make_app(Settings()))
    assert (next(progress), taken) == (64, 64)
    assert (next(progress), taken, len(outbox)) == (64, 128, 128)


@pytest.mark.slow
def test_messages_lie_in_redis(sqlite: Database, blobs: DirectoryBlobStore, broker_url: str, tmp_path: Path) -> None:
    app = make_app(Settings(broker_url=broker_url))
    files = [source(tmp_path / f"{number}", bytes([number])) for number in range(70)]
    submission = Submission("s", max_bytes=10, queue=AuditQueue.BULK)
    assert list(submit_files(files, submission, sqlite, blobs, app)) == [64, 6]
    assert queue_depths(app) == {AuditQueue.HIGH: 0, AuditQueue.DEFAULT: 0, AuditQueue.BULK: 70}
    app.close()


@pytest.mark.slow
def test_without_redis_the_jobs_are_kept(sqlite: Database, blobs: DirectoryBlobStore, tmp_path: Path) -> None:
    app = make_app(Settings(broker_url=f"redis://127.0.0.1:{free_ports(1)[0]}/0"))
    files = [source(tmp_path / f"{number:03}", str(number).encode()) for number in range(150)]
    with pytest.raises(BrokerUnavailable):
        list(submit_files(files, Submission("s", max_bytes=10), sqlite, blobs, app))
    assert stored(sqlite) == {file.name: (JobState.QUEUED, None) for file in files}
    app.close()


def test_a_claimed_job_submitted_again_is_sent_again(
    submit: Callable[..., list[int]], outbox: Outbox, sqlite: Database, tmp_path: Path
) -> None:
    file = source(tmp_path / "a", b"a")
    submit([file])
    with sqlite.write() as session:
        jobs.claim_job(session, outbox[0])
    submit([file])
    assert [message.job_id for message in outbox] == [outbox[0].job_id] * 2


# From here on: sources of every kind, and what a second run costs.


@dataclass
class Counted:
    """Content that counts how often it is read."""

    data: bytes
    mark: str | None = None
    reads: int = 0

    def stamp(self) -> str | None:
        return self.mark

    def read(self, max_bytes: int) -> bytes:
        self.reads += 1
        if len(self.data) > max_bytes:
            raise TooLarge("too large")
        return self.data


@pytest.fixture
def submit_all(sqlite: Database, blobs: DirectoryBlobStore, outbox: Outbox) -> Callable[..., list[Step]]:
    assert outbox == []  # nothing goes to a real Redis

    def submitted(*sources: Source, **changes: object) -> list[Step]:
        submission = Submission(**{"id": "s", "max_bytes": 1000, **changes})  # type: ignore[arg-type]
        return list(submit_sources(sources, submission, sqlite, blobs, make_app(Settings())))

    return submitted


def all_jobs(database: Database) -> dict[str, AuditJob]:
    with database.read() as session:
        found = {job.source: job for job in session.exec(select(AuditJob))}
        session.expunge_all()
        return found


def test_what_a_source_asks_for_goes_before_what_the_submission_says(
    submit_all: Callable[..., list[Step]], outbox: Outbox, sqlite: Database
) -> None:
    own = Source("own", Counted(b"1"), source_profile="weibo", queue=AuditQueue.HIGH, profiles=())
    submit_all(
        own,
        Source("shared", Counted(b"2")),
        Source("by queue", Counted(b"3"), queue=AuditQueue.BULK),
        source_profile="wechat",
        queue_profiles={AuditQueue.BULK: ("facebook",), AuditQueue.HIGH: ("whatsapp",)},
    )
    sent = {message.source: (message.queue, message.profiles, message.source_profile) for message in outbox}
    assert sent == {
        "own": (AuditQueue.HIGH, (), "weibo"),
        "shared": (AuditQueue.DEFAULT, (), "wechat"),
        "by queue": (AuditQueue.BULK, ("facebook",), "wechat"),
    }
    assert {name: job.source_profile for name, job in all_jobs(sqlite).items()} == {
        name: profile for name, (_, _, profile) in sent.items()
    }


def test_a_stored_picture_is_referenced_and_a_missing_one_fails_by_name(
    submit_all: Callable[..., list[Step]], outbox: Outbox, sqlite: Database, blobs: DirectoryBlobStore
) -> None:
    sha256 = hashlib.sha256(b"x").hexdigest()
    blobs.put(picture_key(sha256), b"x")
    refused = Source("jobs.jsonl:7", error=ErrorRecord(code="invalid_message", message="line 7: bad"), client_ref="line")
    (step,) = submit_all(Source("there", sha256=sha256), Source("gone", sha256="ab" * 32), refused)
    assert step == Step(3, refused=2)
    assert stored(sqlite) == {
        "there": (JobState.QUEUED, None),
        "gone": (JobState.FAILED, "blob_missing"),
        "jobs.jsonl:7": (JobState.FAILED, "invalid_message"),
    }
    assert [message.sha256 for message in outbox] == [sha256]


def test_a_url_is_handed_on_unread_and_is_one_job(
    submit_all: Callable[..., list[Step]], outbox: Outbox, sqlite: Database
) -> None:
    sources = [
        Source("a", url="https://a.org/a?1"),
        Source("a", url="https://a.org/a?2"),
        Source("b", url="https://a.org/b", client_ref="r"),
    ]
    for _ in range(2):
        submit_all(*sources)
    with sqlite.read() as session:
        rows = session.exec(select(AuditJob.url, AuditJob.source, AuditJob.state, AuditJob.sha256)).all()
        assert session.exec(select(Picture)).all() == []
    assert sorted(rows) == [(source.url, source.name, JobState.QUEUED, None) for source in sources]
    assert {(message.url, message.sha256) for message in outbox} == {(source.url, None) for source in sources}


def test_a_second_run_reads_nothing_that_is_in(
    submit_all: Callable[..., list[Step]], outbox: Outbox, sqlite: Database, tmp_path: Path
) -> None:
    content = [Counted(bytes([number]), f"stamp {number}") for number in range(70)]
    sources = [Source(f"{number}", each) for number, each in enumerate(content)]
    digests = tmp_path / "digests.db"
    assert submit_all(*sources, digests=digests) == [Step(64), Step(6)]
    assert submit_all(*sources, digests=digests, id="again") == [Step(64, known=64), Step(6, known=6)]
    assert {each.reads for each in content} == {1}
    assert {job.submission for job in all_jobs(sqlite).values()} == {"again"}
    assert len(outbox) == 140  # without a limit, what has not ended is sent again
    content[3].data, content[3].mark = b"changed", "stamp 3, later"
    assert submit_all(*sources, digests=digests)[0] == Step(64, known=63)
    assert content[3].reads == 2


def test_what_was_read_before_but_is_not_in_is_read_again(
    submit_all: Callable[..., list[Step]], sqlite: Database, blobs: DirectoryBlobStore, tmp_path: Path
) -> None:
    content = Counted(b"x", "stamp")
    source_ = Source("a", content)
    digests = tmp_path / "digests.db"
    submit_all(source_, digests=digests)
    with sqlite.write() as session:
        job = session.exec(select(AuditJob)).one()
        jobs.fail_job(session, job.id, ErrorRecord(code="blob_missing", message="gone"))
    blobs.delete(picture_key(hashlib.sha256(b"x").hexdigest()))
    assert submit_all(source_, digests=digests) == [Step(1)]
    assert content.reads == 2
    assert stored(sqlite) == {"a": (JobState.QUEUED, None)}
    assert blobs.exists(picture_key(hashlib.sha256(b"x").hexdigest()))


def test_a_client_reference_is_audited_once_whatever_lies_behind_it(
    submit_all: Callable[..., list[Step]], outbox: Outbox, sqlite: Database
) -> None:
    first, second = Counted(b"1"), Counted(b"2")
    submit_all(Source("a", first, client_ref="ref"))
    assert submit_all(Source("b", second, client_ref="ref")) == [Step(1, known=1)]
    assert (first.reads, second.reads) == (1, 0)
    assert len({message.job_id for message in outbox}) == 1
    assert set(stored(sqlite)) == {"a"}


def test_a_failed_reference_is_tried_again_with_what_lies_behind_it_now(
    submit_all: Callable[..., list[Step]], outbox: Outbox, sqlite: Database
) -> None:
    (step,) = submit_all(Source("a", Counted(b"x" * 2000), client_ref="ref"))
    assert (step.refused, outbox) == (1, [])
    assert submit_all(Source("a", Counted(b"small"), client_ref="ref", source_profile="weibo")) == [Step(1)]
    assert [(message.sha256, message.source_profile) for message in outbox] == [(hashlib.sha256(b"small").hexdigest(), "weibo")]
    assert stored(sqlite) == {"a": (JobState.QUEUED, None)}


def test_a_reference_twice_in_one_batch_is_one_job(
    submit_all: Callable[..., list[Step]], outbox: Outbox, sqlite: Database
) -> None:
    submit_all(Source("a", Counted(b"1"), client_ref="ref"), Source("b", Counted(b"2"), client_ref="ref"))
    assert len(outbox) == len(all_jobs(sqlite)) == 1


def test_a_blob_store_that_is_away_stops_instead_of_failing_picture_by_picture(
    submit_all: Callable[..., list[Step]], sqlite: Database, blobs: DirectoryBlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_key: str, _data: bytes) -> None:
        raise BlobStoreUnavailable("the S3 server does not answer")

    monkeypatch.setattr(blobs, "put", away)
    with pytest.raises(BlobStoreUnavailable, match="Run the same command again"):
        submit_all(Source("a", Counted(b"1")), Source("b", Counted(b"2")))
    assert stored(sqlite) == {}


def test_pictures_are_read_by_several_threads_and_kept_in_order(submit_all: Callable[..., list[Step]], outbox: Outbox) -> None:
    both = threading.Barrier(2, timeout=10)

    class Meeting(Counted):
        def read(self, max_bytes: int) -> bytes:
            both.wait()  # raises unless two are read at once
            return super().read(max_bytes)

    submit_all(*(Source(f"{number}", Meeting(bytes([number]))) for number in range(4)), threads=2)
    assert len(outbox) == 4


def test_it_waits_for_room_in_the_queue_and_says_so(
    sqlite: Database, blobs: DirectoryBlobStore, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    depth = {queue: 0 for queue in AuditQueue}
    monkeypatch.setattr("workers.sending.queue_depths", lambda _app: depth)
    monkeypatch.setattr("workers.sending._PAUSE_S", 0)
    sources = (Source(f"{number}", Counted(b"x")) for number in count())
    steps = submit_sources(sources, Submission("s", 10, max_queued=5), sqlite, blobs, make_app(Settings()))
    assert next(steps) == Step(5)
    depth[AuditQueue.DEFAULT] = 3
    assert [next(steps), next(steps)] == [Step(0, waiting=3)] * 2
    assert len(outbox) == 5
    depth[AuditQueue.DEFAULT] = 0
    assert next(steps) == Step(5)
    assert len(outbox) == 10
    steps.close()


def test_memory_does_not_grow_with_the_number_of_pictures(sqlite: Database, blobs: DirectoryBlobStore, outbox: Outbox) -> None:
    def endless() -> Iterator[Source]:
        for number in count():
            outbox.clear()
            yield Source(f"{number}", sha256="ab" * 32)

    steps = submit_sources(endless(), Submission("s", 10), sqlite, blobs, make_app(Settings()))
    list(islice(steps, 10))
    gc.collect()
    tracemalloc.start()
    list(islice(steps, 30))
    gc.collect()
    grown, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    steps.close()
    assert grown < 500_000  # 1920 pictures
