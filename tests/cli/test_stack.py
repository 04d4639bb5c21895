"""The embedded stack: private, supervised, one at a time to a folder, and gone without a trace."""

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr
from redis import Redis
from sqlalchemy.engine import make_url

from cli import redis_binary, stack
from cli.holder import read_holder, write_holder
from cli.stack import EmbeddedStack, Place, environment_of
from model.card import Card, builtin_directory
from schemas.errors import EnvironmentMissing, InvalidInput
from schemas.settings import BlobSettings, EngineSettings, LimitSettings, Settings, TelemetrySettings, WorkerSettings
from schemas.states import ModelStage
from storage import registry
from storage.database import Database
from tests.waiting import wait_for


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files of this test alone: short enough for a socket, its name as awkward as may be."""
    with tempfile.TemporaryDirectory(prefix="t m?p#%41é") as name:
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield Path(name)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("TAMPERWATCH_")]:
        monkeypatch.delenv(name)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def child_pids(running: EmbeddedStack) -> list[int]:
    return [child.pid for child in running._children]


def test_the_environment_round_trips(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Settings(
        database_url="sqlite:////odd %25 path?x=1",
        broker_url="redis+socket:///tmp/a b.sock",
        blobs=BlobSettings(directory=Path("/odd é/blobs"), secure=False),
        limits=LimitSettings(max_bytes=123, max_pixels=456),
        engine=EngineSettings(name="openvino", threads=3, exact=False),
        worker=WorkerSettings(
            max_batch=5, max_wait_ms=0.125, predict_timeout_s=29.5, retry_backoff_max_s=9.5, visibility_timeout_s=31
        ),
    )
    for name, value in environment_of(given).items():
        assert name.startswith("TAMPERWATCH_")
        monkeypatch.setenv(name, value)

    assert Settings() == given


@pytest.mark.parametrize(("port", "ports"), [(0, ["0", "0"]), (9700, ["9700", "9701"])])
def test_each_worker_has_its_own_telemetry_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int, ports: list[str]
) -> None:
    environments: dict[str, dict[str, str]] = {}

    class Recorded:
        """A child that is never started."""

        def __init__(self, name: str, argv: list[str], log_path: Path, env: dict[str, str]) -> None:  # noqa: ARG002
            environments[name] = env

        def ask_to_end(self) -> None:
            """There is nothing to end."""

        def stop(self, grace_s: float) -> None:
            """There is nothing to stop."""

    monkeypatch.setattr(stack, "Child", Recorded)
    monkeypatch.setattr(stack, "wait_for_redis", lambda *_: None)
    with EmbeddedStack(tmp_path / "a", Settings(telemetry=TelemetrySettings(port=port)), workers=2):
        pass
    assert [environments[name]["TAMPERWATCH_TELEMETRY__PORT"] for name in ("worker-1", "worker-2")] == ports


def test_the_environment_holds_no_secret() -> None:
    """Secrets are masked, not passed on: the embedded blob store is a directory and needs none."""
    settings = Settings(blobs=BlobSettings(access_key=SecretStr("hunter2"), secret_key=SecretStr("hunter2")))

    assert not any("hunter2" in value for value in environment_of(settings).values())


def test_its_own_places_replace_the_given_ones(tmp_path: Path) -> None:
    given = Settings(database_url="postgresql+psycopg://far/away", broker_url="redis://far/0", limits=LimitSettings(max_bytes=77))
    embedded = EmbeddedStack(tmp_path / "a", given, workers=2)

    own = embedded._own_settings(tmp_path / "redis.sock")

    assert own.database_url.startswith("sqlite:///") and own.broker_url == f"redis+socket://{tmp_path / 'redis.sock'}"
    assert own.blobs == BlobSettings(directory=(tmp_path / "a").resolve() / "blobs")
    assert own.limits.max_bytes == 77
    assert own.worker.visibility_timeout_s > own.worker.retry_backoff_max_s
    assert 1 <= own.engine.threads <= max(1, (os.cpu_count() or 1) // 2)
    Settings.model_validate(own.model_dump())  # what is passed on is valid


@pytest.mark.parametrize("name", ["plain", "wh?t", "50%", "a%41", "#1", "with space", "ünï 日本", "a+b", "x:y@z", "[1]"])
def test_a_database_may_lie_anywhere(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "tamperwatch.db"
    path.parent.mkdir()

    database = Database(stack._sqlite_url(path))
    with database.write():
        pass
    database.close()

    assert path.exists()
    assert make_url(database.url).database == str(path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")

    with pytest.raises(EnvironmentMissing, match="cannot write to"), EmbeddedStack(tmp_path / "file" / "x", Settings()):
        pass


def test_a_folder_whose_path_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not valid UTF-8"), EmbeddedStack(tmp_path / "\udcff" / "a", Settings()):
        pass
    assert list(tmp_path.iterdir()) == []


def test_no_place_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))

    with pytest.raises(EnvironmentMissing, match="set TMPDIR"), EmbeddedStack(tmp_path / "a", Settings()):
        pass


def test_a_folder_in_use_is_refused(tmp_path: Path, temporary: Path) -> None:
    folder = tmp_path / "out" / ".tamperwatch"
    folder.mkdir(parents=True)
    with (folder / "lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        with pytest.raises(InvalidInput, match=f"another run is using {tmp_path / 'out'}"), EmbeddedStack(folder, Settings()):
            pass
    assert list(temporary.iterdir()) == []


def test_whoever_comes_second_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_holder(file, "an earlier text that is longer than the next one")
        write_holder(file, "`tamperwatch up`, which answers at http://127.0.0.1:8080")

        words = f"using {tmp_path}: `tamperwatch up`, which answers at http://127.0.0.1:8080, process {os.getpid()}; wait for"
        with pytest.raises(InvalidInput, match=words), EmbeddedStack(tmp_path, Settings(), place=Place(tmp_path, "up", "folder")):
            pass
    assert read_holder(tmp_path / "nothing") == ""


def test_a_redis_that_does_not_start_leaves_nothing(tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "redis_command", lambda *_: ["/bin/sh", "-c", "echo no memory, say; exit 1"])
    monkeypatch.setattr(redis_binary, "_TRIES", 3)

    with pytest.raises(EnvironmentMissing, match="the embedded Redis does not start: no memory, say"):
        EmbeddedStack(tmp_path / "a", Settings()).__enter__()
    assert list(temporary.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with (tmp_path / "a" / "lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # given back


def test_a_socket_path_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))

    with pytest.raises(EnvironmentMissing, match="set TMPDIR to a shorter folder"), EmbeddedStack(tmp_path / "a", Settings()):
        pass
    assert list(folder.iterdir()) == []


def test_the_student_of_this_release_becomes_live(sqlite: Database) -> None:
    with sqlite.write() as session:
        registry.ensure_live(session, "student-0", {"version": "student-0"}, registry.PACKAGE_LOCATION)

    for _ in range(2):
        stack._make_packaged_live(sqlite)

    with sqlite.read() as session:
        stages = {row.version: row.stage for row in registry.versions(session)}
    assert stages == {"student-0": ModelStage.RETIRED, Card.load(builtin_directory()).version: ModelStage.LIVE}


def test_a_student_somebody_chose_stays_live(sqlite: Database) -> None:
    with sqlite.write() as session:
        registry.ensure_live(session, "retrained-7", {"version": "retrained-7"}, "/models/retrained-7")

    stack._make_packaged_live(sqlite)

    with sqlite.read() as session:
        live = registry.live(session)
    assert live is not None and live.version == "retrained-7"


@pytest.mark.slow
def test_a_stack_from_start_to_end(tmp_path: Path, temporary: Path) -> None:
    folder = tmp_path / "wh?t #1 é" / ".tamperwatch"
    with EmbeddedStack(folder, Settings(), workers=2) as running:
        pids = child_pids(running)
        (run_folder,) = temporary.iterdir()
        client = Redis(unix_socket_path=str(run_folder / "redis.sock"))

        assert client.ping()
        assert client.config_get("port") == {"port": "0"}  # nobody else can reach it
        assert oct(run_folder.stat().st_mode & 0o777) == "0o700"
        assert len(running.worker_pids) == 2 and set(running.worker_pids) < set(pids)
        wait_for(lambda: client.client_list(_type="normal") and _consumers(client) >= 2, "two workers on the queue", 60)
        with pytest.raises(InvalidInput, match="another run is using"), EmbeddedStack(folder, Settings()):
            pass

        victim = running.worker_pids[0]
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: running.supervise() or victim not in running.worker_pids, "successor")
        assert len({*running.worker_pids, *pids}) == 4  # redis, two old workers, one new
        pids = [*pids, *child_pids(running)]
        client.close()

    assert all(map(is_gone, pids))
    assert list(temporary.iterdir()) == []
    assert (folder / "tamperwatch.db").exists()
    assert "Traceback" not in (folder / "worker-2.log").read_text(encoding="utf-8")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


PARENT = """
import signal, sys, time
from pathlib import Path
# As in a terminal: nohup and a shell's background jobs leave these ignored, for the tests' own children too.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
from cli.stack import EmbeddedStack
from schemas.settings import Settings
with EmbeddedStack(Path(sys.argv[1]), Settings()) as running:
    print(*[child.pid for child in running._children], flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_a_stack_ends_with_its_command(tmp_path: Path, temporary: Path, number: signal.Signals) -> None:
    """However it ends; only kill -9 leaves an empty folder with a dead socket behind."""
    command = [sys.executable, "-c", PARENT, str(tmp_path / "a")]
    env = os.environ | {"TMPDIR": str(temporary)}
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root, env=env) as parent:
        assert parent.stdout is not None and parent.stderr is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.send_signal(number)
        said = parent.stderr.read()
        parent.wait(60)

    for pid in pids:
        wait_for(lambda pid=pid: is_gone(pid), "end of the stack's processes")
    if number is not signal.SIGKILL:
        assert list(temporary.iterdir()) == []
        assert "KeyboardInterrupt" in said


def _consumers(client: "Redis") -> int:
    """Connections that wait for messages."""
    return sum(each["cmd"] == "brpop" for each in client.client_list())
