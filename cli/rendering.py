"""Full-size masks and overlays as files: made after the audit, from the small map that SQL holds."""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cli.output import writing
from cli.records import failed_record
from cli.report import Thumbnails, make_thumbnails
from model import preprocess, render
from model.budget import PixelBudget
from model.preprocess import PictureLimits
from schemas.errors import OutputFailed, TamperwatchError
from schemas.records import AuditRecord, ErrorRecord
from schemas.tables import AuditResult
from storage.audit_records import record_of
from storage.blobs import BlobStore, picture_key
from storage.queries import AuditedJob

# Level 1 is four times as fast as zlib's default and a tenth larger; people wait for these files.
_PNG_LEVEL = 1
# A picture, its mask, its overlay and what is in between take some 20 bytes a pixel.
_DRAWN_AT_ONCE_PX = 80_000_000


@dataclass(frozen=True)
class Rendered:
    """A record with its files written, and its thumbnails for the report."""

    record: AuditRecord
    thumbnails: Thumbnails | None = None


class Renderer:
    """Writes `<name>.mask.png` and `<name>.overlay.png` below one folder, several pictures at a time."""

    def __init__(self, out: Path, blobs: BlobStore, limits: PictureLimits, threads: int) -> None:
        self._out = out
        self._blobs = blobs
        self._limits = limits
        self._drawing = PixelBudget(_DRAWN_AT_ONCE_PX)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="render")

    def submit(self, audited: AuditedJob) -> Future[Rendered]:
        """Render one ended job; a job that failed passes through."""
        return self._pool.submit(self._rendered, audited)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _rendered(self, audited: AuditedJob) -> Rendered:
        mask_name = f"{audited.job.source}.mask.png"
        record = record_of(audited, mask_name)
        if audited.own is None or record.status == "failed":
            return Rendered(record)
        try:
            return self._drawn(audited.own, record, mask_name)
        except TamperwatchError as error:
            return Rendered(failed_record(record, ErrorRecord(code=error.code, message=error.message)))
        except MemoryError:
            words = f"not enough memory to draw {mask_name}; run the same command again when more is free"
            return Rendered(failed_record(record, ErrorRecord(code=OutputFailed.code, message=words)))

    def _drawn(self, result: AuditResult, record: AuditRecord, mask_name: str) -> Rendered:
        with self._drawing.hold(result.width_px * result.height_px):
            data = self._blobs.get(picture_key(record.sha256 or ""), self._limits.max_bytes)
            image = preprocess.decode(data, self._limits)
            mask_orig = _mask_of(result)
            overlay = render.overlay(image, mask_orig)
            self._write(mask_orig, self._out / mask_name)
            self._write(overlay, self._out / f"{record.image}.overlay.png")
            return Rendered(record, make_thumbnails(image, overlay))

    def _write(self, image: Image.Image, path: Path) -> None:
        try:
            with writing(path):
                image.save(path, "PNG", compress_level=_PNG_LEVEL)
        except TamperwatchError:
            with suppress(OSError, ValueError):  # what can't be named or is a folder can't be unlinked either
                path.unlink(missing_ok=True)
            raise


def _mask_of(result: AuditResult) -> Image.Image:
    if not result.mask_png:
        raise OutputFailed("the mask was purged from the store; score and verdict are still there")
    return render.full_size_mask(render.read_mask_png(result.mask_png), result.width_px, result.height_px)
