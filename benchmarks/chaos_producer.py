"""Who sends pictures during a chaos run: sound and broken ones, on all queues, with our code and without; it never gives up."""

import functools
import hashlib
import json
import random
import threading
import time
import uuid
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from redis import Redis
from redis.exceptions import RedisError
from sqlmodel import select

from benchmarks.chaos_site import Site
from benchmarks.chaos_witness import Expected
from schemas.errors import (
    BlobMissing,
    BlobStoreUnavailable,
    BrokerUnavailable,
    DecodeFailed,
    EmptyPicture,
    ServiceError,
    UnsupportedFormat,
)
from schemas.messages import AUDIT_TASK
from schemas.states import AuditQueue, JobState
from schemas.tables import AuditJob
from storage import queries
from storage.blobs import open_blob_store, picture_key
from storage.database import Database
from tests.pictures import picture_bytes
from workers.app import make_app
from workers.submission import SourceFile, Submission, submit_files

Value = TypeVar("Value")
_PAUSE_S = 0.3
_SOUND = Expected()
_SIZES = ((96, 72), (320, 240), (640, 480))
_BROKEN: tuple[tuple[str, Callable[[int], bytes], str], ...] = (
    ("empty", lambda _: b"", EmptyPicture.code),
    ("text", lambda seed: b"no picture %d" % seed, UnsupportedFormat.code),
    ("cut", lambda seed: picture_bytes(seed)[:700], DecodeFailed.code),
)


