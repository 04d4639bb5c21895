"""`tamperwatch similar` over a store whose pictures a worker has hashed."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.card import Card, builtin_directory
from model.picture_hash import picture_hash
from model.preprocess import prepare
from schemas.records import ErrorRecord
from schemas.states import Verdict
from schemas.tables import AuditResult
from storage import jobs, similar
from storage.database import Database
from storage.jobs import NewJob
from storage.similar import PictureBits
from tests.cli.conftest import Tamperwatch
from tests.pictures import plain_picture_bytes

SAMPLES = Path(__file__).parents[2] / "samples" / "pictures"
SIDE_PX = Card.load(builtin_directory()).student.input_size
HOSTILE = "[red]copy[/] \x1b[31m.jpg"


def add(database: Database, source: str, data: bytes, verdict: Verdict | None = Verdict.PASS, hashed: bool = True) -> int:
    """One picture that a worker audited and hashed; the number of its result, 0 if it failed."""
    sha256 = hashlib.sha256(data).hexdigest()
    new = NewJob(source=source, sha256=sha256, bytes=len(data), client_ref=source, submission="s", source_profile="weibo")
    with database.write() as session:
        (job,) = jobs.add_jobs(session, [new])
        if hashed:
            made = picture_hash(prepare(data, SIDE_PX).pixels)
            similar.store_hashes(session, [PictureBits(sha256, made.bits, made.quality)])
        if verdict is None:
            jobs.fail_job(session, job.id, ErrorRecord(code="model_failed", message="x"))
            return 0
        result = AuditResult(
            job_id=job.id, model_version="m", score=0.75, verdict=verdict, area=0.5, mask_png=b"x", width_px=6, height_px=4,
            latency_ms=1.0,
        )  # fmt: skip
        session.add(result)
        session.flush()
        jobs.finish_job(session, job.id, [])
        return result.id or 0


def resaved(name: str, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.open(SAMPLES / name).convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


@pytest.fixture
def store(sqlite: Database) -> Database:
    add(sqlite, "coffee.jpg", (SAMPLES / "coffee.jpg").read_bytes())
    add(sqlite, HOSTILE, resaved("coffee.jpg", 10), Verdict.FLAG)
    add(sqlite, "dahlia.jpg", (SAMPLES / "dahlia.jpg").read_bytes(), Verdict.REVIEW)
    add(sqlite, "failed.jpg", resaved("coffee.jpg", 30), None)
    add(sqlite, "plain.png", plain_picture_bytes((0, 128, 128)))
    return sqlite


def found(tamperwatch: Tamperwatch, store: Database, *argv: str) -> list[dict[str, object]]:
    ran = tamperwatch("similar", *argv, "--json", DATABASE_URL=store.url)
    assert (ran.code, ran.err) == (0, "")
    return [json.loads(line) for line in ran.out.splitlines()]


def test_a_file_finds_itself_and_its_copies(tamperwatch: Tamperwatch, store: Database, tmp_path: Path) -> None:
    (tmp_path / "mine.jpg").write_bytes((SAMPLES / "coffee.jpg").read_bytes())
    same, copy = found(tamperwatch, store, "mine.jpg")
    assert (same["image"], same["distance_bits"], same["verdict"], same["source_profile"]) == ("coffee.jpg", 0, "pass", "weibo")
    assert (copy["image"], copy["verdict"]) == (HOSTILE, "flag")
    assert 0 < int(str(copy["distance_bits"])) <= 31
    assert [each["image"] for each in found(tamperwatch, store, "mine.jpg", "--within", "0")] == ["coffee.jpg"]
    assert [each["image"] for each in found(tamperwatch, store, "mine.jpg", "--limit", "1")] == ["coffee.jpg"]


def test_a_file_nobody_has_seen_is_hashed_here(tamperwatch: Tamperwatch, store: Database, tmp_path: Path) -> None:
    (tmp_path / "4711").write_bytes(resaved("dahlia.jpg", 40))
    assert [each["image"] for each in found(tamperwatch, store, "4711")] == ["dahlia.jpg"]
    noise = np.random.default_rng(3).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    assert found(tamperwatch, store, "noise.png") == []


def test_a_result_is_named_by_its_number(tamperwatch: Tamperwatch, store: Database) -> None:
    ran = tamperwatch("similar", "1", DATABASE_URL=store.url)
    assert ran.code == 0
    header, *rows = ran.out.splitlines()
    assert header.split() == ["bits", "apart", "verdict", "score", "picture"]
    assert rows[0].split() == ["0", "pass", "0.75", "coffee.jpg"]
    assert "flag" in rows[1] and "[red]copy[/]" in rows[1] and "\x1b" not in ran.out


def test_a_plain_picture_is_not_compared(tamperwatch: Tamperwatch, store: Database) -> None:
    with store.read() as session:
        assert similar.any_hash(session)
    ran = tamperwatch("similar", "4", DATABASE_URL=store.url)
    assert (ran.code, ran.out) == (1, "")
    assert "too plain to be compared" in ran.err


@pytest.mark.parametrize(
    ("picture", "says"),
    [
        ("99", "there is no result 99"),
        ("no-such.jpg", "no-such.jpg can't be read"),
        ("text.jpg", "text.jpg: not a picture in an accepted format"),
        ("5", "no hash was kept of the picture of result 5"),
    ],
)
def test_what_cannot_be_compared(tamperwatch: Tamperwatch, store: Database, tmp_path: Path, picture: str, says: str) -> None:
    (tmp_path / "text.jpg").write_bytes(b"no picture")
    assert add(store, "unhashed.jpg", resaved("dahlia.jpg", 50), hashed=False) == 5
    ran = tamperwatch("similar", picture, DATABASE_URL=store.url)
    assert ran.code == 2
    assert says in " ".join(ran.err.split())


def test_a_store_without_hashes_says_how_to_get_them(tamperwatch: Tamperwatch, sqlite: Database, tmp_path: Path) -> None:
    data = (SAMPLES / "coffee.jpg").read_bytes()
    add(sqlite, "coffee.jpg", data, hashed=False)
    (tmp_path / "mine.jpg").write_bytes(data)
    ran = tamperwatch("similar", "mine.jpg", DATABASE_URL=sqlite.url)
    assert ran.code == 0
    assert "TAMPERWATCH_WORKER__PERCEPTUAL_HASH=true" in ran.err
