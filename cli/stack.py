"""The embedded stack: a private Redis, SQLite, a directory and supervised processes, with nothing to install."""

import errno
import fcntl
import os
import shutil
import signal
import sys
import tempfile
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from celery import Celery
from sqlalchemy import URL

from cli.children import Child
from cli.holder import read_holder, write_holder
from cli.redis_binary import redis_command, wait_for_redis
from model.card import Card, builtin_directory
from schemas.errors import DiskFull, EnvironmentMissing, InvalidInput
from schemas.settings import BlobSettings, Settings
from storage import migrations, recovery, registry
from storage.blobs import BlobStore, open_blob_store
from storage.database import Database
from workers.app import make_app

_VISIBILITY_TIMEOUT_S = 30
_RETRY_BACKOFF_MAX_S = 10.0
# Whoever pressed Ctrl-C is waiting; what is not finished is found again by the next run.
_SHUTDOWN_GRACE_S = 2.0
# glibc keeps what one thread freed for that thread alone; buffers of large pictures must go back for the next one's to fit.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(4 << 20)}


@dataclass(frozen=True)
class Place:
    """A stack's folder as the person knows it who started it.

    Attributes:
        name: what they gave.
        verb: that runs there; stands in the lock for whoever comes second.
        option: by which another folder is named.
    """

    name: Path
    verb: str = "audit"
    option: str = "--out"


