"""What a chaos run happens to: a real Redis, PostgreSQL and S3 server, and real worker processes under a supervisor."""

import contextlib
import os
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from pydantic import SecretStr
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from benchmarks import chaos_witness, chaos_worker
from benchmarks.chaos_servers import Servers, signal_to
from cli.children import Child
from cli.stack import environment_of
from model.card import Card, builtin_directory
from schemas.errors import ServiceError
from schemas.settings import BlobSettings, EngineSettings, Settings, SubmitSettings, WorkerSettings
from storage import migrations, registry
from storage.blobs import BlobStore, open_blob_store
from storage.database import Database
from tests.servers import S3Server, new_postgres_database
from workers.app import make_app

Value = TypeVar("Value")
ROOT = Path(__file__).resolve().parent.parent
VISIBILITY_TIMEOUT_S = 10
_IDLE_TIMEOUT_MS = 3_000
_WORKERS = 2
_RESTART_AFTER_S = 1.0
# A worker that is gone sooner than this never served: something it needs to start was away.
_STARTING_S = 20.0


@dataclass
class Slot:
    """A place for one worker, which the supervisor fills again."""

    number: int
    argv: Sequence[str]
    child: Child | None = None
    started_at: float = 0.0
    starts: int = 0
    killed: bool = False

    @property
    def signature(self) -> str:
        """How the worker now in this place signs its transactions."""
        return f"worker-{self.number}-{self.starts}"

    def running(self) -> bool:
        return self.child is not None and self.child.running


