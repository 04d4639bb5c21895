"""The pixel budget under real threads: never exceeded, nobody starved, given back whatever happens."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from model import preprocess
from model.budget import PixelBudget
from schemas.errors import PictureError
from tests import hostile
from tests.waiting import wait_for


class Meter:
    """Adds up what is held, and remembers the most."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def add(self, pixels: int) -> None:
        with self._lock:
            self.now += pixels
            self.most = max(self.most, self.now)


def held(budget: PixelBudget, pixels: int, inside: Callable[[], object]) -> None:
    with budget.hold(pixels):
        inside()


@pytest.mark.parametrize(("progressive", "share"), [(False, 1 / 64), (True, 6 / 17)])
def test_a_jpeg_in_several_scans_holds_what_its_decoder_keeps(
    monkeypatch: pytest.MonkeyPatch, progressive: bool, share: float
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(preprocess, "_DECODING", budget := PixelBudget(10_000_000))
    hold = budget.hold
    monkeypatch.setattr(budget, "hold", lambda pixels: asked.append(pixels) or hold(pixels))
    data = hostile.encoded(hostile.drawn(800, 640), "JPEG", progressive=progressive)

    preprocess.prepare(data, 80)

    assert asked == [int(800 * 640 * share)]


def test_the_budget_is_used_and_never_exceeded() -> None:
    budget, meter, meeting = PixelBudget(100), Meter(), threading.Barrier(3)

    def work(number: int) -> None:
        with budget.hold(30):
            meter.add(30)
            if number < 3:  # three fit at once, or this would not end
                meeting.wait(timeout=30)
            meter.add(-30)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(3, 400)))

    assert 30 <= meter.most <= 90
    assert meter.now == 0


def test_what_exceeds_the_whole_budget_goes_alone() -> None:
    budget, entered, leave = PixelBudget(100), threading.Event(), threading.Event()
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        stack.enter_context(budget.hold(1))
        waiting = pool.submit(held, budget, 1_000_000, lambda: (entered.set(), leave.wait(30)))
        assert not entered.wait(0.1)  # somebody holds one pixel

        stack.close()
        assert entered.wait(30)
        leave.set()
        waiting.result(timeout=30)


def test_a_large_one_is_not_overtaken() -> None:
    budget, order = PixelBudget(100), []
    with ThreadPoolExecutor(2) as pool:
        with budget.hold(50):
            large = pool.submit(held, budget, 100, lambda: order.append("large"))
            wait_for(budget._turn.locked, "large one in the line")
            small = pool.submit(held, budget, 10, lambda: order.append("small"))
            assert not small.done()
        large.result(timeout=30)
        small.result(timeout=30)

    assert order == ["large", "small"]


def test_an_error_gives_back_what_was_held() -> None:
    budget = PixelBudget(10)
    for _ in range(3):
        with pytest.raises(KeyError), budget.hold(10):
            raise KeyError

    with budget.hold(10):
        pass


def test_decoding_stays_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty-two pictures in sixteen threads, two at a time; the broken ones give back their share."""
    monkeypatch.setattr(preprocess, "_DECODING", PixelBudget(2 * hostile.WIDTH_PX * hostile.HEIGHT_PX))
    meter = Meter()
    decoded = preprocess._decoded

    def metered(image: object) -> object:
        meter.add(1)
        try:
            return decoded(image)
        finally:
            meter.add(-1)

    monkeypatch.setattr(preprocess, "_decoded", metered)
    broken = hostile.png()[:-40]
    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(_outcome, [hostile.png(), broken] * 16))

    assert outcomes == ["PNG", "decode_failed"] * 16
    assert 1 <= meter.most <= 2


def _outcome(data: bytes) -> str:
    try:
        return preprocess.prepare(data, 16).format
    except PictureError as error:
        return error.code
