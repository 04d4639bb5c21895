"""Which files a path names: every visible one, once, under a name of its own."""

import os
import socket
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.files import list_files, stream_files
from schemas.errors import InvalidInput
from schemas.messages import AuditMessage


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def names(*paths: Path, exclude: Path | None = None) -> list[str]:
    return [file.name for file in list_files(paths, exclude)]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_folders_are_searched_and_sorted(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.jpg", "sub/deeper/c", "sub/notes.txt"):
        touch(tmp_path / name)

    found = list_files([tmp_path])

    assert [file.name for file in found] == ["a.jpg", "b.jpg", "sub/deeper/c", "sub/notes.txt"]
    assert all((tmp_path / file.name) == file.path for file in found)


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    for name in (".DS_Store", ".git/picture.jpg", "sub/.thumb.jpg", "a.jpg"):
        touch(tmp_path / name)

    assert names(tmp_path) == ["a.jpg"]


def test_a_hidden_file_named_outright_is_meant(tmp_path: Path) -> None:
    assert names(touch(tmp_path / ".a.jpg")) == [".a.jpg"]


def test_a_file_is_named_after_itself(tmp_path: Path) -> None:
    assert names(touch(tmp_path / "sub" / "a.jpg")) == ["a.jpg"]


def test_our_own_output_is_left_out(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    touch(tmp_path / "out" / "a.jpg.mask.png")

    assert names(tmp_path, exclude=tmp_path / "out") == ["a.jpg"]
    assert names(tmp_path, exclude=tmp_path / "sub" / ".." / "out") == ["a.jpg"]


def test_auditing_into_the_pictures_folder_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")

    with pytest.raises(InvalidInput, match="cannot be audited into itself"):
        list_files([tmp_path], exclude=tmp_path / ".")


def test_pictures_below_the_output_may_be_audited(tmp_path: Path) -> None:
    touch(tmp_path / "out" / "pictures" / "a.jpg")

    assert names(tmp_path / "out" / "pictures", exclude=tmp_path / "out") == ["a.jpg"]


def test_nothing_to_audit(tmp_path: Path) -> None:
    touch(tmp_path / ".hidden")

    with pytest.raises(InvalidInput, match="no visible file"):
        list_files([tmp_path])


@pytest.mark.parametrize("name", ["nowhere", "x" * 300, "a/b/c", "\udcff.jpg", "line\nbreak"])
def test_what_does_not_exist_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="no such file or folder"):
        list_files([tmp_path, tmp_path / name])


def test_the_same_file_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "a.jpg")
    touch(tmp_path / "sub" / "b.jpg")
    monkeypatch.chdir(tmp_path)

    assert names(Path("a.jpg"), Path("./a.jpg"), tmp_path / "a.jpg", Path("sub/../a.jpg")) == ["a.jpg"]
    assert len(names(tmp_path, tmp_path, tmp_path / "sub")) == 2


def test_a_folder_reached_through_a_link_is_the_same_folder(tmp_path: Path) -> None:
    touch(tmp_path / "real" / "a.jpg")
    (tmp_path / "link").symlink_to("real")

    assert names(tmp_path / "real", tmp_path / "link") == ["a.jpg"]


def test_names_that_clash_carry_their_folder(tmp_path: Path) -> None:
    for name in ("x/a.jpg", "y/a.jpg", "y/b.jpg", "z/c.jpg"):
        touch(tmp_path / name)

    assert names(*(tmp_path / name for name in "xyz")) == ["c.jpg", "x/a.jpg", "y/a.jpg", "y/b.jpg"]
    assert names(tmp_path / "x" / "a.jpg", tmp_path / "y" / "a.jpg") == ["x/a.jpg", "y/a.jpg"]


def test_folders_named_alike_are_numbered(tmp_path: Path) -> None:
    for name in ("one/in/a.jpg", "two/in/a.jpg"):
        touch(tmp_path / name)

    assert names(tmp_path / "one" / "in", tmp_path / "two" / "in") == ["in-2/a.jpg", "in/a.jpg"]


def test_a_prefix_that_clashes_with_a_folder_inside(tmp_path: Path) -> None:
    for name in ("one/in/a.jpg", "two/at/a.jpg", "three/in/a.jpg"):
        touch(tmp_path / name)

    found = names(tmp_path / "one" / "in", tmp_path / "two" / "at", tmp_path / "three")

    assert found == ["at/a.jpg", "in/a.jpg", "in/a.jpg (2)"]


