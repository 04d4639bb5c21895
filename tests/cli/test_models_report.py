"""`tamperwatch models report|shadow|show` of a version that a run made: one file, nothing unescaped, nothing fetched."""

import hashlib
import io
import json
import re
import uuid
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.card import Card, builtin_directory
from model.render import mask_png
from scheduler.frozen_manifest import ManifestEntry, freeze
from scheduler.judging import scores_file
from scheduler.scores import PictureScores, StudentScores
from schemas.geometry import PixelBox
from schemas.learning_tables import RetrainRun, ShadowScore
from schemas.settings import BlobSettings
from schemas.states import RetrainState, RetrainTrigger, Verdict
from schemas.tables import AuditResult
from storage import canonical, jobs, registry, shadow_scores
from storage.blobs import BlobStore, open_blob_store, picture_key
from storage.database import Database
from storage.jobs import NewJob
from tests.cli.conftest import Ran, Tamperwatch
from tests.pictures import picture_bytes
from web.learning.figures import check_rows, figure_rows

CARD = Card.load(builtin_directory())
HOSTILE = '<script>alert("1")</script>\u202e&amp;'
CHECKS = [
    {"name": "f1", "passed": True, "sentence": f"better {HOSTILE}", "candidate": 0.3, "live": 0.25, "difference": 0.05,
     "interval": [0.01, 0.09], "margin": 0.002},
    {"name": "false area", "passed": False, "sentence": "area rose", "candidate": 0.03, "live": 0.01, "difference": 0.02,
     "interval": [0.0, 0.04], "margin": 0.01},
]  # fmt: skip


class Page(HTMLParser):
    """What a browser would make of it: tags with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return open_blob_store(BlobSettings(directory=tmp_path / "blobs"))


@pytest.fixture
def made(sqlite: Database, blobs: BlobStore) -> Callable[..., None]:
    """A nightly run's candidate `night-1`, rejected, beside the packaged student."""

    def make(location: str = "-") -> None:
        entries = [
            ManifestEntry(
                sha256=hashlib.sha256(bytes([number])).hexdigest(),
                tampered=number < 3,
                boxes=(PixelBox.of(0, 0, 4, 4),) if number < 3 else (),
                origin="new",
                role="holdout" if number == 0 else "train",
                annotators=("anna", HOSTILE)[: 1 + number % 2],
                source_id="campaign-7" if number else None,
                cluster=str(number),
            )
            for number in range(4)
        ]
        manifest = freeze(entries, seed=1, last_annotation_id=9, parent_version=CARD.version, ledger_sha256="0" * 64)
        sha256 = canonical.digest(manifest)
        blobs.put(f"manifests/{sha256}", manifest)
        run = RetrainRun(
            state=RetrainState.REJECTED, trigger=RetrainTrigger.SCHEDULE, manifest_sha256=sha256,
            manifest_key=f"manifests/{sha256}", parent_version=CARD.version, candidate_version="night-1",
            teacher_id="sam-vit-b", code_version="1.2.3 (abcdef)", step=900, seed=7,
            decision={"promote": False, "checks": CHECKS, "summary": f"Rejected: {HOSTILE}.", "live": CARD.version},
            figures={
                "files": {"curves": "retrain/curves.png", "scores": "retrain/scores.json"},
                "measured": {"candidate": {"version": "night-1", "f1": {"none": 0.3, "wechat": 0.25}, "missed": 0.5},
                             "live": {"version": CARD.version, "f1": {"none": 0.25, "wechat": 0.26}, "missed": 0.75}},
            },
        )  # fmt: skip
        card = CARD.model_dump(mode="json") | {"version": "night-1"}
        with sqlite.write() as session:
            registry.ensure_live(session, CARD.version, CARD.model_dump(mode="json"), registry.PACKAGE_LOCATION)
            session.add(run)
            session.flush()
            registry.register(session, "night-1", card, location, "trainer", "trained", run.id)
            registry.reject(session, "night-1", "promotion rule", f"worse {HOSTILE}", run.id)

    return make


