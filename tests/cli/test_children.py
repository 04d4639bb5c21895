"""Supervised processes: started again when they die, given up when they keep dying, gone when their parent is."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cli import children
from cli.children import Child
from schemas.errors import EnvironmentMissing
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
Start = Callable[..., Child]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a shell script under supervision; whatever still runs at the end is killed."""
    started: list[Child] = []

    def run(script: str, env: dict[str, str] | None = None) -> Child:
        child = Child("helper", ["/bin/sh", "-c", script], tmp_path / "helper.log", env or {"PATH": os.environ["PATH"]})
        started.append(child)
        return child

    yield run
    for child in started:
        child.stop(grace_s=0)


def wait_until_dead(child: Child) -> None:
    wait_for(lambda: not child.running, "end of the process")


def is_gone(pid: int) -> bool:
    """Ended, whether or not somebody has asked for its exit status."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_running_process_is_left_alone(start: Start) -> None:
    child = start("exec sleep 60")
    pid = child.pid

    assert child.running
    assert child.revive() is False
    assert child.pid == pid


def test_a_dead_process_is_started_again(start: Start, tmp_path: Path) -> None:
    child = start("echo started; exec sleep 60")
    first = child.pid
    wait_for(lambda: "started" in child.log_tail(), "output")
    os.kill(first, signal.SIGKILL)
    wait_until_dead(child)

    assert child.revive() is True
    assert child.running
    assert child.pid != first
    wait_for(lambda: child.log_tail().count("started") == 2, "second start")
    assert (tmp_path / "helper.log").read_text(encoding="utf-8") == "started\nstarted\n"  # one log for all its lives


def test_what_keeps_dying_is_given_up_with_its_last_words(start: Start, tmp_path: Path) -> None:
    child = start("echo first line; echo it does not work >&2; exit 3")
    revived = 0

    def revive() -> None:
        nonlocal revived
        wait_until_dead(child)
        revived += child.revive()

    with pytest.raises(EnvironmentMissing) as given_up:
        for _ in range(20):
            revive()

    assert revived == 5
    assert "helper died 6 times" in given_up.value.message
    assert str(tmp_path / "helper.log") in given_up.value.message
    assert given_up.value.message.endswith("it does not work")


def test_deaths_long_ago_are_forgiven(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 1000.0
    monkeypatch.setattr(children.time, "monotonic", lambda: clock)
    child = start("exit 1")
    for _ in range(12):
        wait_until_dead(child)
        assert child.revive() is True
        clock += 100.0


def test_the_end_of_the_log_is_bounded_and_survives_wrong_bytes(start: Start) -> None:
    child = start(r"for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do echo line $i; done; printf '\377\n'")
    wait_until_dead(child)

    assert child.log_tail().splitlines() == [*(f"line {number}" for number in range(5, 16)), "\N{REPLACEMENT CHARACTER}"]


def test_stop_asks_first(start: Start) -> None:
    child = start("trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.02; done")
    wait_for(lambda: "ready" in child.log_tail(), "trap")

    child.stop(grace_s=30)

    assert not child.running
    assert child.log_tail().endswith("asked")


def test_stop_insists(start: Start) -> None:
    child = start("trap '' TERM; echo ready; while :; do sleep 0.02; done")
    wait_for(lambda: "ready" in child.log_tail(), "trap")

    child.stop(grace_s=0.1)

    assert not child.running
    assert is_gone(child.pid)


def test_stopping_what_is_dead_is_harmless(start: Start) -> None:
    child = start("exit 0")
    wait_until_dead(child)

    child.stop(grace_s=1)
    child.stop(grace_s=1)


def test_the_environment_is_exactly_the_given_one(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_PARENT", "1")
    child = start("env", {"PATH": os.environ["PATH"], "GIVEN": "ünï code"})
    wait_until_dead(child)

    assert "GIVEN=ünï code" in child.log_tail()
    assert "SECRET_OF_THE_PARENT" not in child.log_tail()


def test_ctrl_c_does_not_reach_children(start: Start) -> None:
    """Each has a session of its own: a terminal's Ctrl-C goes to the foreground group, and that is only us."""
    child = start("exec sleep 60")

    assert os.getsid(child.pid) == child.pid != os.getsid(0)


def test_input_is_closed(start: Start) -> None:
    child = start("read line || echo nothing to read")
    wait_until_dead(child)

    assert child.log_tail() == "nothing to read"


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentMissing, match=r"cannot start helper \(/no/such/program\): .*No such file"):
        Child("helper", ["/no/such/program"], tmp_path / "helper.log", {})


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentMissing, match="cannot start helper"):
        Child("helper", ["/bin/true"], tmp_path / "missing" / "helper.log", {})


PARENT = """
import sys, time
from pathlib import Path
from cli.children import Child
child = Child("helper", ["/bin/sleep", "600"], Path(sys.argv[1]), {})
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_children_die_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "helper.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not is_gone(pid)
        parent.send_signal(number)
        parent.wait(30)

    wait_for(lambda: is_gone(pid), "end of the orphan")