def test_bytes_that_are_no_text_are_escaped_and_stay_distinct(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    for name in (b"\xff.jpg", b"\\xff.jpg", b"\xfe.jpg"):
        Path(os.fsdecode(os.path.join(folder, name))).write_bytes(name)

    found = list_files([tmp_path])

    assert sorted(file.name for file in found) == ["\\xfe.jpg", "\\xff.jpg", "\\xff.jpg (2)"]
    assert {file.path.read_bytes() for file in found} == {b"\xff.jpg", b"\\xff.jpg", b"\xfe.jpg"}
    assert [file.name for file in found] == names(tmp_path)  # the same again, in whatever order the folder is read


NAMES = [
    "with space.jpg",
    "ünï 🦝 日本.jpg",
    "-rf",
    "--out=x",
    "[red]x[/].jpg",
    "new\nline.jpg",
    "\x1b[31m.jpg",
    "x" * 250,
    "a\\b",
    "%41?#&",
]


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_are_kept(tmp_path: Path, name: str) -> None:
    touch(tmp_path / name)

    assert names(tmp_path) == [name]


def test_every_name_fits_into_a_message(tmp_path: Path) -> None:
    """Escapes make a byte four characters: a path of undecodable names would outgrow the message's field."""
    folder = os.fsencode(tmp_path)
    for depth in (1, 5):
        deep = os.path.join(folder, *[b"\xff" * 250] * depth)
        os.makedirs(deep, exist_ok=True)
        for last in (b"1", b"2"):
            Path(os.fsdecode(os.path.join(deep, last))).write_bytes(b"x")

    found = names(tmp_path)

    assert len(found) == len(set(found)) == 4
    for name in found:
        AuditMessage(job_id="6f1c2c9e-3c1b-4c5e-9a52-0d3c8b1f7a10", sha256="0" * 64, source=name)


def test_what_is_no_regular_file_is_listed_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "dangling.jpg").symlink_to("gone.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "socket.jpg"))

        assert names(tmp_path) == ["dangling.jpg", "loop.jpg", "pipe.jpg", "socket.jpg"]


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    (tmp_path / "self").symlink_to(".")

    assert names(tmp_path) == ["a.jpg"]


def test_a_folder_that_may_not_be_opened_is_listed(
    open_folder: Path, as_nobody: Callable[[], AbstractContextManager[None]]
) -> None:
    touch(open_folder / "a.jpg")
    touch(open_folder / "private" / "b.jpg")
    (open_folder / "private").chmod(0)

    with as_nobody():
        found = list_files([open_folder])
        alone = list_files([open_folder / "private"])

    assert [file.name for file in found] == ["a.jpg", "private"]
    assert [file.name for file in alone] == ["private"]
    assert found[1].path == open_folder / "private"


def test_folders_nested_deeper_than_the_stack(tmp_path: Path) -> None:
    depth = 1100
    nested = [tmp_path.joinpath(*["a"] * level) for level in range(1, depth + 1)]
    for folder in nested:
        folder.mkdir()
    touch(nested[-1] / "picture.jpg")

    assert names(tmp_path) == ["a/" * depth + "picture.jpg"]

    (nested[-1] / "picture.jpg").unlink()  # shutil.rmtree would recurse, too
    for folder in reversed(nested):
        folder.rmdir()


PARTS = st.sampled_from(["a", "b", "a (2)", "x", "x-2", "\udcff", "\\xff"])


@settings(max_examples=60)
@given(
    files=st.sets(st.lists(PARTS, min_size=2, max_size=3).map("/".join), min_size=1, max_size=8), roots=st.sets(PARTS, max_size=4)
)
def test_no_two_files_ever_share_a_name(files: set[str], roots: set[str]) -> None:
    """Results are kept by name: a shared one would lose a picture."""
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            path = Path(folder, f"{file}.d", "f")
            touch(path)
        given = [Path(folder), *(path for root in roots if (path := Path(folder, root)).exists())]
        below = sorted(path for path in Path(folder).rglob("*") if path.is_dir())
        found = list_files([*given, *below[:3]])

    assert len({file.name for file in found}) == len(found) == len(files)


# Streaming: the same files, one by one.


def streamed(*paths: Path) -> list[str]:
    return sorted(file.name for file in stream_files(paths))


def test_one_folder_streams_what_is_listed(tmp_path: Path) -> None:
    for name in ("b.jpg", "sub/deeper/c", ".hidden/x.jpg", "sub/.thumb"):
        touch(tmp_path / name)

    assert streamed(tmp_path) == names(tmp_path) == ["b.jpg", "sub/deeper/c"]
    assert streamed(tmp_path / "b.jpg") == ["b.jpg"]


def test_several_roots_carry_their_own_names(tmp_path: Path) -> None:
    for name in ("one/in/a.jpg", "two/in/a.jpg", "c/a.jpg", "d/a.jpg", "e/.a.jpg"):
        touch(tmp_path / name)

    found = streamed(tmp_path / "one" / "in", tmp_path / "two" / "in", tmp_path / "c" / "a.jpg", tmp_path / "d" / "a.jpg")

    assert found == ["a.jpg", "a.jpg-2", "in-2/a.jpg", "in/a.jpg"]


def test_what_lies_within_another_path_is_streamed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x/a.jpg", "x/sub/b.jpg", "x/.cache/c.jpg", "y/d.jpg"):
        touch(tmp_path / name)
    (tmp_path / "link").symlink_to("x")
    monkeypatch.chdir(tmp_path)

    inside = [Path("x/sub"), Path("x/a.jpg"), Path("x"), Path("./x"), Path("link"), Path("x/sub/b.jpg")]

    assert len(streamed(*inside)) == 2
    assert len(streamed(Path("x"), Path("x/.cache"))) == 3  # a search passes hidden folders by


def test_a_path_that_is_missing_is_named_before_the_first_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="nowhere"):
        stream_files([tmp_path, tmp_path / "nowhere"])


def test_a_large_folder_is_streamed_at_constant_memory(tmp_path: Path) -> None:
    for number in range(5000):
        (tmp_path / f"{number}.jpg").touch()
    files = stream_files([tmp_path])
    next(files)
    tracemalloc.start()
    counted = sum(1 for _ in files)
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert counted == 4999
    assert peak < 300_000  # a list of them takes 2 MB