def audited(database: Database, blobs: BlobStore, name: str, stored: bool = True) -> tuple[uuid.UUID, str]:
    """A picture that the packaged student passed."""
    data = picture_bytes(len(name))
    sha256 = hashlib.sha256(data).hexdigest()
    if stored:
        blobs.put(picture_key(sha256), data)
    with database.write() as session:
        (job,) = jobs.add_jobs(session, [NewJob(name, sha256, len(data), name, "s")])
        assert jobs.finish_job(session, job.id, [result_of(job.id, CARD.version, 0.1, Verdict.PASS, 0)])
    return job.id, sha256


def result_of(job_id: uuid.UUID, version: str, score: float, verdict: Verdict, level: int) -> AuditResult:
    return AuditResult(
        job_id=job_id, model_version=version, score=score, verdict=verdict, area=0.0, latency_ms=1.0,
        mask_png=mask_png(np.full((8, 8), level, np.uint8)), width_px=96, height_px=72,
    )  # fmt: skip


def shadowed(database: Database, job_id: uuid.UUID, sha256: str, verdict: Verdict = Verdict.FLAG) -> None:
    with database.write() as session:
        shadow_scores.add_shadow_score(
            session,
            ShadowScore(
                job_id=job_id,
                sha256=sha256,
                candidate_version="night-1",
                live_version=CARD.version,
                live_score=0.1,
                candidate_score=0.95,
                live_verdict=Verdict.PASS,
                candidate_verdict=verdict,
                mask_agreement=0.25,
            ),
        )


def run(tamperwatch: Tamperwatch, database: Database, tmp_path: Path, *argv: str) -> Ran:
    places = {"BLOBS__DIRECTORY": str(tmp_path / "blobs"), "ENGINE__MODEL_CACHE": str(tmp_path / "cache"), "ENGINE__THREADS": "1"}
    return tamperwatch("models", *argv, DATABASE_URL=database.url, **places)


def report(tamperwatch: Tamperwatch, database: Database, tmp_path: Path, *argv: str) -> Page:
    out = tmp_path / "report.html"
    ran = run(tamperwatch, database, tmp_path, "report", *argv, "--out", str(out))
    assert ran.code == 0, ran.err
    return Page(out.read_text(encoding="utf-8"))


def test_a_version_answers_which_boxes_which_teacher_which_parent_and_who_decided(
    tamperwatch: Tamperwatch, sqlite: Database, tmp_path: Path, made: Callable[..., None]
) -> None:
    made()
    told = json.loads(run(tamperwatch, sqlite, tmp_path, "show", "night-1", "--json").out)
    assert told["boxes"]["pictures"] == {"train": 3, "holdout": 1}
    assert told["boxes"]["boxes"] == {"train": 2, "holdout": 1}
    assert told["boxes"]["annotators"] == {"anna": 3, HOSTILE: 2}
    assert told["boxes"]["sources"] == {"campaign-7": 3}
    assert (told["run"]["teacher_id"], told["run"]["code_version"], told["parents"][0]) == (
        "sam-vit-b",
        "1.2.3 (abcdef)",
        CARD.version,
    )
    assert [(each["action"], each["who"]) for each in told["decisions"]] == [
        ("register", "trainer"),
        ("reject", "promotion rule"),
    ]
    shown = run(tamperwatch, sqlite, tmp_path, "show", "night-1").out
    assert "\u202e" not in shown
    said = " ".join(shown.split())
    assert "3 pictures to learn from (2 boxes, 1 authentic); 1 pictures held out (1 boxes, 0 authentic)" in said
    assert "anna 3" in said and "failed area rose" in said and f"from {CARD.version} ←" in said


def test_a_manifest_that_is_gone_says_so(
    tamperwatch: Tamperwatch, sqlite: Database, tmp_path: Path, made: Callable[..., None], blobs: BlobStore
) -> None:
    made()
    (manifest,) = blobs.list("manifests")
    blobs.delete(manifest.key)
    told = json.loads(run(tamperwatch, sqlite, tmp_path, "show", "night-1", "--json").out)
    assert told["boxes"] is None


