"""The table in the terminal: readable at 80 and 140 columns, and deaf to what hostile names want to say."""

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from cli.table import by_urgency, results_table
from schemas.geometry import PixelBox
from schemas.records import AuditRecord, ErrorRecord, ProfileRecord, Region
from schemas.states import Verdict

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
REGION = Region(box=PixelBox.of(10, 20, 300, 400), score=0.9)


def done(image: str, verdict: Verdict = Verdict.PASS, score: float = 0.25, **fields: object) -> AuditRecord:
    return AuditRecord(image=image, status="done", score=score, verdict=verdict, area=0.125, width=800, height=600, **fields)


def failed(image: str, message: str = "the file is empty (0 bytes)", code: str = "empty") -> AuditRecord:
    return AuditRecord(image=image, status="failed", error=ErrorRecord(code=code, message=message))


def printed(records: list[AuditRecord], width: int = 140, colour: bool = False) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=colour, color_system="standard" if colour else None)
    console.print(results_table(records))
    return file.getvalue()


def test_the_most_urgent_come_first() -> None:
    records = [
        done("p", Verdict.PASS, 0.4),
        failed("x"),
        done("r1", Verdict.REVIEW, 0.6),
        done("r2", Verdict.REVIEW, 0.7),
        done("f", Verdict.FLAG, 0.65),
    ]

    assert [record.image for record in by_urgency(records)] == ["f", "r2", "r1", "x", "p"]
    assert [record.image for record in by_urgency([done("b"), done("a")])] == ["a", "b"]


def test_a_row_says_what_was_found() -> None:
    profile = ProfileRecord(score=0.5, verdict=Verdict.REVIEW, mask_agreement=0.875)
    text = printed([done("holiday.jpg", Verdict.FLAG, 0.914, regions=[REGION] * 5, profiles={"wechat": profile})])

    header, row = text.splitlines()
    assert header.split()[:4] == ["verdict", "score", "area", "picture"]
    assert "as delivered by (same mask)" in header and "where (x0,y0 – x1,y1)" in header
    assert "flag" in row and "0.91" in row and "12.5%" in row and "holiday.jpg" in row
    assert "10,20 – 300,400; 10,20 – 300,400 and 3 more" in row
    assert "wechat  0.50 review (88%)" in row


def test_where_pictures_were_taken_from_stands_there_if_anybody_knows() -> None:
    header, first, second = printed([done("a.jpg", source_profile="wechat"), failed("b.jpg")], width=80).splitlines()

    assert "taken from" in header and "wechat" in first and "wechat" not in second
    assert "taken from" not in printed([done("a.jpg")])


def test_pictures_without_a_profile_leave_its_column_empty() -> None:
    profile = ProfileRecord(score=0.5, verdict=Verdict.REVIEW, mask_agreement=1)

    rows = printed([done("a.jpg", profiles={"wechat": profile}), done("b.jpg"), failed("c.jpg")]).splitlines()[1:]

    assert "review" in rows[0]
    assert all("review" not in row for row in rows[1:])


def test_four_deliveries_are_four_lines_at_eighty_columns() -> None:
    names = ("facebook", "weibo", "wechat", "whatsapp")
    profiles = {name: ProfileRecord(score=0.5, verdict=Verdict.REVIEW, mask_agreement=0.91) for name in names}
    text = printed([done("holiday.jpg", regions=[REGION] * 9, profiles=profiles), failed("half.jpg")], 80)

    lines = text.splitlines()
    assert len(lines) <= 7  # the header may take two
    assert all(f"{name:<8}  0.50 review (91%)" in line for name, line in zip(names, lines[-5:-1], strict=True))
    assert "empty: the" in lines[-1]


def test_a_failure_among_others_is_one_line_and_alone_is_told_whole() -> None:
    broken = failed("half.jpg", "the picture is truncated or corrupt, and that takes many words to say " * 2)

    assert len(printed([done("a.jpg"), broken], 80).splitlines()) == 3
    assert "takes many words to say" in " ".join(printed([broken], 80).split()[5:])
    assert len(printed([broken], 80).splitlines()) > 3


@pytest.mark.parametrize("width", [80, 140])
def test_it_fits(width: int) -> None:
    records = [
        done("a/rather/deep/folder/with/a/picture-that-has-a-long-name-0001.jpg", Verdict.FLAG, 0.95, regions=[REGION] * 9),
        failed("x" * 250, "cannot write " + "x" * 250),
        failed("日本" * 60 + ".jpg"),
    ]

    lines = printed(records, width).splitlines()

    assert max(map(cell_len, lines)) <= width
    assert len(lines) <= 32


def test_a_done_picture_takes_one_line_at_eighty_columns() -> None:
    assert len(printed([done("holiday-0001.jpg", Verdict.FLAG, 0.95, regions=[REGION] * 9)], 80).splitlines()) == 2


def test_both_ends_of_a_long_name_are_shown() -> None:
    text = "".join(printed([done("start-" + "x" * 250 + "-end.jpg")]).split())

    assert "start-xxx" in text and "xxx-end.jpg" in text and "…" in text


HOSTILE = [
    "\x1b[31;1mred\x1b[0m.jpg",
    "\x1b]0;new window title\x07.jpg",
    "\x1b[2J\x1b[H.jpg",
    "\x9b31m.jpg",
    "bell\x07.jpg",
    "back\x08\x08\x08.jpg",
    "over\rwritten.jpg",
    "new\nline.jpg",
    "tab\there.jpg",
    "\u202egpj.exe",
    "\u2066isolate",
    "nul\x00l",
]


@pytest.mark.parametrize("colour", [True, False], ids=["colour", "plain"])
@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
def test_no_control_character_reaches_the_terminal(hostile: str, colour: bool) -> None:
    text = printed([done(hostile), failed(hostile, f"cannot read {hostile}", "unreadable")], colour=colour)

    rows = COLOURS.sub("", text).splitlines()
    assert len(rows) == 3
    assert all(character.isprintable() for row in rows for character in row), text
    shown_colours = set(COLOURS.findall(text))
    assert shown_colours <= ({"\x1b[0m", "\x1b[1m", "\x1b[32m", "\x1b[35m"} if colour else set())


@pytest.mark.parametrize(
    "name", ["[red]x[/red].jpg", "[/]", "[bold", "[link=https://example.org]x[/link]", ":smile:.jpg", "a\\[b]", "trailing\\"]
)
def test_markup_in_names_is_shown_not_obeyed(name: str) -> None:
    text = printed([done(name), failed(name, f"cannot read {name}")], colour=True)

    rows = COLOURS.sub("", text).splitlines()
    assert name in rows[1]
    assert f"cannot read {name}" in rows[2]
    assert "]8;" not in text


def test_a_done_record_without_a_verdict_is_our_defect() -> None:
    with pytest.raises(ValueError, match="carries a verdict"):
        results_table([AuditRecord(image="a", status="done")])