class Site:
    """One installation on these servers, empty at first: a database, a bucket or directory, and a Redis for itself."""

    def __init__(
        self,
        servers: Servers,
        folder: Path,
        blobs: Literal["minio", "directory"] = "minio",
        handled: bool = False,
        max_attempts: int = 50,
    ) -> None:
        """Prepare; nothing runs before the `with` block.

        Args:
            servers: used by one site at a time, for Redis is emptied.
            folder: takes logs, and the directory of blobs.
            blobs: where the pictures' bytes lie.
            handled: whether the workers' clocks can be set, and the workers stopped inside a stage.
            max_attempts: many by default: how often a service is away is drawn, and no picture may end for that.
        """
        self.servers = servers
        self.folder = folder
        self.max_attempts = max_attempts
        worker = ["benchmarks.chaos_worker"] if handled else ["cli.main", "worker"]
        self.slots = [Slot(number, [sys.executable, "-m", *worker]) for number in range(1, _WORKERS + 1)]
        self.own_deaths: list[str] = []
        self._exit = ExitStack()
        waits = {"predict_timeout_s": 8.0, "retry_backoff_s": 0.5, "retry_backoff_max_s": 2.0, "shutdown_grace_s": 3.0}
        self._worker = WorkerSettings(max_batch=4, visibility_timeout_s=VISIBILITY_TIMEOUT_S, max_attempts=max_attempts, **waits)
        self._blobs = BlobSettings(directory=folder / "blobs") if blobs == "directory" else _bucket(servers.s3)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._exit.close()

    def settings(self, signature: str) -> Settings:
        """The settings of one process, whose transactions carry its signature."""
        # How long a worker that stands still may hold its locks: in the proportion of the visibility timeouts, as by default.
        patience = f"-c idle_in_transaction_session_timeout={_IDLE_TIMEOUT_MS}"
        url = make_url(self.database.url).update_query_dict({"application_name": signature, "options": patience})
        return Settings(
            database_url=url.render_as_string(hide_password=False),
            broker_url=f"{self.servers.redis_url}/0",
            blobs=self._blobs,
            engine=EngineSettings(threads=1),
            worker=self._worker,
            submit=SubmitSettings(digests=""),
        )

    def environment(self, signature: str) -> dict[str, str]:
        """The environment from which a process of ours reads these settings."""
        ours = environment_of(self.settings(signature))
        for name, key in (("ACCESS", self._blobs.access_key), ("SECRET", self._blobs.secret_key)):
            if key is not None:
                ours[f"TAMPERWATCH_BLOBS__{name}_KEY"] = key.get_secret_value()
        theirs = {name: value for name, value in os.environ.items() if not name.startswith("TAMPERWATCH_")}
        return theirs | ours | {"PYTHONPATH": str(ROOT)}

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """A session of the observer's. Raises StoreUnavailable while PostgreSQL is away."""
        with self.database.read() as session:
            yield session

    def redis(self) -> Redis:
        """A client of the observer's; use it in a `with` block."""
        return Redis.from_url(f"{self.servers.redis_url}/0", socket_timeout=5)

    def execute(self, *statements: str) -> list[Any]:
        """Run SQL as the administrator, each statement a transaction, and return the first column of the last one's rows."""
        engine = create_engine(self.database.url, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                for statement in statements:
                    result = connection.exec_driver_sql(statement)
                return list(result.scalars()) if result.returns_rows else []
        finally:
            engine.dispose()

    def supervise(self) -> None:
        """Fill the places of dead workers, as a supervisor would: a moment later, and for ever."""
        for slot in self.slots:
            if slot.child is not None and not slot.child.running:
                if not slot.killed and time.time() - slot.started_at > _STARTING_S:
                    self.own_deaths.append(f"{slot.signature}: {slot.child.log_tail()}")
                slot.child, slot.killed, slot.started_at = None, False, time.time()
            elif slot.child is None and time.time() - slot.started_at > _RESTART_AFTER_S:
                self._start_worker(slot)

    def kill(self, slot: Slot, number: signal.Signals = signal.SIGKILL) -> str:
        """Send a signal that is meant to end a worker, sooner or later, and return the worker's signature."""
        slot.killed = slot.running()
        signal_to(slot.child, number)
        return slot.signature

    def set_clock(self, slot: Slot, off_s: float) -> None:
        """Set the clock of the workers in this place."""
        self._tell(slot, chaos_worker.CLOCK, str(off_s))

    def stop_in(self, slot: Slot, stage: str) -> None:
        """Let the workers in this place stop for ever in a stage; an empty name lets those that come pass again."""
        (self._handles(slot) / chaos_worker.REACHED).unlink(missing_ok=True)
        self._tell(slot, chaos_worker.STAGE, stage)

    def stopped_in_stage(self, slot: Slot) -> bool:
        """Whether a thread of the worker in this place has come to its stage."""
        return (self._handles(slot) / chaos_worker.REACHED).exists()

    def promote_copy(self) -> str:
        """Make a copy of the packaged student live, under a version of its own, and return that version."""
        folder = self.folder / "student-copy"
        shutil.copytree(builtin_directory(), folder)
        card = Card.load(folder).model_copy(update={"version": "student-copy"})
        card.save(folder)
        with self.database.write() as session:
            registry.register(session, card.version, card.model_dump(mode="json"), str(folder), "chaos", "a swap")
            registry.promote(session, card.version, "chaos", "a swap")
        return card.version

    def _handles(self, slot: Slot) -> Path:
        return self.folder / f"handles-{slot.number}"

    def _tell(self, slot: Slot, name: str, value: str) -> None:
        folder = self._handles(slot)
        folder.mkdir(exist_ok=True)
        new = folder / f"{name}.new"
        new.write_text(value, encoding="utf-8")
        # At once: the worker reads it all the time.
        new.replace(folder / name)

    def _start(self) -> None:
        self.database = Database(self._exit.enter_context(new_postgres_database(self.servers.postgres_url)))
        self._exit.callback(self.database.close)
        migrations.upgrade(self.database)
        chaos_witness.install(self.database)
        self.blobs: BlobStore = open_blob_store(self._blobs)
        with self.redis() as client:
            client.flushall()
        self.app = make_app(self.settings("observer"))
        self._exit.callback(self.app.close)
        self._exit.callback(self._stop_workers)
        for slot in self.slots:
            self.set_clock(slot, 0.0)
            self._start_worker(slot)

    def _start_worker(self, slot: Slot) -> None:
        slot.starts += 1
        slot.started_at = time.time()
        log = self.folder / f"{slot.signature}.log"
        env = self.environment(slot.signature) | {"CHAOS_FOLDER": str(self._handles(slot))}
        slot.child = Child(slot.signature, slot.argv, log, env)

    def _stop_workers(self) -> None:
        for slot in self.slots:
            signal_to(slot.child, signal.SIGKILL)
            if slot.child is not None:
                slot.child.stop(grace_s=5)
        shutil.rmtree(self.folder / "blobs", ignore_errors=True)


def quietly(question: Callable[[], Value]) -> Value | None:
    """The answer to a question that is asked again and again; None while the one who knows is away."""
    try:
        return question()
    except (ServiceError, RedisError, SQLAlchemyError):
        return None


def _bucket(server: S3Server) -> BlobSettings:
    """A bucket of this run's own; the store makes it."""
    return BlobSettings(
        backend="minio",
        endpoint=server.endpoint,
        bucket=f"chaos-{uuid.uuid4().hex}",
        secure=False,
        access_key=SecretStr(server.access_key),
        secret_key=SecretStr(server.secret_key),
    )