def test_the_report_holds_everything_and_loads_nothing(
    tamperwatch: Tamperwatch, sqlite: Database, tmp_path: Path, made: Callable[..., None], blobs: BlobStore
) -> None:
    made()
    both, name = audited(sqlite, blobs, f"a {HOSTILE}.jpg"), "b.jpg"
    with sqlite.write() as session:
        session.add(result_of(both[0], "night-1", 0.97, Verdict.FLAG, 200))
    shadowed(sqlite, *audited(sqlite, blobs, name, stored=False), Verdict.REVIEW)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    blobs.put("retrain/curves.png", buffer.getvalue())

    page = report(tamperwatch, sqlite, tmp_path, "night-1")
    assert not {"script", "link", "iframe", "object", "form", "video"} & {tag for tag, _ in page.tags}
    sources = [str(attributes["src"]) for attributes in page.named("img")]
    assert [source.partition(";")[0] for source in sources] == ["data:image/png"] + ["data:image/jpeg"] * 3
    assert not any(key.startswith("on") or key == "href" for _, attributes in page.tags for key in attributes)
    policy = next(str(each["content"]) for each in page.named("meta") if each.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:")
    assert page.text.count('<script>alert("1")</script>') >= 4  # as words: name, reason, sentence, annotator
    assert "\u202e" not in page.text
    assert "url(" not in page.text and "@import" not in page.text
    said = " ".join(page.text.split())
    for words in (
        "night-1 retired", "before: pass, 0.10", "now: flag, 0.97", "0.0 % of what either marks is marked by both",
        "It cannot be shown: no blob", "As a shadow of", "campaign-7 3", "promotion rule", "+0.0100 … +0.0900",
    ):  # fmt: skip
        assert words.replace(" %", "\N{NO-BREAK SPACE}%") in page.text or words in said, words
    assert len(page.named("svg")) == 2


def test_a_mask_that_is_not_kept_is_made_again(
    tamperwatch: Tamperwatch, sqlite: Database, tmp_path: Path, made: Callable[..., None], blobs: BlobStore
) -> None:
    made("gone")
    shadowed(sqlite, *audited(sqlite, blobs, "a.jpg"))
    page = report(tamperwatch, sqlite, tmp_path, "night-1")
    assert "It cannot be shown" in page.text and "gone" in page.text
    page = report(tamperwatch, sqlite, tmp_path, CARD.version, "--against", "night-1")
    assert "No picture was seen by both versions" in page.text
    with sqlite.write() as session:
        registry.get(session, "night-1").location = str(_renamed(tmp_path))
    page = report(tamperwatch, sqlite, tmp_path, "night-1")
    assert len(page.named("img")) == 3


def _renamed(tmp_path: Path) -> Path:
    folder = tmp_path / "night-1"
    folder.mkdir()
    for path in builtin_directory().iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "card.json").write_text(json.dumps(CARD.model_dump(mode="json") | {"version": "night-1"}))
    return folder


def test_a_report_on_the_first_version_of_all(tamperwatch: Tamperwatch, sqlite: Database, tmp_path: Path) -> None:
    ran = run(tamperwatch, sqlite, tmp_path, "report")
    assert ran.code == 0, ran.err
    (path,) = tmp_path.glob("*.html")
    assert path.name == f"{CARD.version}.html"
    page = Page(path.read_text(encoding="utf-8"))
    assert "There is no other version to compare it with" in page.text
    assert "No curves were kept" in page.text
    assert "What the promotion rule said" not in page.text


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("nobody",), "no model version 'nobody'"),
        (("night-1", "--against", "night-1"), "is the version itself"),
        (("night-1", "--curves", "/dev/null"), "is no PNG"),
        (("night-1", "--curves", "/nowhere"), "No such file"),
    ],
)
def test_what_is_wrong_is_said(
    tamperwatch: Tamperwatch, sqlite: Database, tmp_path: Path, made: Callable[..., None], argv: tuple[str, ...], words: str
) -> None:
    made()
    ran = run(tamperwatch, sqlite, tmp_path, "report", *argv)
    assert (ran.code, words in " ".join(ran.err.split())) == (2, True)
    assert list(tmp_path.glob("*.html")) == []


