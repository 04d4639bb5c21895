"""Where a version's files lie on this machine: those that ship, or fetched from the blob store. Loads no engine."""

from pathlib import Path

from model.card import Card, builtin_directory
from schemas.errors import EnvironmentMissing
from schemas.settings import Settings
from schemas.tables import ModelVersion
from storage import registry
from storage.blobs import BlobStore
from storage.model_files import student_folder


def directory_of(row: ModelVersion, settings: Settings, blobs: BlobStore) -> Path:
    """The folder of a version's files on this machine; fetched from the blob store, if need be.

    Raises:
        ModelInvalid: files are missing or damaged.
        EnvironmentMissing: the packaged student of another release is live here, or there is no place to keep the files.
        BlobStoreUnavailable, DiskFull: the files could not be fetched.
    """
    if row.location != registry.PACKAGE_LOCATION:
        return student_folder(blobs, row.location, Path(settings.engine.model_cache))
    packaged = Card.load(builtin_directory()).version
    if packaged != row.version:
        raise EnvironmentMissing(
            f"{row.version} is live but this release ships {packaged}; install the release it came with, "
            f"or make {packaged} live: tamperwatch models promote {packaged}"
        )
    return builtin_directory()
