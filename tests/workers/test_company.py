"""Together or alone: nobody beside the one who is alone, and nobody waits for ever."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest

from tests.waiting import wait_for
from workers.company import Company


def test_many_are_at_work_together() -> None:
    company, everybody = Company(), threading.Barrier(4, timeout=10)

    def meet() -> int:
        with company.together():
            return everybody.wait()

    with ThreadPoolExecutor(4) as pool:
        met = [pool.submit(meet) for _ in range(4)]
        assert sorted(future.result() for future in met) == [0, 1, 2, 3]


def test_who_is_alone_has_nobody_beside() -> None:
    company, gate = Company(), threading.Lock()
    at_work: list[str] = []
    seen: list[list[str]] = []

    def work(name: str, room: AbstractContextManager[None]) -> None:
        with room:
            with gate:
                at_work.append(name)
                if name == "alone":
                    seen.append(list(at_work))
            with gate:
                at_work.remove(name)

    with ThreadPoolExecutor(8) as pool:
        for number in range(200):
            alone = number % 10 == 0
            pool.submit(work, "alone" if alone else "together", company.alone() if alone else company.together())
    assert seen == [["alone"]] * 20


def test_who_waits_to_be_alone_goes_before_those_who_come_later() -> None:
    company, order = Company(), []
    first_may_go = threading.Event()

    def first() -> None:
        with company.together():
            assert first_may_go.wait(10)

    def enter(name: str, room: AbstractContextManager[None]) -> None:
        with room:
            order.append(name)

    with ThreadPoolExecutor(3) as pool:
        pool.submit(first)
        wait_for(lambda: company._together == 1, "the first at work")
        pool.submit(enter, "alone", company.alone())
        wait_for(lambda: company._wanting_alone == 1, "one who wants to be alone")
        pool.submit(enter, "later", company.together())
        first_may_go.set()
    assert order == ["alone", "later"]


def test_an_error_leaves_the_room_free() -> None:
    company = Company()
    for room in (company.alone(), company.together(), company.alone()):
        with pytest.raises(ValueError, match="oops"), room:
            raise ValueError("oops")
    with company.alone():
        assert company._together == 0