class Producer:
    """A thread that submits batches until it is told to stop, each again and again until the services have taken it."""

    def __init__(self, site: Site, rng: random.Random, batch: int = 6, ahead: int = 24) -> None:
        """Start at once.

        Args:
            site: where to submit.
            rng: draws the pictures; nobody else may use it.
            batch: pictures submitted together.
            ahead: waits while more jobs than these have not ended: the workers always have something in hand, and no
                long queue stands between a fault and its measurement.
        """
        self.expected: dict[str, Expected] = {}
        self.refused: Counter[str] = Counter()
        self._site = site
        self._rng = rng
        self._batch, self._ahead = batch, ahead
        self._files = site.folder / "pictures"
        self._files.mkdir()
        self._foreign: dict[str, dict[str, object]] = {}
        self._batches: list[tuple[list[SourceFile], Submission]] = []
        settings = site.settings("producer")
        self._database, self._blobs = Database(settings.database_url), open_blob_store(settings.blobs)
        self._app = make_app(settings)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="producer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the stream, and submit again what was refused because the blob store went away in the midst of a batch."""
        self._stopping.set()
        self._thread.join()
        for files, submission in self._batches:
            # More than once: the store may not be back yet.
            while self._patiently(functools.partial(self._turned_away, submission)):
                self._patiently(functools.partial(self._submit, files, submission))
                time.sleep(_PAUSE_S)

    def send_forgotten(self) -> int:
        """Send messages again that Redis forgot before a worker had made their row: only their sender can know of them."""
        known = self._patiently(self._known_sources)
        forgotten = sorted(self._foreign.keys() - known)
        for name in forgotten:
            self.refused["message_without_row"] += 1
            self._patiently(functools.partial(self._put, self._foreign[name]))
        return len(forgotten)

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._app.close()
        self._database.close()

    def missing_sha256(self) -> set[str]:
        """The sha256 of pictures that messages named and nobody stored."""
        missing = (message for name, message in self._foreign.items() if BlobMissing.code in self.expected[name].codes)
        return {str(message["sha256"]) for message in missing}

    def probe(self, name: str, seed: int, expected: Expected = _SOUND) -> uuid.UUID:
        """Put one picture in front of all others of its queue, from the caller's own thread, and return its job's id.

        Raises:
            ServiceError: something it takes is away; the same call may be repeated.
        """
        data = picture_bytes(seed)
        sha256 = hashlib.sha256(data).hexdigest()
        self._blobs.put(picture_key(sha256), data)
        message = {"version": 1, "job_id": str(uuid.uuid4()), "sha256": sha256, "source": name, "queue": AuditQueue.HIGH.value}
        self._foreign.setdefault(name, message)
        self.expected[name] = expected
        self._put(self._foreign[name], first=True)
        return uuid.UUID(str(self._foreign[name]["job_id"]))

    def _loop(self) -> None:
        sent = 0
        while not self._stopping.is_set():
            if self._patiently(self._unfinished) > self._ahead:
                self._stopping.wait(_PAUSE_S)
                continue
            files, submission = self._drawn(sent)
            self._patiently(functools.partial(self._submit, files, submission))
            self._batches.append((files, submission))
            if sent % 3 == 1:
                self._send_foreign(sent)
            sent += 1

    def _drawn(self, number: int) -> tuple[list[SourceFile], Submission]:
        files, profiles = [], self._rng.choice(((), (), (), ("wechat",)))
        # One broken picture in each batch, so that whatever strikes also strikes among their neighbours; now and then more.
        broken = self._rng.randrange(self._batch)
        for index in range(self._batch):
            seed = number * self._batch + index
            if index == broken or self._rng.random() < 0.05:
                kind, make, code = self._rng.choice(_BROKEN)
                name, data, wanted = f"{kind}-{seed}.jpg", make(seed), Expected(codes=frozenset({code}))
            else:
                # Now and then bytes that were sent before, under another name.
                drawn = self._rng.randrange(seed + 1) if self._rng.random() < 0.1 else seed
                name, data = f"sound-{seed}.jpg", picture_bytes(drawn, *self._rng.choice(_SIZES))
                wanted = Expected(profiles)
            files.append(self._file(name, data))
            self.expected[name] = wanted
        queue = self._rng.choice(list(AuditQueue))
        return files, Submission(f"batch-{number}", 10**6, queue, profiles)

    def _file(self, name: str, data: bytes) -> SourceFile:
        path = self._files / name
        path.write_bytes(data)
        return SourceFile(path, name)

    def _submit(self, files: Sequence[SourceFile], submission: Submission) -> None:
        try:
            for _ in submit_files(files, submission, self._database, self._blobs, self._app):
                pass
        except BrokerUnavailable as error:
            # All is in the store: the sweeper sends it.
            self.refused[error.code] += 1

    def _send_foreign(self, number: int) -> None:
        """What a producer without our code sends: a message alone, now and then for bytes that are not there."""
        missing = self._rng.random() < 0.25
        name, data = f"foreign-{number}.jpg", picture_bytes(10**6 + number)
        sha256 = hashlib.sha256(data).hexdigest()
        if not missing:
            self._patiently(functools.partial(self._blobs.put, picture_key(sha256), data))
        job_id = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        queue = self._rng.choice(list(AuditQueue)).value
        self._foreign[name] = {"version": 1, "job_id": job_id, "sha256": sha256, "source": name, "queue": queue}
        self.expected[name] = Expected(codes=frozenset({BlobMissing.code}) if missing else frozenset())
        self._patiently(functools.partial(self._put, self._foreign[name]))

    def _put(self, message: dict[str, object], first: bool = False) -> None:
        try:
            with self._site.redis() as client:
                put_on_queue(client, message, first)
        except RedisError as error:
            raise BrokerUnavailable(str(error)) from error

    def _turned_away(self, submission: Submission) -> bool:
        """Whether pictures of a batch were refused because the blob store went away in its midst."""
        refused = (AuditJob.state == JobState.FAILED, AuditJob.error_code == BlobStoreUnavailable.code)
        with self._database.read() as session:
            return bool(session.exec(select(AuditJob.id).where(AuditJob.submission == submission.id, *refused)).all())

    def _unfinished(self) -> int:
        with self._database.read() as session:
            counts = queries.job_counts(session)
        return counts[JobState.QUEUED] + counts[JobState.RUNNING]

    def _known_sources(self) -> set[str]:
        with self._database.read() as session:
            return set(session.exec(select(AuditJob.source)).all())

    def _patiently(self, action: Callable[[], Value]) -> Value:
        """Do it until it works: no service is away for ever."""
        while True:
            try:
                return action()
            except ServiceError as error:
                self.refused[error.code] += 1
            time.sleep(_PAUSE_S)


def put_on_queue(client: Redis, message: dict[str, object], first: bool = False) -> None:
    """Write a message on its list, as docs/operations.md tells producers in other languages to; `first` takes the other end."""
    queue, task_id = f"audit.{message['queue']}", uuid.uuid4().hex
    body = json.dumps([[message], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    envelope = {
        "body": b64encode(body.encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": AUDIT_TASK, "id": task_id, "lang": "py", "retries": 0, "eta": None, "expires": None},
        "properties": {
            "correlation_id": task_id,
            "delivery_tag": task_id,
            "delivery_mode": 2,
            "priority": 0,
            "body_encoding": "base64",
            "delivery_info": {"exchange": "audit", "routing_key": queue},
        },
    }
    (client.rpush if first else client.lpush)(queue, json.dumps(envelope))
