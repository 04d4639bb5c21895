"""`tamperwatch up` as a person uses it: real processes, the printed address and key, one picture, and an end without remains."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from cli import embedded_page, packages
from cli.embedded_page import Listening, place_to_listen
from schemas.errors import EnvironmentMissing
from storage.database import Database
from tests.cli.conftest import Tamperwatch
from tests.local_servers import free_ports
from tests.pictures import picture_bytes
from tests.waiting import wait_for
from tests.web.page import bundled
from web.client import TamperwatchClient

ROOT = Path(__file__).parents[2]
# What runs here shares its machine with other tests.
PATIENCE_S = 240


class Up:
    """One `tamperwatch up` as a process."""

    def __init__(self, folder: Path, port: int) -> None:
        self.log = folder.with_name(f"{folder.name}-{port}.txt")
        kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("TAMPERWATCH_")}
        command = [sys.executable, "-m", "cli.main", "up", str(folder), "--port", str(port)]
        # As in a terminal: what is started in the background inherits that Ctrl-C is ignored.
        start = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", start, *command],
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=folder.parent,
                env=kept | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
            )

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def wait_until_up(self) -> None:
        def up() -> bool:
            assert self.process.poll() is None, self.said
            return "Ctrl-C stops everything" in self.said

        wait_for(up, f"running stack; so far: {self.said}", PATIENCE_S)

    def found(self, pattern: str) -> str:
        match = re.search(pattern, self.said)
        assert match is not None, self.said
        return match[0]

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def started() -> Iterator[list[Up]]:
    """Processes that are gone when the test is."""
    found: list[Up] = []
    bundled()
    yield found
    for each in found:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()


def descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


@pytest.mark.slow
def test_from_the_first_start_to_the_second_one(tmp_path: Path, started: list[Up]) -> None:
    folder, (port, other) = tmp_path / "data", free_ports(2)
    up = Up(folder, port)
    started.append(up)
    up.wait_until_up()
    address = up.found(r"http://127\.0\.0\.1:\d+")
    assert address == f"http://127.0.0.1:{port}"
    key, login = up.found(r"tw_[0-9a-f]{12}_[0-9a-f]{64}"), up.found(r"http://\S+/login/once\?token=\S+")

    # Logged in as a browser does it, once.
    with httpx2.Client(base_url=address, headers={"Accept": "text/html"}) as browser:
        token = re.search(r'name="csrf_token" value="(\w+)"', browser.get(login).text)
        link = re.search(r"token=([\w-]+)", login)
        assert token is not None and link is not None
        entered = browser.post("/login/once", data={"csrf_token": token[1], "token": link[1]})
        assert entered.status_code == 303, entered.text
        assert browser.get("/dashboard").status_code == 200
        wait_for(lambda: "audit-" in browser.get("/dashboard/figures").text, "worker that answers", PATIENCE_S)
        assert browser.get(login).status_code == 401

        # A picture through the printed key.
        picture = tmp_path / "a.jpg"
        picture.write_bytes(picture_bytes(1))
        with TamperwatchClient(address, key) as client:
            audit = client.wait(client.submit_files([picture]).id, timeout_s=PATIENCE_S)
            (shown,) = audit.pictures
            assert shown.result is not None, shown.error
        assert shown.result.model_version in browser.get("/models").text

    second = Up(folder, other)
    started.append(second)
    assert second.process.wait(PATIENCE_S) == 2
    assert f"using {folder}: `tamperwatch up`, which answers at {address}, process {up.process.pid}" in " ".join(
        second.said.split()
    )

    running = descendants(up.process.pid)
    assert {"web", "beat", "worker"} <= {word for each in running for word in each.cmdline()}
    assert up.stop() == 0
    assert [each for each in running if each.is_running() and each.status() != psutil.STATUS_ZOMBIE] == []
    assert "stopping" in up.said
    for log in ("web.log", "worker-1.log", "beat.log"):
        assert "Traceback" not in (folder / log).read_text(encoding="utf-8"), log

    # What was found is there, and the key works on; it is not shown again.
    again = Up(folder, other)
    started.append(again)
    again.wait_until_up()
    assert "tw_" not in again.said and "those made before" in again.said
    with TamperwatchClient(f"http://127.0.0.1:{other}", key) as client:
        assert [result.id for result in client.results(cursor=0)] == [shown.result.id]
    assert again.stop(signal.SIGTERM) == 0


def test_without_its_packages_it_says_what_to_install(tamperwatch: Tamperwatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "fastapi" else object())
    for argv in (("up",), ("audit", "--open", "."), ("web",)):
        ran = tamperwatch(*argv)
        assert (ran.code, "need fastapi: pip install 'tamperwatch[web]'" in " ".join(ran.err.split())) == (3, True), argv


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = place_to_listen("127.0.0.1", port, may_differ=True)
        assert found.port > port
        with pytest.raises(EnvironmentMissing, match=rf"cannot listen on 127\.0\.0\.1:{port}.*give another --host or --port"):
            place_to_listen("127.0.0.1", port, may_differ=False)


def test_any_port() -> None:
    assert place_to_listen("127.0.0.1", 0, may_differ=False).port > 0


@pytest.mark.parametrize(
    ("host", "address", "local"),
    [
        ("127.0.0.1", "http://127.0.0.1:80", True),
        ("localhost", "http://localhost:80", True),
        ("::1", "http://[::1]:80", True),
        ("0.0.0.0", "http://127.0.0.1:80", False),
        ("::", "http://[::1]:80", False),
        ("10.0.0.7", "http://10.0.0.7:80", False),
    ],
)
def test_the_address_that_a_browser_opens(host: str, address: str, local: bool) -> None:
    listening = Listening(host, 80)
    assert (listening.address, listening.is_local) == (address, local)


def test_a_host_that_is_not_here() -> None:
    with pytest.raises(EnvironmentMissing, match="cannot listen on"):
        place_to_listen("203.0.113.1", 0, may_differ=False)


def test_the_first_key_is_made_once(sqlite: Database) -> None:
    assert (embedded_page.first_key(sqlite) or "").startswith("tw_")
    assert embedded_page.first_key(sqlite) is None
