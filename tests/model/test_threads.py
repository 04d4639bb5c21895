import threading

import pytest

from model import threads
from model.threads import in_threads


@pytest.mark.parametrize("window", [1, 3, 1000])
def test_results_keep_the_order_and_progress_counts(monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    monkeypatch.setattr(threads, "_WINDOW", window)
    told: list[tuple[int, int]] = []
    assert in_threads(lambda item: item * item, range(7), lambda done, count: told.append((done, count))) == [
        item * item for item in range(7)
    ]
    assert told == [(done, 7) for done in range(1, 8)]


def test_progress_is_told_in_the_callers_thread() -> None:
    told: list[int] = []
    worked = in_threads(lambda _: threading.get_ident(), range(3), lambda *_: told.append(threading.get_ident()))
    assert set(told) == {threading.get_ident()}
    assert threading.get_ident() not in worked


def test_what_a_thread_raises_is_raised_here() -> None:
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda item: 1 // item, [1, 0, 2])


def test_nothing_to_do_is_no_result() -> None:
    assert in_threads(str, []) == []
