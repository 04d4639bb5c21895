"""The bytes beside a store's rows."""

from pathlib import Path

import pytest

from schemas.settings import BlobSettings
from storage.blobs import BlobStore, open_blob_store
from storage.database import Database


@pytest.fixture
def blobs(database: Database, request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """A directory beside SQLite, an S3 server beside PostgreSQL."""
    if database.url.startswith("sqlite"):
        return open_blob_store(BlobSettings(directory=tmp_path / "blobs"))
    return open_blob_store(request.getfixturevalue("s3_settings"))
