"""The review page over HTTP: who may do what, what a picture's words are, and what happens when two want the same."""

import hashlib
import html
import io
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import update
from sqlmodel import SQLModel, select

from model.card import Card, builtin_directory
from schemas.learning_tables import BoxAnnotation, Review
from schemas.states import Role, Verdict
from schemas.tables import AuditJob, AuditResult, ModelVersion, now
from storage.blobs import picture_key
from tests.web.made import Api
from tests.web.visitors import Browser, add_person, new_browser

BOX = {"x0": 20, "y0": 10, "x1": 60, "y1": 50}


class Desk:
    """A moderator's page: the browser, its CSRF token, and what the server gave it."""

    def __init__(self, api: Api, name: str, role: Role = Role.MODERATOR) -> None:
        add_person(api.database, name, role)
        self.browser: Browser = new_browser(api)
        self.browser.log_in(name)
        found = re.search(r'name="csrf-token" content="([0-9a-f]{64})"', self.browser.get("/results").text)
        assert found is not None
        self.token = found[1]

    def post(self, path: str, body: Any = None, form: Any = None) -> Any:
        headers = {"X-CSRF-Token": self.token, "Accept": "application/json"}
        return self.browser.client.post(path, json=body, data=form, headers=headers)

    def claim(self, **form: Any) -> dict[str, Any] | None:
        answer = self.post("/review/claims", form=form)
        assert answer.status_code == 200, answer.text
        return item_of(answer.text)

    def decide(self, item: dict[str, Any], decision: str, boxes: tuple[dict[str, int], ...] = (), **more: Any) -> Any:
        said = {"decision": decision, "boxes": boxes, "token": item["token"], "seen": item["seen"]} | more
        return self.post(f"/review/results/{item['id']}/decision", said)


def item_of(text: str) -> dict[str, Any] | None:
    found = re.search(r'data-item="([^"]*)"', text)
    return json.loads(html.unescape(found[1])) if found else None


