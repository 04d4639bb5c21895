"""`tamperwatch audit` as a person runs it, over a folder of good, odd, broken and hostile files."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from tests import hostile
from tests.pictures import picture_bytes
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
MEMORY_LIMIT_BYTES = 1_500_000_000
SOUND = [
    *("baseline.jpg", "progressive.jpeg", "cmyk-adobe.jpg", "exif-6.jpg", "exif-8.tif", "exif-3.webp", "interlaced.png"),
    *("grey16.png", "rgba.png", "palette.png", "animated.gif", "animated.webp", "float.tif", "a-png-in-truth.jpg"),
    *("two-views.mpo", "damaged-exif.jpg", "one-pixel.png", "tall.png", "wide.jpg"),
]
BROKEN = [
    *("nothing.jpg", "notes.jpg", "drawing.svg", "half.jpg", "half.png", "half.webp", "bomb.png", "bomb.jpg"),
    *("text-bomb.png", "huge-tiles.tif"),
]
NAMES = ["with space.jpg", "ünï 🦝 日本.jpg", "-rf.jpg", "[red]x[green].jpg", "new\nline.jpg", "\x1b[31m.jpg", "sub/%41?#&.jpg"]
LONG = "x" * 246 + ".jpg"
MEGAPIXELS = "twelve-megapixels.jpg"


@dataclass
class Audit:
    """One finished run."""

    code: int
    out: str
    err: str
    peaks_bytes: dict[int, int] = field(default_factory=dict)

    def records(self) -> dict[str, dict[str, Any]]:
        lines = [json.loads(line) for line in self.out.split("\n") if line]
        assert len({line["image"] for line in lines}) == len(lines)
        return {line["image"]: line for line in lines}


@dataclass
class Place:
    """Where audits of one module run: their pictures, their outcome, and their own folder for temporary files."""

    pictures: Path
    out: Path
    temporary: Path

    def start(self, *options: str) -> "subprocess.Popen[str]":
        clean = {name: value for name, value in os.environ.items() if not name.upper().startswith("TAMPERWATCH_")}
        command = [sys.executable, "-m", "cli.main", "audit", str(self.pictures), "--out", str(self.out), "--json", *options]
        env = clean | {"TMPDIR": str(self.temporary)}
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=env)

    def run(self, *options: str) -> Audit:
        """Run to the end, noting the peak memory of every worker."""
        peaks_bytes: dict[int, int] = {}
        with self.start(*options) as process:
            ended = wait_for(lambda: _note_peaks(process.pid, peaks_bytes) or _ended(process), "end of the audit", 170)
            return Audit(process.returncode, *ended, peaks_bytes)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        path = self.out / ".tamperwatch" / "tamperwatch.db"
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("audit")
    with tempfile.TemporaryDirectory(prefix="tw") as temporary:
        yield Place(root / "pictures", root / "out", Path(temporary))


@pytest.fixture(scope="module")
def first(place: Place) -> Audit:
    """The first run over the hostile folder."""
    _fill(place.pictures)
    return place.run("--profiles", "wechat")


def test_every_visible_file_has_one_line(place: Place, first: Audit) -> None:
    assert first.code == 1
    expected = {*SOUND, *BROKEN, *NAMES, LONG, MEGAPIXELS, "pipe.jpg", "loop.jpg", "dangling.jpg"}
    assert set(first.records()) == expected
    assert (place.out / "results.jsonl").read_text(encoding="utf-8") == first.out
    assert "Traceback" not in first.err


def test_every_good_picture_has_its_mask_and_overlay(place: Place, first: Audit) -> None:
    records = first.records()
    sizes = {case.name: case.size for case in hostile.PICTURES} | {MEGAPIXELS: (4000, 3000)}

    for name in (*SOUND, *NAMES, MEGAPIXELS):
        record, size = records[name], sizes.get(name, (hostile.WIDTH_PX, hostile.HEIGHT_PX))
        assert (record["status"], record["error"]) == ("done", None), record
        assert (record["width"], record["height"]) == size
        assert record["mask"] == f"{name}.mask.png"
        with Image.open(place.out / record["mask"]) as mask, Image.open(place.out / f"{name}.overlay.png") as overlay:
            assert (mask.mode, mask.size) == ("L", size)
            assert (overlay.mode, overlay.size) == ("RGB", size)
        assert 0 <= record["score"] <= 1 and record["verdict"] in ("pass", "review", "flag")
        assert list(record["profiles"]) == ["wechat"]
        for region in record["regions"]:
            assert 0 <= region["box"]["x0"] < region["box"]["x1"] <= size[0]
            assert 0 <= region["box"]["y0"] < region["box"]["y1"] <= size[1]


def test_every_broken_file_has_its_own_error(place: Place, first: Audit) -> None:
    records = first.records()
    codes = {case.name: case.code for case in hostile.BROKEN if case.name in BROKEN}
    codes |= {"pipe.jpg": "unreadable", "loop.jpg": "unreadable", "dangling.jpg": "unreadable", LONG: "output_failed"}

    for name, code in codes.items():
        record = records[name]
        assert (record["status"], record["error"]["code"]) == ("failed", code)
        assert record["error"]["message"]
        assert record["score"] is None and record["mask"] is None
    assert not list(place.out.rglob("half.jpg.*"))


def test_sql_agrees_with_the_file(place: Place, first: Audit) -> None:
    records = first.records()
    jobs = dict(place.rows("SELECT source, state || ':' || coalesce(error_code, '') FROM audit_job"))
    results = place.rows(
        "SELECT source, profile, score, verdict, area, width_px, height_px, model_version, sha256, regions, mask_agreement, "
        "second_score, stable "
        "FROM audit_result JOIN audit_job ON audit_job.id = job_id"
    )

    assert set(jobs) == set(records)
    for name, record in records.items():
        # What could not be written is failed for the person who asked, and done in the store.
        wanted = "done:" if record["status"] == "done" or name == LONG else f"failed:{record['error']['code']}"
        assert jobs[name] == wanted
    assert {row[0] for row in results} == {name for name, state in jobs.items() if state == "done:"}
    assert len(results) == 2 * len({row[0] for row in results})
    for source, profile, score, verdict, area, width, height, version, sha256, regions, agreement, *second_look in results:
        record = records[source]
        assert sha256 == record["sha256"]
        if record["status"] == "failed":
            continue
        if profile == "wechat":
            assert record["profiles"]["wechat"] == {"score": score, "verdict": verdict, "mask_agreement": agreement}
        else:
            found = (
                record["score"],
                record["verdict"],
                record["area"],
                record["width"],
                record["height"],
                record["model_version"],
            )
            assert found == (score, verdict, area, width, height, version)
            assert json.loads(regions) == record["regions"]
            assert [record["second_score"], record["stable"]] == second_look


def test_the_report_is_there_and_names_everything(place: Place, first: Audit) -> None:
    page = (place.out / "report.html").read_text(encoding="utf-8")

    assert first.code == 1
    assert "ünï 🦝 日本.jpg" in page and "half.png" in page
    assert "\x1b" not in page


def test_the_worker_needs_little_memory(first: Audit) -> None:
    assert len(first.peaks_bytes) == 1  # one worker, which lived to the end
    assert 50_000_000 < max(first.peaks_bytes.values()) < MEMORY_LIMIT_BYTES


def test_nothing_is_left_running_or_lying_about(place: Place, first: Audit) -> None:
    assert first.code == 1
    assert list(place.temporary.iterdir()) == []
    assert not [each for each in psutil.process_iter(["cmdline"]) if str(place.temporary) in " ".join(each.info["cmdline"] or [])]


def test_the_same_command_again_infers_nothing_anew(place: Place, first: Audit) -> None:
    before = place.rows("SELECT id, job_id, profile, created_at, mask_png FROM audit_result ORDER BY id")

    second = place.run("--profiles", "wechat")

    assert (second.code, second.out) == (first.code, first.out)
    assert place.rows("SELECT id, job_id, profile, created_at, mask_png FROM audit_result ORDER BY id") == before


def test_ctrl_c_in_mid_run_leaves_nothing_and_the_next_run_completes(place: Place, tmp_path: Path) -> None:
    count = 150
    here = Place(tmp_path / "pictures", tmp_path / "out", place.temporary)
    here.pictures.mkdir()
    for seed in range(count):
        (here.pictures / f"{seed:03}.jpg").write_bytes(picture_bytes(seed))
    with here.start() as process:
        wait_for(lambda: _done(here) > 0, "first result", 60)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "Traceback" not in err
    assert len(children) >= 2
    assert all(_is_gone(child) for child in children)
    assert list(here.temporary.iterdir()) == []
    assert 0 < _done(here) < count
    assert not (here.out / "results.jsonl").exists()

    completed = here.run()

    assert completed.code == 0
    assert {record["status"] for record in completed.records().values()} == {"done"}
    assert len(completed.records()) == count
    assert here.rows("SELECT count(*), count(DISTINCT job_id) FROM audit_result") == [(count, count)]


def _fill(folder: Path) -> None:
    """Good, odd, broken and hostile files, and hidden ones that must not show up."""
    (folder / "sub").mkdir(parents=True)
    (folder / ".git").mkdir()
    made = {case.name: case.make for case in (*hostile.PICTURES, *hostile.BROKEN)}
    for name in (*SOUND, *BROKEN):
        (folder / name).write_bytes(made[name]())
    for seed, name in enumerate((*NAMES, LONG, ".hidden.jpg", ".git/picture.jpg")):
        (folder / name).write_bytes(hostile.jpeg(comment=str(seed).encode()))
    (folder / MEGAPIXELS).write_bytes(hostile.encoded(hostile.drawn(4000, 3000), "JPEG", quality=90))
    os.mkfifo(folder / "pipe.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "dangling.jpg").symlink_to("gone.jpg")


def _ended(process: "subprocess.Popen[str]") -> tuple[str, str] | None:
    """What a process wrote, once it has ended. Its pipes are emptied meanwhile, or it would wait for room in them for ever."""
    try:
        return process.communicate(timeout=0.05)
    except subprocess.TimeoutExpired:
        return None


def _note_peaks(parent: int, peaks_bytes: dict[int, int]) -> None:
    """Remember VmHWM, the kernel's own high-water mark, of every worker below a process."""
    try:
        for child in psutil.Process(parent).children():
            if "worker" in child.cmdline():
                status = Path(f"/proc/{child.pid}/status").read_text(encoding="utf-8")
                marks = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
                peaks_bytes[child.pid] = max([peaks_bytes.get(child.pid, 0), *(1024 * kib for kib in marks)])
    except (psutil.Error, OSError):
        return  # it ended while we looked


def _done(place: Place) -> int:
    try:
        return int(place.rows("SELECT count(*) FROM audit_result")[0][0])
    except sqlite3.Error:
        return 0  # no database, or no table, yet


def _is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
