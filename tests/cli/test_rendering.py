"""Masks and overlays as files: the picture's own size, and an error for that picture alone where they can't be written."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.rendering import Rendered, Renderer
from model import render
from model.preprocess import PictureLimits
from schemas.states import JobState, Verdict
from schemas.tables import OWN_PICTURE, AuditJob, AuditResult
from storage.blobs import DirectoryBlobStore, picture_key
from storage.queries import AuditedJob
from tests import hostile


@pytest.fixture
def blobs(tmp_path: Path) -> DirectoryBlobStore:
    return DirectoryBlobStore(tmp_path / "blobs")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def renderer(blobs: DirectoryBlobStore, out: Path) -> Iterator[Renderer]:
    renderer = Renderer(out, blobs, PictureLimits(), threads=2)
    yield renderer
    renderer.close()


def audited(
    blobs: DirectoryBlobStore, name: str = "a.jpg", data: bytes | None = None, size: tuple[int, int] = (60, 40)
) -> AuditedJob:
    """A done job whose mask marks the left half, its picture in the blob store."""
    data = hostile.jpeg() if data is None else data
    sha256 = hashlib.sha256(data).hexdigest()
    blobs.put(picture_key(sha256), data)
    mask_net = np.zeros((8, 8), np.uint8)
    mask_net[:, :4] = 255
    job = AuditJob(source=name, sha256=sha256, state=JobState.DONE)
    result = AuditResult(
        job_id=job.id,
        model_version="student-9",
        score=0.9,
        verdict=Verdict.FLAG,
        area=0.5,
        mask_png=render.mask_png(mask_net),
        width_px=size[0],
        height_px=size[1],
        latency_ms=1,
    )
    return AuditedJob(job, {OWN_PICTURE: result})


def rendered(renderer: Renderer, job: AuditedJob) -> Rendered:
    return renderer.submit(job).result(timeout=30)


def code(outcome: Rendered) -> str:
    assert outcome.record.status == "failed"
    assert outcome.record.error is not None
    assert outcome.record.score is None
    assert outcome.thumbnails is None
    return outcome.record.error.code


def test_mask_and_overlay_have_the_pictures_size(renderer: Renderer, blobs: DirectoryBlobStore, out: Path) -> None:
    outcome = rendered(renderer, audited(blobs, "sub/a.jpg"))

    assert outcome.record.mask == "sub/a.jpg.mask.png"
    with Image.open(out / "sub" / "a.jpg.mask.png") as mask:
        assert (mask.format, mask.mode, mask.size) == ("PNG", "L", (60, 40))
        assert (mask.getpixel((0, 20)), mask.getpixel((59, 20))) == (255, 0)
    with Image.open(out / "sub" / "a.jpg.overlay.png") as overlay:
        assert (overlay.format, overlay.mode, overlay.size) == ("PNG", "RGB", (60, 40))
        assert np.abs(np.array(overlay.getpixel((55, 10))) - hostile.QUADRANTS["top right"]).max() <= 6
        assert np.abs(np.array(overlay.getpixel((5, 10))) - hostile.QUADRANTS["top left"]).max() > 20
    assert outcome.thumbnails is not None


def test_a_turned_picture_is_turned_in_its_overlay(renderer: Renderer, blobs: DirectoryBlobStore, out: Path) -> None:
    outcome = rendered(renderer, audited(blobs, data=hostile.oriented(6), size=(40, 60)))

    assert outcome.record.status == "done"
    with Image.open(out / "a.jpg.mask.png") as mask, Image.open(out / "a.jpg.overlay.png") as overlay:
        assert mask.size == overlay.size == (40, 60)
        assert np.abs(np.array(overlay.getpixel((35, 10))) - hostile.QUADRANTS["top left"]).max() <= 6


def test_a_failed_job_passes_through(renderer: Renderer, out: Path) -> None:
    job = AuditJob(source="a.jpg", state=JobState.FAILED, error_code="empty", error_message="0 bytes")

    assert code(rendered(renderer, AuditedJob(job, {}))) == "empty"
    assert not out.exists()


@pytest.mark.parametrize("ending", ["mask", "overlay"])
def test_a_full_disk(renderer: Renderer, blobs: DirectoryBlobStore, out: Path, ending: str) -> None:
    out.mkdir()
    (out / f"a.jpg.{ending}.png").symlink_to("/dev/full")

    outcome = rendered(renderer, audited(blobs))

    assert code(outcome) == "disk_full"
    assert outcome.record.error is not None
    assert "free some and run the same command again" in outcome.record.error.message
    assert not (out / f"a.jpg.{ending}.png").exists()  # no half a file stays
    assert rendered(renderer, audited(blobs)).record.status == "done"  # nor does the error


def test_an_output_folder_that_is_a_file(renderer: Renderer, blobs: DirectoryBlobStore, out: Path) -> None:
    out.write_text("in the way", encoding="utf-8")

    assert code(rendered(renderer, audited(blobs))) == "output_failed"
    assert out.read_text(encoding="utf-8") == "in the way"


@pytest.mark.parametrize(
    "name", ["x" * 250, "日" * 90, "a/" * 1300 + "x", "a/" * 2500 + "x"], ids=["bytes", "characters", "deep", "path"]
)
def test_a_name_too_long_for_its_mask(renderer: Renderer, blobs: DirectoryBlobStore, name: str) -> None:
    outcome = rendered(renderer, audited(blobs, name))

    assert outcome.record.image == name
    assert code(outcome) == "output_failed"


def test_a_folder_in_the_masks_place(renderer: Renderer, blobs: DirectoryBlobStore, out: Path) -> None:
    (out / "a.jpg.mask.png").mkdir(parents=True)

    assert code(rendered(renderer, audited(blobs))) == "output_failed"
    assert (out / "a.jpg.mask.png").is_dir()


def test_a_picture_whose_bytes_are_gone(renderer: Renderer, blobs: DirectoryBlobStore) -> None:
    job = audited(blobs)
    blobs.delete(picture_key(job.job.sha256 or ""))

    assert code(rendered(renderer, job)) == "blob_missing"


def test_a_stored_mask_that_is_damaged(renderer: Renderer, blobs: DirectoryBlobStore) -> None:
    job = audited(blobs)
    job.results[OWN_PICTURE].mask_png = b"not a mask"

    assert code(rendered(renderer, job)) == "decode_failed"


def test_no_memory_costs_one_picture(renderer: Renderer, blobs: DirectoryBlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(render, "overlay", exhausted)

    assert code(rendered(renderer, audited(blobs))) == "output_failed"


def test_one_failure_leaves_the_others_alone(renderer: Renderer, blobs: DirectoryBlobStore, out: Path) -> None:
    names = ["x" * 250, *(f"{number}.jpg" for number in range(6))]

    outcomes = [future.result(timeout=30) for future in [renderer.submit(audited(blobs, name)) for name in names]]

    assert [outcome.record.status for outcome in outcomes] == ["failed", *["done"] * 6]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"{name}.{ending}.png" for name in names[1:] for ending in ("mask", "overlay")
    )
