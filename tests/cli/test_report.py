"""The HTML report: complete, self-contained, safe against hostile names, and written in bounded memory."""

import base64
import hashlib
import io
import re
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from cli import report_cards
from cli.report import ReportSummary, Thumbnails, make_thumbnails, write_report
from model.card import Calibration
from schemas import errors
from schemas.geometry import PixelBox
from schemas.records import AuditRecord, ErrorRecord, ProfileRecord, Region
from schemas.states import Verdict
from web import wording

CALIBRATION = Calibration(
    temperature=1, bias=0, review_threshold=0.5, flag_threshold=0.7, review_false_alarm_rate=0.05, flag_false_alarm_rate=0.01
)
SUMMARY = ReportSummary(
    source="a folder", created=datetime(2030, 4, 5, 6, 7, tzinfo=UTC), model_version="student-9", calibration=CALIBRATION
)
TEMPLATES = Path(report_cards.__file__).parent / "templates"
VOID = {"meta", "img", "input", "link", "br", "hr", "use", "path", "circle"}

HOSTILE = [
    "<script>alert(1)</script>.jpg",
    "</script><script>alert(1)</script>.png",
    '" onerror="alert(1)" x=".jpg',
    "' onload='alert(1).jpg",
    "javascript:alert(1).jpg",
    "{{ 7 * 7 }}{% raw %}.jpg",
    "&lt;b&gt;.jpg",
    "日本語 ünïcode 🦝.jpg",
    "<style>*{display:none}</style>",
    "</li></ol><img src=x onerror=alert(1)>",
    "../../etc/passwd?x=1#y",
]


