"""Perceptual hashes that a worker keeps beside its results, where it is asked to."""

import hashlib
import sys

import pytest

from model.card import Card, builtin_directory
from model.picture_hash import LEAST_QUALITY, picture_hash
from model.preprocess import prepare
from schemas.errors import EnvironmentMissing
from storage import similar
from storage.database import Database
from tests.pictures import picture_bytes, plain_picture_bytes
from tests.workers.conftest import MakeWorker


def test_hashes_are_kept_where_a_setting_asks_for_them(make_worker: MakeWorker, database: Database) -> None:
    data, plain = picture_bytes(1, 320, 240), plain_picture_bytes((9, 9, 9))
    worker = make_worker(None, database, perceptual_hash=True)
    for message in (worker.submit(data), worker.submit(plain)):
        assert worker.run(message) is None
    worker.pipeline.close()
    made = picture_hash(prepare(data, Card.load(builtin_directory()).student.input_size).pixels)
    with database.read() as session:
        kept, of_plain = (similar.stored_hash(session, hashlib.sha256(each).hexdigest()) for each in (data, plain))
    assert kept is not None and (kept.bits, kept.quality) == (made.bits, made.quality)
    assert of_plain is not None and of_plain.quality < LEAST_QUALITY


def test_hashes_are_not_made_unasked(make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pdqhash", None)
    worker = make_worker()
    message = worker.submit(picture_bytes(1))
    assert worker.run(message) is None and worker.outcome(message).own is not None
    with worker.database.read() as session:
        assert not similar.any_hash(session)
    with pytest.raises(EnvironmentMissing, match="pdqhash"):
        make_worker(perceptual_hash=True)