def words(text: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", "", text)))


@pytest.fixture
def anna(api: Api) -> Iterator[Desk]:
    desk = Desk(api, "anna")
    yield desk
    desk.browser.client.close()


@pytest.fixture
def ben(api: Api) -> Iterator[Desk]:
    desk = Desk(api, "ben")
    yield desk
    desk.browser.client.close()


def test_nobody_sees_anything_without_a_session(api: Api) -> None:
    number = api.audited().id
    stranger = new_browser(api)
    for path in ("/", "/review", "/results", f"/review/results/{number}"):
        assert stranger.get(path).headers["location"].startswith("/login")
    for path in (f"/review/results/{number}/picture", f"/review/results/{number}/map.png"):
        assert stranger.client.get(path).status_code == 401


def test_viewers_look_and_change_nothing(api: Api) -> None:
    number = api.audited().id
    vera = Desk(api, "vera", Role.VIEWER)
    assert vera.browser.get("/").headers["location"] == "/results"
    shown = vera.browser.get(f"/review/results/{number}")
    assert shown.status_code == 200 and 'data-may-decide="false"' in shown.text and "data-decide=" not in shown.text
    for path in ("/review/claims", f"/review/results/{number}/claim"):
        assert vera.post(path, form={}).status_code == 403
    assert vera.post(f"/review/results/{number}/decision", {"decision": "authentic"}).status_code == 403


@pytest.mark.parametrize(
    "path", ["claims", "claims/renew", "claims/release", "results/1/claim", "results/1/decision", "results/1/undo"]
)
def test_changes_need_the_token_of_our_page(anna: Desk, path: str) -> None:
    answer = anna.browser.client.post(f"/review/{path}", json={}, headers={"Accept": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_pages_run_nothing_inline(api: Api, anna: Desk) -> None:
    number = api.audited().id
    for path in ("/review", "/results", f"/review/results/{number}", "/review?least=10&queue=high"):
        answer = anna.browser.get(path)
        assert answer.status_code == 200
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert not re.search(r"<script(?![^>]* src=)|\sstyle=|\son[a-z]+=", answer.text)
        assert re.findall(r'(?:src|href)="(?!/|#|")([^"]*)"', answer.text) == []


def test_a_name_from_outside_is_text_wherever_it_is_shown(api: Api, anna: Desk) -> None:
    number = api.audited().id
    evil = "<img src=x onerror=alert(1)>'\"&\u202egnp.exe"
    with api.database.write() as session:
        result = session.get(AuditResult, number)
        assert result is not None
        job = session.get(AuditJob, result.job_id)
        assert job is not None
        job.source = evil
    item = anna.claim()
    assert item is not None and item["name"] == evil
    anna.decide(item, "unsure", note=evil)
    for path in ("/results", f"/review/results/{number}"):
        text = anna.browser.get(path).text
        assert "<img src=x" not in text and "&lt;img src=x" in text
        assert "\u202e" not in re.sub(r'data-item="[^"]*"', "", text)


def test_a_picture_is_decided_and_its_boxes_are_kept(api: Api, anna: Desk) -> None:
    result = api.audited()
    item = anna.claim()
    assert item is not None
    assert (item["id"], item["width"], item["height"], item["regions"][0]["x1"]) == (result.id, 96, 72, 30)
    assert anna.decide(item, "manipulated", (BOX,), note="pasted").status_code == 200
    assert anna.claim() is None
    with api.database.read() as session:
        (row,) = session.exec(select(BoxAnnotation)).all()
        (review,) = session.exec(select(Review)).all()
    assert (row.annotator, row.boxes, row.note, row.origin) == ("anna", [BOX], "pasted", "page")
    assert (review.reviewer, review.decision) == ("anna", "manipulated")


def test_boxes_outside_the_picture_are_refused_and_nothing_is_stored(api: Api, anna: Desk) -> None:
    api.audited()
    item = anna.claim()
    assert item is not None
    answer = anna.decide(item, "manipulated", (BOX | {"x1": 97},))
    assert answer.status_code == 422 and "97" in answer.json()["detail"]
    assert anna.decide(item, "manipulated", (BOX | {"x0": 60},)).status_code == 422
    with api.database.read() as session:
        assert session.exec(select(Review)).all() == []
    assert anna.decide(item, "manipulated", (BOX,)).status_code == 200


def test_two_moderators_have_two_pictures(api: Api, anna: Desk, ben: Desk) -> None:
    api.audited(1)
    api.audited(2)
    first, second = anna.claim(), ben.claim()
    assert first is not None and second is not None and first["id"] != second["id"]
    assert anna.claim() is None
    refused = ben.post(f"/review/results/{first['id']}/claim")
    assert refused.status_code == 409 and "anna looks at this picture" in refused.json()["detail"]
    assert "anna looks at this picture" in words(ben.browser.get(f"/review/results/{first['id']}").text)


def test_who_took_over_and_decided_is_told(api: Api, anna: Desk, ben: Desk) -> None:
    api.audited()
    mine = anna.claim()
    claims = SQLModel.metadata.tables["review_claim"]
    with api.database.write() as session:
        session.connection().execute(update(claims).values(expires_at=now() - timedelta(hours=1)))
    taken = ben.claim()
    assert mine is not None and taken is not None
    late = anna.decide(mine, "authentic")
    assert late.status_code == 409 and "ben looks at it now" in late.json()["detail"]
    assert ben.decide(taken, "manipulated", (BOX,)).status_code == 200
    late = anna.decide(mine, "authentic")
    assert late.status_code == 409 and "ben decided “manipulated” meanwhile" in late.json()["detail"]
    again = item_of(anna.post(f"/review/results/{mine['id']}/claim").text)
    assert again is not None and again["others"] == [{"by": "ben", "boxes": [BOX]}]
    assert anna.decide(again, "authentic").status_code == 200
    assert "They disagree" in anna.browser.get(f"/review/results/{mine['id']}").text


def test_claims_are_renewed_and_released(api: Api, anna: Desk, ben: Desk) -> None:
    api.audited()
    item = anna.claim()
    assert item is not None
    assert anna.post("/review/claims/renew", {"tokens": [item["token"], "nonsense"]}).json() == {"standing": [item["token"]]}
    assert ben.claim() is None
    assert anna.post("/review/claims/release", {"tokens": [item["token"]]}).status_code == 204
    assert ben.claim() is not None


def test_undo_brings_the_picture_back(api: Api, anna: Desk) -> None:
    api.audited()
    item = anna.claim()
    assert item is not None
    stored = anna.decide(item, "manipulated", (BOX,)).json()
    back = item_of(anna.post(f"/review/results/{item['id']}/undo", stored).text)
    assert back is not None and back["token"] and back["mine"] == []
    assert anna.post(f"/review/results/{item['id']}/undo", stored).status_code == 409
    assert anna.decide(back, "authentic").status_code == 200


def test_skipped_pictures_and_filters_leave_pictures_out(api: Api, anna: Desk) -> None:
    first = api.audited(1)
    api.audited(2, Verdict.REVIEW)
    api.audited(3, Verdict.PASS)
    item = anna.claim(without=[str(first.id)], queue="", least="", profile="")
    assert item is not None and item["id"] != first.id
    assert anna.claim(most="50") is None
    empty = anna.post("/review/claims", form={"most": "50"})
    assert "Drop the filters" in empty.text
    assert anna.post("/review/claims", form={"least": "high"}).status_code == 422


def test_the_score_is_said_in_words_with_what_it_meant_in_validation(api: Api, anna: Desk) -> None:
    number = api.audited().id
    page = words(anna.browser.get(f"/review/results/{number}").text)
    assert "very likely manipulated" in page and "has no validation figures" in page
    with api.database.write() as session:
        card = Card.load(builtin_directory())
        session.add(ModelVersion(version="student-1", location="package", card=card.model_dump(mode="json"), reason="made"))
    assert re.search(r"in 100 pictures like this, about \d+", words(anna.browser.get(f"/review/results/{number}").text))


def test_what_an_earlier_model_said_is_shown(api: Api, anna: Desk) -> None:
    before = api.audited(1)
    with api.database.write() as session:
        job = session.get(AuditJob, before.job_id)
        assert job is not None
        later = AuditJob(source="again.jpg", sha256=job.sha256, client_ref="again")
        session.add(later)
        session.flush()
        later_id = later.id
    after = api.result_of(later_id)
    with api.database.write() as session:
        row = session.get(AuditResult, after)
        assert row is not None
        row.model_version, row.score, row.verdict = "student-2", 0.7, Verdict.REVIEW
    page = words(anna.browser.get(f"/review/results/{after}").text)
    assert "student-1 gave 90.0 % (flag); student-2 gives 70.0 % (review), -20.0 points. Their marks overlap by 100 %" in page
    assert f"#{before.id}" in page


def test_pictures_are_upright_and_maps_small(api: Api, anna: Desk) -> None:
    result = api.audited()
    picture = anna.browser.client.get(f"/review/results/{result.id}/picture")
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")
    again = anna.browser.client.get(f"/review/results/{result.id}/picture", headers={"If-None-Match": picture.headers["etag"]})
    assert again.status_code == 304
    small = anna.browser.client.get(f"/review/results/{result.id}/map.png")
    assert Image.open(io.BytesIO(small.content)).size == (24, 24)


def test_what_a_browser_may_not_show_upright_is_sent_as_a_copy(api: Api, anna: Desk) -> None:
    result = api.audited(7)
    with api.database.write() as session:
        row = session.get(AuditResult, result.id)
        assert row is not None
        job = session.get(AuditJob, row.job_id)
        assert job is not None
        buffer, exif = io.BytesIO(), Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (72, 96), (10, 200, 30)).save(buffer, "PNG", exif=exif)
        job.sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
        api.context.blobs.put(picture_key(job.sha256), buffer.getvalue())
    answer = anna.browser.client.get(f"/review/results/{result.id}/picture")
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (96, 72)


def test_results_are_listed_page_by_page_with_what_was_decided(api: Api, anna: Desk) -> None:
    numbers = [api.audited(seed).id for seed in range(3)]
    item = anna.claim()
    assert item is not None
    anna.decide(item, "authentic")
    listed = anna.browser.get("/results").text
    assert re.findall(r">#(\d+)</a>", listed) == [str(number) for number in reversed(numbers)]
    assert listed.count('<span class="badge authentic">') == 1
    assert re.findall(r">#(\d+)</a>", anna.browser.get(f"/results?before={numbers[1]}").text) == [str(numbers[0])]
    assert "No result fits" in anna.browser.get("/results?verdict=pass").text


def test_a_result_that_is_not_there_is_told_by_a_page(anna: Desk) -> None:
    answer = anna.browser.get("/review/results/77")
    assert answer.status_code == 404 and "may have been purged" in answer.text
    assert anna.post("/review/results/77/claim").json()["code"] == "not_found"
