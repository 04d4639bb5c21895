"""How a worker's parts are put together."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from cli.worker import _consume
from schemas.settings import BlobSettings, Settings, WorkerSettings
from schemas.states import AuditQueue
from storage.blobs import DirectoryBlobStore
from storage.database import Database
from tests.workers.conftest import StubPredictor
from workers.app import make_app
from workers.runtime import ModelRuntime


@pytest.mark.parametrize(("lanes", "threads"), [(1, 6), (2, 9)])
def test_threads_and_transactions_follow_the_batch_size(
    sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lanes: int, threads: int
) -> None:
    predictor = StubPredictor(lambda _: [])
    predictor.lanes = lanes
    settings = Settings(worker=WorkerSettings(max_batch=3), blobs=BlobSettings(directory=tmp_path))
    runtime = ModelRuntime(predictor, settings)  # type: ignore[arg-type]
    monkeypatch.setattr(ModelRuntime, "live", lambda *_: runtime)
    app, told, health = make_app(settings), [], SimpleNamespace()
    monkeypatch.setattr(app, "worker_main", told.extend)
    _consume(settings, [AuditQueue.HIGH], sqlite, DirectoryBlobStore(tmp_path), app, health)  # type: ignore[arg-type]
    assert f"--concurrency={threads}" in told
    assert health.writer._writer._size.most == 4 * 3
    app.close()