class EmbeddedStack:
    """Everything an audit needs, private to one folder, for as long as the `with` block lasts."""

    def __init__(self, folder: Path, settings: Settings, workers: int = 1, place: Place | None = None) -> None:
        """Prepare; nothing runs before the `with` block.

        Args:
            folder: keeps the database, the pictures' bytes and the logs; later runs continue from it.
            settings: limits, engine and worker settings; where things lie is replaced by this stack's own places.
            workers: worker processes; the CPU's cores are shared out among them.
            place: what people call the folder; None for an audit's.
        """
        self.folder = folder
        self._place = place or Place(folder.parent)
        self._given = settings
        self._workers = workers
        self._exit = ExitStack()
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # All at once but Redis, which they need to the end; each is then waited for.
        for child in self._children[1:]:
            child.ask_to_end()
        self._exit.close()

    def supervise(self) -> None:
        """Start again what died. Call it every second or so.

        Raises:
            EnvironmentMissing: a process keeps dying.
        """
        for child in self._children:
            child.revive()

    def add_role(self, name: str, *argv: str, grace_s: float, **variables: str) -> Child:
        """Run another of our verbs beside the workers, with this stack's settings, supervised as they are.

        Args:
            name: of the process and its log.
            argv: the verb and its options.
            grace_s: for its end.
            variables: beside the settings, without their prefix.
        """
        command = [sys.executable, "-m", "cli.main", *argv]
        given = {f"TAMPERWATCH_{key}": value for key, value in variables.items()}
        return self._start_child(name, command, grace_s, **given)

    @property
    def verb(self) -> str:
        """What runs here, as a person typed it."""
        return f"`tamperwatch {self._place.verb}`"

    def tell(self, what: str) -> None:
        """Write down what runs here, for whoever comes second."""
        write_holder(self._lock_file, what)

    @property
    def worker_pids(self) -> list[int]:
        return [child.pid for child in self._children if child.name.startswith("worker")]

    def _start(self) -> None:
        self._lock()
        self._end_on_signals()
        run_folder = self._run_folder()
        socket = run_folder / "redis.sock"
        self.settings = self._own_settings(socket)
        self.database = Database(self.settings.database_url)
        self._exit.callback(self.database.close)
        migrations.upgrade(self.database)
        _make_packaged_live(self.database)
        with self.database.write() as session:
            # We hold the folder's lock: whoever claimed a job in it is dead.
            recovery.forget_claims(session)
        self.blobs: BlobStore = open_blob_store(self.settings.blobs)
        self.app: Celery = make_app(self.settings)
        self._exit.callback(self.app.close)
        self._start_child("redis", redis_command(socket, run_folder), grace_s=5)
        wait_for_redis(socket, self._children[0])
        for number in range(1, self._workers + 1):
            port = str(self.settings.telemetry.port + number - 1 if self.settings.telemetry.port else 0)
            self.add_role(f"worker-{number}", "worker", "--embedded", grace_s=_SHUTDOWN_GRACE_S + 1, TELEMETRY__PORT=port)

    def _run_folder(self) -> Path:
        """A private folder with a short path, for the socket."""
        try:
            folder = Path(tempfile.mkdtemp(prefix="tamperwatch-"))
        except OSError as error:
            raise EnvironmentMissing(f"no folder for temporary files: {error.strerror or error}; set TMPDIR") from error
        self._exit.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _end_on_signals(self) -> None:
        """SIGTERM and a closed terminal end the block as Ctrl-C does, so that nothing is left behind."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGHUP):
            before = signal.getsignal(number)
            if before is signal.SIG_DFL:
                signal.signal(number, signal.default_int_handler)
                self._exit.callback(signal.signal, number, before)

    def _start_child(self, name: str, argv: list[str], grace_s: float, **variables: str) -> Child:
        env = _MALLOC | os.environ | environment_of(self.settings) | variables | {"PYTHONPATH": _import_path()}
        child = Child(name, argv, self.folder / f"{name}.log", env)
        self._children.append(child)
        self._exit.callback(child.stop, grace_s)
        return child

    def _own_settings(self, socket: Path) -> Settings:
        waits = {
            "visibility_timeout_s": _VISIBILITY_TIMEOUT_S,
            "retry_backoff_max_s": _RETRY_BACKOFF_MAX_S,
            "predict_timeout_s": min(self._given.worker.predict_timeout_s, _VISIBILITY_TIMEOUT_S - 1.0),
            "shutdown_grace_s": _SHUTDOWN_GRACE_S,
        }
        threads = self._given.engine.threads or max(1, (os.cpu_count() or 1) // self._workers)
        return self._given.model_copy(
            update={
                "database_url": _sqlite_url(self.folder.resolve() / "tamperwatch.db"),
                "broker_url": f"redis+socket://{quote(str(socket))}",
                "blobs": BlobSettings(directory=self.folder.resolve() / "blobs"),
                "engine": self._given.engine.model_copy(update={"threads": threads}),
                "worker": self._given.worker.model_copy(update=waits),
                "schedule": self._given.schedule.model_copy(update={"broker_url": ""}),
                "retrain": self._given.retrain.model_copy(update={"folder": str(self.folder.resolve() / "runs")}),
                "web": self._given.web.model_copy(update={"shutdown_grace_s": _SHUTDOWN_GRACE_S}),
            }
        )

    def _lock(self) -> None:
        """Two runs over one folder would fight for its database.

        Raises:
            InvalidInput: another run holds the folder, or its path is not valid UTF-8, which SQLite needs.
            EnvironmentMissing, DiskFull: the folder cannot be written.
        """
        try:
            str(self.folder.resolve()).encode()
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock_file = (self.folder / "lock").open("ab")
        except UnicodeEncodeError as error:
            raise InvalidInput(f"the path {self._place.name} is not valid UTF-8; give another {self._place.option}") from error
        except OSError as error:
            message = f"cannot write to {self.folder}: {error.strerror or error}"
            raise (DiskFull if error.errno == errno.ENOSPC else EnvironmentMissing)(message) from error
        self._exit.callback(self._lock_file.close)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = read_holder(self.folder / "lock")
            raise InvalidInput(
                f"another run is using {self._place.name}{f': {holder}' if holder else ''}; wait for it, or give another "
                f"{self._place.option}"
            ) from error
        self.tell(self.verb)


def _sqlite_url(path: Path) -> str:
    """The URL of a database file whose path may hold characters that mean something in a URL."""
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def _make_packaged_live(database: Database) -> None:
    """Audit with the student of this release, also in a folder that an earlier release began."""
    card = Card.load(builtin_directory())
    with database.write() as session:
        live = registry.ensure_live(session, card.version, card.model_dump(mode="json"), registry.PACKAGE_LOCATION)
        if live.location == registry.PACKAGE_LOCATION:
            reason = "ships with this release"
            registry.promote(session, card.version, registry.OURSELVES, reason, override=True)


def environment_of(settings: Settings) -> dict[str, str]:
    """The settings as the environment variables another process of ours reads them from."""
    variables: dict[str, str] = {}
    for name, value in settings.model_dump(mode="json", exclude_none=True).items():
        nested = value if isinstance(value, dict) else {"": value}
        for key, leaf in nested.items():
            variables[f"TAMPERWATCH_{name}{'__' + key if key else ''}".upper()] = str(leaf)
    return variables


def _import_path() -> str:
    """Where our rooms are imported from, so that a worker started elsewhere finds the same code."""
    own = str(Path(__file__).resolve().parent.parent)
    return os.pathsep.join(filter(None, (own, os.environ.get("PYTHONPATH"))))
