"""Back-pressure against the depth of real queues, and against queues whose depth a test says."""

from collections.abc import Callable, Iterator

import pytest
from celery import Celery
from redis import Redis

from schemas.errors import BrokerUnavailable
from schemas.messages import AuditMessage
from schemas.settings import Settings
from schemas.states import AuditQueue
from schemas.tables import AuditJob
from workers import sending
from workers.app import make_app, queue_depths
from workers.sending import Sender

DEFAULT, BULK = AuditQueue.DEFAULT, AuditQueue.BULK


class Broker:
    """Queues of given depths that remember what was sent."""

    def __init__(self) -> None:
        self.depths = dict.fromkeys(AuditQueue, 0)
        self.sent: list[AuditMessage] = []
        self.looks = 0

    def queue_depths(self, _app: Celery) -> dict[AuditQueue, int]:
        self.looks += 1
        return dict(self.depths)

    def send_audits(self, _app: Celery, messages: Iterator[AuditMessage]) -> int:
        for message in messages:
            self.sent.append(message)
            self.depths[message.queue] += 1
        return len(self.sent)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    made = Broker()
    for name in ("queue_depths", "send_audits"):
        monkeypatch.setattr(sending, name, getattr(made, name))
    monkeypatch.setattr(sending, "_PAUSE_S", 0)
    return made


def jobs(count: int, queue: AuditQueue = DEFAULT) -> list[AuditJob]:
    return [AuditJob(source=f"{number}.jpg", sha256="ab" * 32, queue=queue) for number in range(count)]


@pytest.fixture
def sender() -> Callable[[int], Sender]:
    return lambda max_queued: Sender(make_app(Settings()), max_queued)


def test_without_a_limit_nobody_looks(broker: Broker, sender: Callable[[int], Sender]) -> None:
    assert list(sender(0).send(jobs(3), jobs(2))) == []
    assert (len(broker.sent), broker.looks) == (5, 0)


def test_it_waits_until_the_queue_has_room(broker: Broker, sender: Callable[[int], Sender]) -> None:
    broker.depths[DEFAULT] = 9
    waits = sender(10).send(jobs(3), [])
    assert [next(waits), next(waits)] == [9, 9]
    assert broker.sent == []
    broker.depths[DEFAULT] = 8
    assert next(waits) == 8
    broker.depths[DEFAULT] = 7
    assert list(waits) == []
    assert broker.depths[DEFAULT] == 10


def test_only_the_queues_it_fills_count(broker: Broker, sender: Callable[[int], Sender]) -> None:
    broker.depths[BULK] = 1000
    assert list(sender(10).send(jobs(10), [])) == []
    assert len(broker.sent) == 10


def test_a_limit_below_the_batch_does_not_wait_for_ever(broker: Broker, sender: Callable[[int], Sender]) -> None:
    assert list(sender(2).send(jobs(5), [])) == []
    assert len(broker.sent) == 5


def test_jobs_that_were_in_are_sent_again_only_where_their_messages_are_lost(
    broker: Broker, sender: Callable[[int], Sender]
) -> None:
    broker.depths[DEFAULT] = 1
    one = sender(100)
    for _ in range(2):  # what we send ourselves does not count
        list(one.send(jobs(1, BULK), [*jobs(2, BULK), *jobs(3, DEFAULT)]))
    assert [message.queue for message in broker.sent] == [BULK] * 6


def test_a_broken_broker_is_asked_once(sender: Callable[[int], Sender], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def down(_app: Celery, _messages: Iterator[AuditMessage]) -> int:
        asked.append(1)
        raise BrokerUnavailable("no Redis")

    monkeypatch.setattr(sending, "send_audits", down)
    one = sender(0)
    for _ in range(3):
        list(one.send(jobs(1), []))
    assert (len(asked), one.error and one.error.message) == (1, "no Redis")


@pytest.mark.slow
def test_a_real_queue_is_never_deeper_than_the_limit(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_PAUSE_S", 0)
    app = make_app(Settings(broker_url=broker_url))
    one, waited = Sender(app, 10), 0
    with Redis.from_url(broker_url) as client:
        for _ in range(5):
            for depth in one.send(jobs(4, BULK), []):
                assert depth <= 10
                waited += 1
                client.rpop("audit.bulk", 3)
            assert queue_depths(app)[BULK] <= 10
    assert waited > 0
    app.close()
