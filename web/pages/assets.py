"""The bundled scripts and styles: served from memory under names that hold their hash."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Response

from schemas.errors import EnvironmentMissing, NotFound

router = APIRouter(prefix="/static", include_in_schema=False)

_FOLDER: Final = Path(__file__).parents[1] / "static"
_TYPES: Final = {".js": "text/javascript", ".css": "text/css", ".txt": "text/plain", ".svg": "image/svg+xml"}
_FOREVER: Final = {"Cache-Control": "public, max-age=31536000, immutable"}


@dataclass(frozen=True)
class Assets:
    """What `web/frontend/build.mjs` made.

    Attributes:
        files: content by file name.
        entries: file name by the name that templates use, as `page.css`.
    """

    files: Mapping[str, bytes]
    entries: Mapping[str, str]

    def address(self, entry: str) -> str:
        """Where browsers load an entry from."""
        return f"/static/{self.entries[entry]}"


@functools.cache
def load() -> Assets:
    """The bundle, read once in a process.

    Raises:
        EnvironmentMissing: it was never made.
    """
    manifest = _FOLDER / "manifest.json"
    if not manifest.is_file():
        raise EnvironmentMissing(
            "the review page is not built (the API answers all the same): run `make page` in the repository, or install a "
            "released wheel, which holds it"
        )
    files = {path.name: path.read_bytes() for path in _FOLDER.iterdir() if path.suffix in _TYPES}
    return Assets(files, json.loads(manifest.read_text(encoding="utf-8")))


@router.get("/{name}")
async def file(name: str) -> Response:  # from memory: no thread's work
    """One file. A name stands for one content for good, so browsers never ask again."""
    content = load().files.get(name)
    if content is None:
        raise NotFound("there is no such file; reload the page")
    return Response(content, headers=_FOREVER, media_type=_TYPES[Path(name).suffix])
