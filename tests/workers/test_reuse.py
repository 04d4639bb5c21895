"""The same picture twice through a whole worker: answered from the store, without its bytes and without the network."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlmodel import select

from model.card import Card, builtin_directory
from model.predictor import Prediction
from schemas.messages import AuditMessage
from schemas.settings import Settings
from schemas.states import JobState
from schemas.tables import AuditJob
from storage import telemetry
from storage.blobs import picture_key
from storage.database import Database
from tests.pictures import picture_bytes
from tests.workers.conftest import MakeWorker, Worker
from workers.app import make_app
from workers.submission import SourceFile, Submission, submit_files

CALIBRATION = Card.load(builtin_directory()).calibration


class Network:
    """Gives every picture the same calibrated score, and counts."""

    def __init__(self, score: float = 0.5) -> None:
        self.logit = (math.log(score / (1 - score)) - CALIBRATION.bias) * CALIBRATION.temperature
        self.calls = 0

    def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        self.calls += len(pictures)
        return [Prediction(np.full((8, 8), 200, np.uint8), self.logit) for _ in pictures]


def test_the_second_job_of_a_picture_needs_neither_bytes_nor_network(make_worker: MakeWorker, database: Database) -> None:
    network, data = Network(), picture_bytes(1)
    worker = make_worker(network, database)
    first, second = worker.submit(data), worker.submit(data)
    reused = telemetry.REUSED._value.get()
    assert worker.run(first) is None
    worker.blobs.delete(picture_key(first.sha256 or ""))
    assert worker.run(second) is None
    earlier, again = worker.outcome(first), worker.outcome(second)
    assert again.job.state is JobState.DONE and network.calls == 1
    assert earlier.own is not None and again.own is not None
    assert again.own.reused_from == earlier.own.id
    assert (again.own.score, again.own.verdict, again.own.mask_png) == (
        earlier.own.score,
        earlier.own.verdict,
        earlier.own.mask_png,
    )
    assert telemetry.REUSED._value.get() == reused + 1


def test_the_setting_turns_it_off(make_worker: MakeWorker) -> None:
    network, data = Network(), picture_bytes(1)
    worker = make_worker(network, reuse_results=False)
    messages = [worker.submit(data), worker.submit(data)]
    assert [worker.run(message) for message in messages] == [None, None]
    assert network.calls == 2
    assert {worker.outcome(message).results["none"].reused_from for message in messages} == {None}


def test_another_model_version_audits_again(make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    older, newer, data = Network(0.25), Network(0.75), picture_bytes(1)
    first = make_worker(older)
    one = first.submit(data)
    first.run(one)
    load = Card.load
    monkeypatch.setattr(Card, "load", lambda folder: load(folder).model_copy(update={"version": "student-next"}))
    second = make_worker(newer)
    two, three = second.submit(data), second.submit(data)
    for message in (two, three):
        assert second.run(message) is None
    assert (older.calls, newer.calls) == (1, 1)
    results = [second.outcome(message).results["none"] for message in (one, two, three)]
    assert [result.model_version == "student-next" for result in results] == [False, True, True]
    assert results[2].reused_from == results[1].id
    assert results[2].score == pytest.approx(0.75, abs=1e-6)


def test_profiles_are_answered_where_all_are_there(make_worker: MakeWorker) -> None:
    network, data = Network(), picture_bytes(1)
    worker = make_worker(network)
    worker.run(worker.submit(data, profiles=["wechat", "facebook"]))
    assert network.calls == 3
    fewer, other = worker.submit(data, profiles=["facebook"]), worker.submit(data, profiles=["facebook", "weibo"])
    worker.run(fewer)
    assert set(worker.outcome(fewer).results) == {"none", "facebook"} and network.calls == 3
    worker.run(other)
    assert set(worker.outcome(other).results) == {"none", "facebook", "weibo"} and network.calls == 6


def test_a_wider_band_of_second_looks_audits_again(make_worker: MakeWorker) -> None:
    network, data = Network(CALIBRATION.flag_threshold), picture_bytes(1)
    make_one = make_worker(network)
    make_one.run(make_one.submit(data))
    looking = make_worker(network, stability_band=0.2)
    first, second = looking.submit(data), looking.submit(data)
    assert looking.run(first) is None
    assert network.calls == 3 and looking.outcome(first).results["none"].second_score is not None
    assert looking.run(second) is None
    assert network.calls == 3
    assert looking.outcome(second).results["none"].second_score == looking.outcome(first).results["none"].second_score


def test_an_unknown_profile_fails_as_ever(make_worker: MakeWorker) -> None:
    worker, data = make_worker(Network()), picture_bytes(1)
    worker.run(worker.submit(data))
    message = worker.submit(data, profiles=["myspace"])
    assert worker.run(message) is None
    assert worker.outcome(message).job.error_code == "invalid_message"


def test_a_picture_that_failed_is_tried_when_it_comes_again(make_worker: MakeWorker) -> None:
    network, data = Network(), picture_bytes(1)
    worker = make_worker(network)
    failed = worker.submit(data)
    worker.blobs.delete(picture_key(failed.sha256 or ""))
    assert worker.run(failed) is None
    assert worker.outcome(failed).job.error_code == "blob_missing"
    again = worker.submit(data)
    assert worker.run(again) is None
    assert worker.outcome(again).own is not None and network.calls == 1


@pytest.fixture
def outbox(monkeypatch: pytest.MonkeyPatch) -> list[AuditMessage]:
    """Takes the place of Redis."""
    sent: list[AuditMessage] = []

    def send(_app: object, messages: Sequence[AuditMessage]) -> int:
        before = len(sent)
        sent.extend(messages)
        return len(sent) - before

    monkeypatch.setattr("workers.sending.send_audits", send)
    return sent


def test_a_folder_submitted_again_under_other_names(
    make_worker: MakeWorker, database: Database, tmp_path: Path, outbox: list[AuditMessage]
) -> None:
    network = Network()
    worker = make_worker(network, database)
    submit = _submitter(worker, tmp_path)
    submit({"a.jpg": picture_bytes(1), "b.jpg": picture_bytes(2)})
    _drain(worker, outbox)
    submit({"a.jpg": picture_bytes(1), "copy of a.jpg": picture_bytes(1), "c.jpg": picture_bytes(3)})
    assert len(outbox) == 2, "what is known under its name is not even sent"
    _drain(worker, outbox)
    assert network.calls == 3
    with database.read() as session:
        states = {job.source: job.state for job in session.exec(select(AuditJob))}
    assert states == dict.fromkeys(("a.jpg", "b.jpg", "c.jpg", "copy of a.jpg"), JobState.DONE)


def _submitter(worker: Worker, folder: Path) -> Callable[[dict[str, bytes]], None]:
    submission = Submission("s", max_bytes=10**6)
    app = make_app(Settings())

    def submit(files: dict[str, bytes]) -> None:
        for name, data in files.items():
            (folder / name).write_bytes(data)
        sources = [SourceFile(folder / name, name) for name in files]
        list(submit_files(sources, submission, worker.database, worker.blobs, app))

    return submit


def _drain(worker: Worker, outbox: list[AuditMessage]) -> None:
    while outbox:
        assert worker.run(outbox.pop(0)) is None