class Page(HTMLParser):
    """What a browser would see: every tag with its attributes, and the text inside each card."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open_tags: list[str] = []
        self.cards: list[str] = []
        self.inline: dict[str, list[str]] = {"script": [], "style": []}
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "li":
            self.cards.append("")
        if tag not in VOID:
            self.open_tags.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open_tags and self.open_tags[-1] in self.inline:
            self.inline[self.open_tags[-1]].append(data)
        elif "li" in self.open_tags:
            self.cards[-1] += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def done(image: str, score: float, verdict: Verdict = Verdict.FLAG, **more: object) -> AuditRecord:
    fields = {
        "area": 0.031,
        "width": 640,
        "height": 480,
        "latency_ms": 42.0,
        "model_version": "student-9",
        "mask": f"{image}.mask.png",
    }
    return AuditRecord.model_validate({"image": image, "status": "done", "score": score, "verdict": verdict} | fields | more)


def failed(image: str, code: str = "decode_failed", message: str = "the picture is truncated") -> AuditRecord:
    return AuditRecord(image=image, status="failed", error=ErrorRecord(code=code, message=message))


def thumbnails(_: AuditRecord) -> Thumbnails:
    return make_thumbnails(Image.new("RGB", (64, 48), "teal"), Image.new("RGB", (64, 48), "orange"))


def page_of(tmp_path: Path, *records: AuditRecord, title: str = "Audit") -> Page:
    return Page(write_report(records, tmp_path / "report.html", title, SUMMARY, thumbnails))


def test_one_card_a_record_most_suspicious_first_and_failed_last(tmp_path: Path) -> None:
    page = page_of(
        tmp_path,
        failed("e.jpg"),
        done("d.jpg", 0.1, Verdict.PASS),
        done("b.jpg", 0.8),
        done("c.jpg", 0.6, Verdict.REVIEW),
        done("a.jpg", 0.93),
    )
    names = [attributes["data-name"] for attributes in page.named("li")]
    assert names == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]
    assert [attributes["data-state"] for attributes in page.named("li")] == ["flag", "flag", "review", "pass", "failed"]


def test_card_says_verdict_score_area_size_and_regions_in_words(tmp_path: Path) -> None:
    region = Region(box=PixelBox.of(10, 20, 110, 70), score=0.88)
    card = page_of(tmp_path, done("a.jpg", 0.93, regions=[region])).cards[0]
    for words in (
        "Flagged: look at this first",
        "0.93",
        "calibrated probability of manipulation: very likely manipulated",
        "3.1\N{NO-BREAK SPACE}% of the picture marked",
        "640 × 480 px",
        "42\N{NO-BREAK SPACE}ms",
        "1 marked region",
        "100 × 50 px at 10, 20",
        "0.88",
    ):
        assert words in card


def test_card_says_where_a_picture_came_from_and_that_it_was_known(tmp_path: Path) -> None:
    page = page_of(
        tmp_path,
        done("a.jpg", 0.9, source_profile="wechat", reused_from=7),
        done("b.jpg", 0.8),
        failed("c.jpg").model_copy(update={"source_profile": "<b>our.net"}),
    )
    assert "taken from WeChat" in page.cards[0] and "the same bytes were audited before" in page.cards[0]
    assert "taken from" not in page.cards[1] and "audited before" not in page.cards[1]
    assert "taken from <b>our.net" in page.cards[2]


def test_card_shows_each_network_and_names_the_changed_verdict(tmp_path: Path) -> None:
    profiles = {
        "wechat": ProfileRecord(score=0.4, verdict=Verdict.PASS, mask_agreement=0.25),
        "weibo": ProfileRecord(score=0.9, verdict=Verdict.FLAG, mask_agreement=0.97),
    }
    card = page_of(tmp_path, done("a.jpg", 0.93, profiles=profiles)).cards[0]
    assert "Delivered by networks (simulated): verdict changes on WeChat" in card
    assert re.search(r"WeChat\s*0\.40\s*pass \(changed\)\s*0\.25", card)
    assert re.search(r"Weibo\s*0\.90\s*flag\s*0\.97", card)


@pytest.mark.parametrize(
    ("verdict", "stable", "words"),
    [
        (Verdict.REVIEW, False, "unstable: a mild recompression scores 0.41, another verdict, so it goes to review"),
        (Verdict.FLAG, True, "stable: a mild recompression scores 0.41, the same verdict"),
    ],
)
def test_card_says_what_the_second_look_gave(tmp_path: Path, verdict: Verdict, stable: bool, words: str) -> None:
    page = page_of(tmp_path, done("a.jpg", 0.72, verdict, second_score=0.41, stable=stable), done("b.jpg", 0.99))
    of_picture = dict(zip([each["data-name"] for each in page.named("li")], page.cards, strict=True))
    assert re.search(rf"(?<!\w){words}", of_picture["a.jpg"])
    assert "recompression" not in of_picture["b.jpg"]
    assert not page.open_tags


def test_failed_card_shows_code_message_and_how_to_mend(tmp_path: Path) -> None:
    page = page_of(tmp_path, failed("a.jpg"), done("b.jpg", 0.9))
    assert "decode_failed the picture is truncated" in page.cards[1]
    assert wording.MENDING["decode_failed"] in page.cards[1]
    assert "start there. 1 could not be audited." in re.sub(r"\s+", " ", page.source)


def test_header_counts_filter_version_date_and_thresholds(tmp_path: Path) -> None:
    page = page_of(tmp_path, failed("a.jpg"), done("b.jpg", 0.9), done("c.jpg", 0.8))
    filters = {attributes["value"]: attributes for attributes in page.named("input") if attributes.get("name") == "show"}
    assert list(filters) == ["all", "flag", "review", "pass", "failed"]
    assert [state for state, attributes in filters.items() if "disabled" in attributes] == ["review", "pass"]
    counts = re.findall(r'class="count">(\d+)<', page.source)
    assert counts == ["3", "2", "0", "0", "1"]
    for words in (
        "student-9",
        "5 April 2030, 06:07 UTC",
        "score above 0.70: look first",
        "at most 1\N{NO-BREAK SPACE}% of the authentic",
    ):
        assert words in page.source


def test_every_stored_error_code_has_advice_of_its_own() -> None:
    never_stored = (errors.SetupError, errors.RequestError)
    codes = {kind.code for kind in leaves(errors.TamperwatchError) if not issubclass(kind, never_stored)}
    assert codes == set(wording.MENDING)
    assert wording.mending("a_code_of_a_later_release") == wording.MENDING_UNKNOWN


def leaves(kind: type[errors.TamperwatchError]) -> Iterator[type[errors.TamperwatchError]]:
    children = kind.__subclasses__()
    if not children:
        yield kind
    for child in children:
        yield from leaves(child)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(tmp_path: Path, name: str) -> None:
    plain = page_of(tmp_path / "plain", done("a.jpg", 0.9), failed("b.jpg"), title="Audit")
    page = page_of(tmp_path / "hostile", done(name, 0.9), failed(name, message=name), title=name)
    assert [tag for tag, _ in without(page, "bdi")] == [tag for tag, _ in without(plain, "bdi")]
    assert page.inline == plain.inline
    assert not page.open_tags
    for tag, attributes in page.tags:
        assert not [attribute for attribute in attributes if attribute.startswith("on")], tag
    assert name in page.cards[1]
    assert page.named("li")[0]["data-name"] == name.lower()


def without(page: Page, tag: str) -> list[tuple[str, dict[str, str | None]]]:
    """All tags but one kind: a name with a slash is shown in two parts."""
    return [item for item in page.tags if item[0] != tag]


def test_names_cannot_change_writing_direction_or_hide_control_characters(tmp_path: Path) -> None:
    card = page_of(tmp_path, done("invoice\u202egpj.exe\x07", 0.9)).cards[0]
    assert "invoice\N{REPLACEMENT CHARACTER}gpj.exe\N{REPLACEMENT CHARACTER}" in card
    assert "\u202e" not in card


@pytest.mark.parametrize("name", HOSTILE)
def test_links_are_relative_and_lead_to_the_files(tmp_path: Path, name: str) -> None:
    links = [attributes["href"] for attributes in page_of(tmp_path, done(name, 0.9)).named("a")]
    assert {link.rpartition(".")[0].rpartition(".")[2] for link in links if link and link.startswith("./")} == {"mask", "overlay"}
    assert all(link and link.startswith(("./", "#")) and ":" not in link and "?" not in link for link in links)


def test_absolute_mask_paths_become_relative_links(tmp_path: Path) -> None:
    record = done("a.jpg", 0.9, mask=str(tmp_path / "masks" / "a b.jpg.mask.png"))
    assert "./masks/a%20b.jpg.overlay.png" in [attributes["href"] for attributes in page_of(tmp_path, record).named("a")]


def test_page_requests_nothing_and_its_policy_allows_only_its_own_script(tmp_path: Path) -> None:
    page = page_of(tmp_path, done("a.jpg", 0.9), failed("b.jpg"))
    assert not re.search(r"https?://|//[a-z0-9.-]+/|@import|url\(", page.source)
    assert all((attributes.get("src") or "").startswith("data:image/jpeg;base64,") for attributes in page.named("img"))
    assert not page.named("link") and not page.named("iframe")
    (script,) = page.inline["script"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policies = [meta["content"] for meta in page.named("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    ]


def test_every_control_has_a_name(tmp_path: Path) -> None:
    page = page_of(tmp_path, done("a.jpg", 0.9))
    assert all(attributes.get("alt") for attributes in page.named("img"))
    fade = [attributes for attributes in page.named("input") if attributes.get("type") == "range" and "id" not in attributes]
    assert [attributes.get("aria-label") for attributes in fade] == ["Strength of the marks on a.jpg"]


def test_empty_report_says_so_and_what_to_do(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    assert not page.cards
    assert "There was nothing to audit" in page.source and "tamperwatch audit samples/pictures" in page.source
    assert not [attributes for attributes in page.named("input")]


def test_all_failed_report_opens_the_causes(tmp_path: Path) -> None:
    page = page_of(tmp_path, failed("a.jpg", "empty"), failed("b.jpg", "empty"), failed("c.jpg", "too_large"))
    assert "None of the 3 pictures could be audited." in page.source
    assert "open" in page.named("details")[0]
    assert page.source.index('<code>empty</code></td><td class="number">2') < page.source.index("<code>too_large</code></td>")
    assert not page.named("img")


def test_record_without_thumbnail_or_measures_still_has_a_card(tmp_path: Path) -> None:
    bare = AuditRecord(image="a.jpg", status="done", score=0.2, verdict=Verdict.PASS)
    page = Page(write_report([bare], tmp_path / "report.html", "Audit", SUMMARY))
    assert "No thumbnail" in page.cards[0] and "0.20" in page.cards[0]


@pytest.mark.parametrize(
    ("score", "text", "words"),
    [
        (1.0, ">\N{NO-BREAK SPACE}0.99", "very likely manipulated"),
        (0.9949, "0.99", "very likely manipulated"),
        (0.9, "0.90", "very likely manipulated"),
        (0.899, "0.90", "likely manipulated"),
        (0.5, "0.50", "could be either"),
        (0.1, "0.10", "unlikely to be manipulated"),
        (0.0, "<\N{NO-BREAK SPACE}0.01", "very unlikely to be manipulated"),
    ],
)
def test_scores_in_words_never_round_to_certainty(score: float, text: str, words: str) -> None:
    assert (wording.score_text(score), wording.likelihood(score)) == (text, words)


def test_extreme_pictures_get_a_frame_that_can_be_seen(tmp_path: Path) -> None:
    thin = report_cards.card_of(done("a.jpg", 0.9, width=1, height=5000), 1, tmp_path)
    assert thin.ratio == 0.2


def test_thumbnails_are_small_and_of_one_size() -> None:
    made = make_thumbnails(Image.new("RGB", (2000, 1000)), Image.new("RGB", (2000, 1000)))
    sizes = [Image.open(io.BytesIO(jpeg)).size for jpeg in (made.picture_jpeg, made.overlay_jpeg)]
    assert sizes == [(320, 160), (320, 160)]


def test_failing_half_way_keeps_the_older_report(tmp_path: Path) -> None:
    def breaks(record: AuditRecord) -> Thumbnails:
        raise OSError(f"{record.image} is gone")

    out = tmp_path / "report.html"
    write_report([done("old.jpg", 0.9)], out, "Old", SUMMARY, thumbnails)
    before = out.read_bytes()
    with pytest.raises(OSError, match="is gone"):
        write_report([done("new.jpg", 0.9)], out, "New", SUMMARY, breaks)
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.slow
def test_two_thousand_pictures_are_written_in_bounded_memory(tmp_path: Path) -> None:
    records = [done(f"{number:04}.jpg", number / 2000) for number in range(2000)]
    payload = 12_000

    def heavy(_: AuditRecord) -> Thumbnails:
        return Thumbnails(bytes(payload), bytes(payload))

    write_report(records[:1], tmp_path / "warm.html", "Warm", SUMMARY, heavy)
    peaks_bytes = []
    for _ in range(2):  # what other tests left behind may cost memory once; what the report costs, it costs each time
        tracemalloc.start()
        try:
            out = write_report(records, tmp_path / "report.html", "Many", SUMMARY, heavy)
            peaks_bytes.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert out.stat().st_size > 2000 * 2 * payload
    assert min(peaks_bytes) < 5_000_000


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_colours_meet_wcag_aa(theme: str) -> None:
    blocks = re.findall(r":root \{(.*?)\}", (TEMPLATES / "report.css").read_text(), flags=re.DOTALL)
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", blocks[0 if theme == "light" else 1]))
    pairs = [(ink, ground) for ink in ("ink", "muted", "focus") for ground in ("paper", "card")]
    pairs += [("muted", "well"), ("ink", "well"), ("ink", "failed-wash"), ("muted", "failed-wash")]
    pairs += [(tone, ground) for tone in ("flag", "review", "pass", "failed") for ground in (f"{tone}-wash", "card")]
    for ink, ground in pairs:
        assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two #rrggbb colours (WCAG 2.2)."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
