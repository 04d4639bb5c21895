"""Who is asked first: the order as pure arithmetic, and a real worker's consumer on a real Redis."""

import threading
import uuid
from collections import Counter
from typing import Any

import pytest
from celery.contrib.testing.worker import start_worker
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from schemas.messages import AuditMessage
from schemas.settings import Settings, WorkerSettings
from schemas.states import AuditQueue
from tests.waiting import wait_for
from workers.app import make_app, send_audits
from workers.shares import WeightedOrder, shares_of

Weights = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 50), min_size=1)


def served(order: WeightedOrder, waiting: Counter[str]) -> str | None:
    """What Redis answers: the first queue asked that holds something."""
    asked = order.consume(len(waiting))
    assert sorted(asked) == sorted(waiting), "every queue is asked every time"
    name = next((queue for queue in asked if waiting[queue]), None)
    if name is not None:
        assert order.rotate(name) == name
        waiting[name] -= 1
    return name


def made(weights: dict[str, int]) -> WeightedOrder:
    order = WeightedOrder(weights)
    order.update(set(weights))
    return order


@given(Weights, st.integers(1, 400))
def test_while_all_are_full_each_gets_its_share(weights: dict[str, int], turns: int) -> None:
    order, full = made(weights), Counter(dict.fromkeys(weights, turns))
    got = Counter(served(order, full) for _ in range(turns))
    total = sum(weights.values())
    for queue, weight in weights.items():
        # Never further from the ideal than one turn of each queue.
        assert abs(got[queue] - turns * weight / total) <= len(weights)


@given(Weights, st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 5)), max_size=200))
def test_whoever_has_something_is_served_in_time(weights: dict[str, int], arrivals: list[tuple[str, int]]) -> None:
    """Whatever comes and goes: nobody waits longer than the others' shares during one turn of its own, and one each."""
    order, waiting = made(weights), Counter(dict.fromkeys(weights, 0))
    passed_over: Counter[str] = Counter()
    for queue, count in arrivals:
        if queue in weights:
            waiting[queue] += count
        backlogged = {name for name in weights if waiting[name]}
        name = served(order, waiting)
        assert (name is None) == (not backlogged)
        for other in backlogged - {name}:
            passed_over[other] += 1
            bound = sum(weight / weights[other] + 1 for rival, weight in weights.items() if rival != other)
            assert passed_over[other] <= bound + 1
        passed_over[name or ""] = 0


@given(Weights, st.integers(0, 300))
def test_a_queue_that_was_empty_is_served_next(weights: dict[str, int], before: int) -> None:
    """It has saved nothing up either: from then on both get their shares."""
    weights = weights | {"late": 16, "bulk": 1}
    order, waiting = made(weights), Counter(dict.fromkeys(weights, 0) | {"bulk": before + 1000})
    assert {served(order, waiting) for _ in range(before + 1)} == {"bulk"}
    waiting["late"] += 1000
    got = [served(order, waiting) for _ in range(170)]
    assert got[0] == "late"
    assert abs(Counter(got)["bulk"] - 10) <= 2


def test_one_queue_alone_costs_no_turn() -> None:
    order, waiting = made({"high": 16, "bulk": 1}), Counter(high=0, bulk=50)
    assert [served(order, waiting) for _ in range(50)] == ["bulk"] * 50


def test_queues_come_and_go() -> None:
    order = WeightedOrder({"a": 2.0})
    assert order.consume(3) == []
    order.update({"a", "b"})
    assert order.consume(2) == ["a", "b"]
    order.rotate("a")
    order.update({"b", "c"})
    assert order.rotate("a") == "a"
    assert order.consume(2) == ["b", "c"]
    assert order.consume(1) == ["b"]


def test_the_settings_name_the_queues() -> None:
    settings = WorkerSettings(share_high=5, share_default=3, share_bulk=2)
    assert shares_of(settings) == {"audit.high": 5.0, "audit.default": 3.0, "audit.bulk": 2.0}


class Gate:
    """A task that notes its queue, and holds every worker thread until it is opened."""

    def __init__(self, broker_url: str, **shares: int) -> None:
        self.app = make_app(Settings(broker_url=broker_url, worker=WorkerSettings(**shares)))
        self.open, self.began = threading.Event(), threading.Event()
        self.taken: list[str] = []

        @self.app.task(name="audit.image", shared=False)
        def audit_image(payload: dict[str, Any]) -> None:
            self.taken.append(payload["queue"])
            self.began.set()
            assert self.open.wait(60)

    def send(self, queue: AuditQueue, count: int) -> None:
        messages = [AuditMessage(job_id=uuid.uuid4(), sha256="ab" * 32, source="a.jpg", queue=queue) for _ in range(count)]
        assert send_audits(self.app, messages) == count

    def worker(self, concurrency: int) -> Any:
        queues = [queue.celery_name for queue in AuditQueue]
        return start_worker(
            self.app, pool="threads", concurrency=concurrency, queues=queues, perform_ping_check=False, loglevel="WARNING"
        )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_high_picture_passes_three_hundred_bulk_ones(broker_url: str) -> None:
    gate = Gate(broker_url)
    gate.send(AuditQueue.BULK, 300)
    with gate.worker(concurrency=2):
        wait_for(lambda: len(gate.taken) == 2, "both threads in work")
        with Redis.from_url(broker_url) as client:
            # What the worker holds is what it works on: nothing lies prefetched in front of what comes now.
            assert (client.hlen("unacked"), client.llen("audit.bulk")) == (2, 298)
        gate.send(AuditQueue.HIGH, 1)
        gate.open.set()
        wait_for(lambda: len(gate.taken) == 301, "end of all", 60)
    assert gate.taken.index("high") <= 3
    gate.app.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_full_queues_are_served_by_their_shares(broker_url: str) -> None:
    gate = Gate(broker_url, share_high=6, share_default=3, share_bulk=1)
    gate.open.set()
    for queue in AuditQueue:
        gate.send(queue, 100)
    with gate.worker(concurrency=1):
        wait_for(lambda: len(gate.taken) == 300, "end of all", 60)
    first = Counter(gate.taken[:100])
    assert {queue: round(first[queue], -1) for queue in ("high", "default", "bulk")} == {"high": 60, "default": 30, "bulk": 10}
    assert Counter(gate.taken) == {"high": 100, "default": 100, "bulk": 100}
    gate.app.close()
