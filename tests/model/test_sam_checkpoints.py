"""Downloads from a server on 127.0.0.1 that breaks off, lies or forgets what a range is."""

import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from model.config import TeacherKind
from model.sam_checkpoints import SAM_CHECKPOINTS, SamCheckpoint, cache_folder, opened_checkpoint
from schemas.errors import EnvironmentMissing, InvalidInput

KIND: TeacherKind = "sam-vit-b"
CONTENT = bytes(range(256)) * 20_000


@dataclass
class Published:
    """What the server has, how it behaves, and the ranges it was asked for (None for the whole file)."""

    content: bytes = CONTENT
    breaks_after: int | None = None
    knows_ranges: bool = True
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Published]:
    state = Published()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.headers.get("Range"))
            named = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(named[1]) if named and state.knows_ranges else 0
            if start >= len(state.content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(state.content) - start))
            self.end_headers()
            self.wfile.write(state.content[start : state.breaks_after])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_port}/tiny.pth"
        known = SamCheckpoint("vit_b", state.url, hashlib.sha256(CONTENT).hexdigest())
        monkeypatch.setitem(SAM_CHECKPOINTS, KIND, known)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setenv("no_proxy", "*")
        yield state
        server.shutdown()
        thread.join()


def content(given: Path | None = None, seen: list[tuple[int, int]] | None = None) -> bytes:
    with opened_checkpoint(KIND, given, lambda here, whole: (seen if seen is not None else []).append((here, whole))) as file:
        return file.read()


def test_three_checkpoints_are_known_by_their_whole_sha256() -> None:
    assert [each.file_name for each in SAM_CHECKPOINTS.values()] == [
        "sam_vit_b_01ec64.pth",
        "sam_vit_l_0b3195.pth",
        "sam_vit_h_4b8939.pth",
    ]
    assert all(re.fullmatch("[0-9a-f]{64}", each.sha256) for each in SAM_CHECKPOINTS.values())
    assert all(each.url.startswith("https://dl.fbaipublicfiles.com/segment_anything/") for each in SAM_CHECKPOINTS.values())


def test_a_checkpoint_is_downloaded_once_with_progress(published: Published) -> None:
    seen: list[tuple[int, int]] = []
    assert content(seen=seen) == CONTENT
    assert content() == CONTENT
    assert published.asked == [None]
    assert [here for here, _ in seen] == sorted(here for here, _ in seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in cache_folder().iterdir()] == ["tiny.pth"]


def test_a_broken_download_goes_on_where_it_stopped(published: Published) -> None:
    published.breaks_after = 1_000_000
    with pytest.raises(EnvironmentMissing, match=r"broke off after 1000000 of 5120000 bytes.*goes on.*--sam-checkpoint"):
        content()
    assert not (cache_folder() / "tiny.pth").exists()
    published.breaks_after = None
    assert content() == CONTENT
    assert published.asked == [None, "bytes=1000000-"]


def test_a_server_without_ranges_sends_it_from_the_start(published: Published) -> None:
    cache_folder().mkdir(parents=True)
    (cache_folder() / "tiny.part").write_bytes(b"old" * 1000)
    published.knows_ranges = False
    assert content() == CONTENT


def test_a_whole_partial_file_is_only_checked(published: Published) -> None:
    cache_folder().mkdir(parents=True)
    (cache_folder() / "tiny.part").write_bytes(CONTENT)
    assert content() == CONTENT
    assert published.asked == [f"bytes={len(CONTENT)}-"]


def test_another_file_than_the_published_one_is_removed(published: Published) -> None:
    published.content = CONTENT[:-1] + b"!"
    with pytest.raises(EnvironmentMissing, match="what came has the sha256"):
        content()
    assert list(cache_folder().iterdir()) == []


def test_processes_that_start_together_download_once(published: Published) -> None:
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda _: content() == CONTENT, range(3))) == [True] * 3
    assert len(published.asked) == 1


@pytest.mark.usefixtures("published")
def test_without_a_server_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/tiny.pth"
    monkeypatch.setitem(SAM_CHECKPOINTS, KIND, SamCheckpoint("vit_b", url, "0" * 64))
    with pytest.raises(EnvironmentMissing, match=r"could not be downloaded from .*refused.*name it with --sam-checkpoint"):
        content()


def test_a_cache_that_cannot_be_written_is_named(published: Published, tmp_path: Path) -> None:
    (tmp_path / "tamperwatch").write_text("a file where the folder should be")
    with pytest.raises(EnvironmentMissing, match=r"to .*tamperwatch/sam: .*Not a directory"):
        content()
    assert published.asked == []


def test_a_file_given_is_taken_without_any_download(published: Published, tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_bytes(CONTENT)
    assert content(tmp_path / "mine.pth") == CONTENT
    assert published.asked == []


def test_a_missing_file_is_named_with_where_to_get_it(published: Published, tmp_path: Path) -> None:
    with pytest.raises(
        InvalidInput, match=rf"mine.pth cannot be read \(No such file or directory\); get it from {published.url}"
    ):
        content(tmp_path / "mine.pth")


@pytest.mark.usefixtures("published")
def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_bytes(CONTENT[:-7])
    with pytest.raises(InvalidInput, match=r"mine.pth is not the published tiny.pth: its sha256 is [0-9a-f]{64}, not"):
        content(tmp_path / "mine.pth")


@pytest.mark.usefixtures("published")
def test_the_checkpoint_of_another_size_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = SamCheckpoint("vit_l", "http://127.0.0.1/large.pth", hashlib.sha256(b"large").hexdigest())
    monkeypatch.setitem(SAM_CHECKPOINTS, "sam-vit-l", large)
    (tmp_path / "mine.pth").write_bytes(b"large")
    with pytest.raises(InvalidInput, match='is the checkpoint of sam-vit-l, the config says teacher = "sam-vit-b"'):
        content(tmp_path / "mine.pth")


def test_the_cache_lies_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "tamperwatch" / "sam"
    for ignored in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert cache_folder() == Path.home() / ".cache" / "tamperwatch" / "sam"
