"""Writing for people: the folder is made, and every failure has a name and a cure."""

import errno
import os
from pathlib import Path

import pytest

from cli.output import writing
from schemas.errors import DiskFull, OutputFailed


def test_the_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.txt"

    with writing(path):
        path.write_text("x", encoding="utf-8")

    assert path.read_text(encoding="utf-8") == "x"


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    (tmp_path / "report.html").symlink_to("/dev/full")

    with pytest.raises(DiskFull, match=r"no space left to write .*report\.html; free some"), writing(tmp_path / "report.html"):
        (tmp_path / "report.html").write_text("x", encoding="utf-8")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_used_up_quota_is_a_full_disk(tmp_path: Path, number: int) -> None:
    with pytest.raises(DiskFull), writing(tmp_path / "x"):
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENAMETOOLONG, errno.EIO])
def test_everything_else_says_what(tmp_path: Path, number: int) -> None:
    with pytest.raises(OutputFailed, match=os.strerror(number)), writing(tmp_path / "x"):
        raise OSError(number, os.strerror(number))


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x", encoding="utf-8")

    with pytest.raises(OutputFailed, match="cannot write"), writing(tmp_path / "a" / "b"):
        pass


def test_a_name_this_locale_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(OutputFailed, match=r"encoding \(ascii\) has no such name"), writing(tmp_path / "ünï.png"):
        "ünï.png".encode("ascii")


def test_other_errors_pass_untouched(tmp_path: Path) -> None:
    with pytest.raises(KeyError), writing(tmp_path / "x"):
        raise KeyError("a defect")
