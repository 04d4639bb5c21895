import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from storage.telemetry_probe import Probe
from tests.waiting import wait_for


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a hanging question waits for; opened in the end, so that no thread is left."""
    event = threading.Event()
    yield event
    event.set()


def test_an_answer_is_given_again_without_asking() -> None:
    asked: list[int] = []
    probe = Probe("it", lambda: asked.append(1) or len(asked), fresh_s=60)
    assert [probe.answer(), probe.answer()] == [1, 1]


def test_a_stale_answer_is_asked_for_anew() -> None:
    asked: list[int] = []
    probe = Probe("it", lambda: asked.append(1) or len(asked), fresh_s=0)
    probe.answer()
    assert wait_for(lambda: probe.answer() > 1, "second asking")


def test_an_error_is_remembered_as_an_answer_is() -> None:
    asked: list[int] = []

    def refuse() -> int:
        asked.append(1)
        raise ConnectionError("away")

    probe = Probe("it", refuse, fresh_s=60)
    for _ in range(2):
        with pytest.raises(ConnectionError, match="away"):
            probe.answer()
    assert len(asked) == 1


def test_nobody_waits_long_for_what_hangs_and_it_is_asked_once(gate: threading.Event) -> None:
    asked: list[int] = []

    def hang() -> str:
        asked.append(1)
        gate.wait(30)
        return "at last"

    probe = Probe("the store", hang, fresh_s=60, patience_s=0.05)
    started = time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        answers = [threads.submit(probe.answer) for _ in range(8)]
        for answer in answers:
            with pytest.raises(TimeoutError, match="the store has not answered for 0 s"):
                answer.result()
    assert time.monotonic() - started < 5
    assert len(asked) == 1
    gate.set()
    assert wait_for(lambda: not probe._asking and probe.answer(), "answer") == "at last"


def test_a_costly_answer_rests_for_twenty_times_its_cost(gate: threading.Event) -> None:
    asked: list[int] = []

    def slow() -> int:
        asked.append(1)
        gate.wait(0.1)
        return len(asked)

    probe = Probe("it", slow, fresh_s=0)
    probe.answer()
    assert probe._stale_at - time.monotonic() > 1.5
    assert probe.answer() == 1


def test_a_costly_error_does_not_rest(gate: threading.Event) -> None:
    def slow_refusal() -> int:
        gate.wait(0.1)
        raise ConnectionError("away")

    probe = Probe("it", slow_refusal, fresh_s=0)
    with pytest.raises(ConnectionError):
        probe.answer()
    assert probe._stale_at <= time.monotonic()