def test_shadow_in_the_terminal_and_as_json(
    tamperwatch: Tamperwatch, sqlite: Database, tmp_path: Path, made: Callable[..., None], blobs: BlobStore
) -> None:
    made()
    empty = run(tamperwatch, sqlite, tmp_path, "shadow", "night-1")
    assert (empty.code, empty.out) == (0, "") and "TAMPERWATCH_WORKER__SHADOW_VERSION" in empty.err
    shadowed(sqlite, *audited(sqlite, blobs, "a.jpg"), Verdict.PASS)
    shadowed(sqlite, *audited(sqlite, blobs, "[red]bb[/].jpg"))
    ran = run(tamperwatch, sqlite, tmp_path, "shadow", "night-1")
    said = " ".join(ran.out.split())
    assert "2 pictures beside" in said and "50.0% have the same verdict" in said and "overlap by 25.0%" in said
    assert "pass 1 0 1" in said and "+0.50 to +1.00 2" in said
    assert said.index("[red]bb[/].jpg") < said.index("a.jpg", said.index("changed most"))
    told = json.loads(run(tamperwatch, sqlite, tmp_path, "shadow", "night-1", "--json").out)
    assert (told["pictures"], told["same_verdict"], told["live_versions"]) == (2, 0.5, [CARD.version])
    assert told["most_changed"][0]["candidate_verdict"] == "flag"
    assert told["score_difference"]["p50"] == pytest.approx(0.85)
    assert run(tamperwatch, sqlite, tmp_path, "shadow", "nobody").code == 2


def test_bars_lie_around_zero_and_fit() -> None:
    gain, loss = check_rows(CHECKS)
    assert gain.bar is not None and loss.bar is not None
    assert 60 < gain.bar.low < gain.bar.at < gain.bar.high < 120
    assert gain.bar.limit is not None and 60 < gain.bar.limit < gain.bar.low
    assert loss.bar.limit is not None and loss.bar.low == 60 < loss.bar.limit  # less is better: a loss lies above zero
    (profile,) = check_rows([CHECKS[0] | {"name": "f1 wechat"}])
    assert profile.bar is not None and profile.bar.limit is not None and profile.bar.limit < 60
    assert check_rows(None) == [] and check_rows(["no check", {}])[0].bar is None


def test_figures_of_two_cards() -> None:
    new = {"overall": {"f1": 0.5, "fa_area": 0.02}, "sets": {"a": {"f1": 0.4, "intervals": {"f1": [0.3, 0.5]}}}, "ece": "?"}
    old = {"overall": {"f1": 0.4, "fa_area": 0.01}}
    (_, overall), (_, sets) = figure_rows(old, new)
    assert [(row.name, row.difference, row.better) for row in overall] == [
        ("pixel F1", "+0.1000", True),
        ("false-alarm area", "+0.0100", False),
    ]
    assert (sets[0].old, sets[0].new, sets[0].better) == ("", "0.4000 (0.3000–0.5000)", None)
    assert re.fullmatch(r"4\.5e.06", check_rows([{"candidate": 4.5e-6}])[0].candidate)


def student(version: str, score: float, verdict: str, sha256: str) -> StudentScores:
    picture = PictureScores(
        sha256=sha256, tampered=False, cluster="c", source_id=None, annotators=(), truth="teacher", f1={},
        alarm_area={"none": 0.0}, inside=None, found=None, score=score, verdict=verdict,
    )  # fmt: skip
    return StudentScores(
        version=version, weights_sha256="0" * 64, weights_bytes=1, parity=None, ms_per_picture=1.0, pictures=(picture,)
    )


def test_held_out_pictures_of_the_run_are_shown_with_what_both_make_of_them(
    tamperwatch: Tamperwatch, sqlite: Database, tmp_path: Path, made: Callable[..., None], blobs: BlobStore
) -> None:
    made(str(_renamed(tmp_path)))
    data = picture_bytes(77)
    sha256 = hashlib.sha256(data).hexdigest()
    blobs.put(picture_key(sha256), data)
    blobs.put(
        "retrain/scores.json", scores_file(student("night-1", 0.9, "flag", sha256), student(CARD.version, 0.2, "pass", sha256))
    )
    page = report(tamperwatch, sqlite, tmp_path, "night-1")
    assert len(page.named("img")) == 3
    said = " ".join(page.text.split())
    assert "before: pass, 0.20" in said and "now: flag, 0.90" in said
    for words in (
        "Means over the held-out pictures",
        "pixel F1, wechat0.26000.2500",
        "manipulated pictures passed0.75000.5000",
    ):
        assert words in said, words
    blobs.delete("retrain/scores.json")
    blobs.put("retrain/scores.json", b'{"candidate": {}}')
    assert "No picture was seen by both versions" in report(tamperwatch, sqlite, tmp_path, "night-1").text
