"""Results out: pages that never skip, pictures with tags, reviews; as JSON that no browser runs."""

import io
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import event
from sqlmodel import select

from schemas.learning_tables import Review
from schemas.settings import Settings
from schemas.states import JobState, Scope, Verdict
from schemas.tables import AuditJob, AuditResult, now
from storage.blobs import picture_key
from storage.database import Database
from tests.pictures import picture_bytes
from tests.web.made import Api, context_for, running
from web.pictures import media_type_of

URL = "/v1/results"


def get(api: Api, path: str, **headers: str):  # type: ignore[no-untyped-def]
    return api.client.get(path, headers=api.headers(Scope.READ, **headers))


def test_pages_go_on_where_the_last_one_ended(api: Api) -> None:
    ids = [api.audited(seed, Verdict.FLAG if seed % 2 else Verdict.PASS).id for seed in range(1, 6)]
    first = get(api, f"{URL}?limit=2").json()
    assert [each["id"] for each in first["results"]] == ids[:2]
    assert (first["next_cursor"], first["more"]) == (ids[1], True)
    rest = get(api, f"{URL}?cursor={first['next_cursor']}").json()
    assert [each["id"] for each in rest["results"]] == ids[2:]
    assert rest["more"] is False
    end = get(api, f"{URL}?cursor={rest['next_cursor']}").json()
    assert end == {"results": [], "next_cursor": ids[-1], "more": False}
    flagged = get(api, f"{URL}?verdict=flag").json()
    assert [each["id"] for each in flagged["results"]] == ids[::2]
    assert get(api, f"{URL}/newest").json()["next_cursor"] == ids[-1]


def test_a_page_is_read_from_sql_alone(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.audited()
    monkeypatch.setattr(api.context, "blobs", None)
    monkeypatch.setattr(api.context, "app", None)
    assert len(get(api, URL).json()["results"]) == 1


def test_a_page_takes_as_many_statements_whatever_is_on_it(api: Api) -> None:
    counted = []
    event.listen(api.database.engine, "before_cursor_execute", lambda *each: counted.append(each[2]))
    sizes = []
    get(api, URL)  # the first use of a key is noted
    for seed in (1, 2, 3):
        api.audited(seed)
        counted.clear()
        get(api, URL)
        sizes.append(len(counted))
    assert len(set(sizes)) == 1


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "cursor=-1", "cursor=x", "verdict=maybe", f"cursor={2**63}", "limit=1&source_profile=A"]
)
def test_a_wrong_query_is_told(api: Api, query: str) -> None:
    answer = get(api, f"{URL}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["errors"][0]["field"].startswith("query.")


def test_one_result_with_where_its_pictures_are(api: Api) -> None:
    result = api.audited()
    shown = get(api, f"{URL}/{result.id}").json()
    assert (shown["id"], shown["score"], shown["verdict"], shown["width"]) == (result.id, 0.9, "flag", 96)
    assert shown["regions"] == [{"box": {"x0": 1, "y0": 2, "x1": 30, "y1": 40}, "score": 0.9}]
    for name in ("mask", "overlay", "picture"):
        assert get(api, shown[name]).status_code == 200


@pytest.mark.parametrize("path", ["0", "99", "x", str(2**63), "-1", "99/mask.png", "99/overlay.png", "99/picture"])
def test_a_result_that_is_not_there(api: Api, path: str) -> None:
    assert get(api, f"{URL}/{path}").status_code in (404, 422)


def test_a_simulated_delivery_is_no_result_of_its_own(api: Api) -> None:
    own = api.audited()
    with api.database.write() as session:
        other = AuditResult(**own.model_dump(exclude={"id", "profile"}), profile="wechat")
        session.add(other)
        session.flush()
        number = other.id
    assert get(api, f"{URL}/{number}").status_code == 404
    assert set(get(api, f"{URL}/{own.id}").json()["profiles"]) == {"wechat"}


def test_the_mask_and_the_overlay_have_the_pictures_size(api: Api) -> None:
    result = api.audited(width_px=120, height_px=80)
    for name, mode in (("mask.png", "L"), ("overlay.png", "RGB")):
        answer = get(api, f"{URL}/{result.id}/{name}")
        assert answer.headers["content-type"] == "image/png"
        with Image.open(io.BytesIO(answer.content)) as image:
            assert (image.size, image.mode) == ((120, 80), mode)
    with Image.open(io.BytesIO(get(api, f"{URL}/{result.id}/mask.png").content)) as image:
        assert np.asarray(image).max() > 200


@pytest.mark.parametrize("name", ["mask.png", "overlay.png", "picture"])
def test_a_picture_that_is_known_is_not_sent_again(api: Api, name: str) -> None:
    url = f"{URL}/{api.audited().id}/{name}"
    tag = get(api, url).headers["etag"]
    assert tag.startswith('"') and not tag.startswith("W/")
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = get(api, url, **{"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    again = get(api, url, **{"If-None-Match": '"other"'})
    assert (again.status_code, again.headers["etag"]) == (200, tag)


def test_tags_tell_pictures_apart(api: Api) -> None:
    one, other = api.audited(1), api.audited(2, width_px=100)
    tags = {get(api, f"{URL}/{each.id}/{name}").headers["etag"] for each in (one, other) for name in ("mask.png", "overlay.png")}
    assert len(tags) == 4


def test_what_was_purged_is_gone(api: Api) -> None:
    result = api.audited()
    sha256 = get(api, f"{URL}/{result.id}").json()["sha256"]
    api.context.blobs.delete(picture_key(sha256))
    for name in ("overlay.png", "picture"):
        answer = get(api, f"{URL}/{result.id}/{name}")
        assert (answer.status_code, answer.json()["code"]) == (404, "blob_missing")
    with api.database.write() as session:
        row = session.get(AuditResult, result.id)
        assert row is not None
        row.mask_png = b""
    answer = get(api, f"{URL}/{result.id}/mask.png")
    assert (answer.status_code, answer.json()["code"]) == (410, "output_failed")
    assert get(api, f"{URL}/{result.id}").json()["mask"] is None


def stored_as(api: Api, content: bytes) -> int:
    """A result whose picture's bytes are these, as a foreign producer may have stored them."""
    job = AuditJob(source="<script>.jpg", sha256="a" * 64, state=JobState.DONE, finished_at=now())
    made = api.audited()
    api.context.blobs.put(picture_key("a" * 64), content)
    with api.database.write() as session:
        session.add(job)
        session.flush()
        result = AuditResult(**made.model_dump(exclude={"id", "job_id"}), job_id=job.id)
        session.add(result)
        session.flush()
        return result.id or 0


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"\xff\xd8\xff\xe0<html><script>alert(1)</script>", "image/jpeg"),
        (b"GIF89a=1;alert(1)//<svg onload=alert(1)>", "image/gif"),
        (b"BM<!doctype html><script>alert(1)</script>", "image/bmp"),
    ],
)
def test_what_is_a_picture_and_a_page_at_once_is_only_ever_a_picture(api: Api, content: bytes, media_type: str) -> None:
    number = stored_as(api, content)
    headers = get(api, f"{URL}/{number}/picture").headers
    assert (headers["content-type"], headers["x-content-type-options"]) == (media_type, "nosniff")
    assert headers["content-disposition"] == f'inline; filename="result-{number}.{media_type[6:]}"'
    policy = headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "sandbox"} <= set(policy) and len(headers.get_list("content-security-policy")) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"<script>alert(1)</script>",
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        b"\xef\xbb\xbf<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7 ",
        b"MZ",
        b"",
    ],
)
def test_what_is_no_picture_is_only_ever_saved(api: Api, content: bytes) -> None:
    number = stored_as(api, content)
    answer = get(api, f"{URL}/{number}/picture")
    assert answer.content == content
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == f'attachment; filename="result-{number}.bin"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    shown = get(api, f"{URL}/{number}")
    assert shown.headers["content-type"] == "application/json" and shown.json()["image"] == "<script>.jpg"
    assert get(api, f"{URL}/{number}/overlay.png").status_code == (415 if content else 422)


@pytest.mark.parametrize(
    ("container", "media_type"),
    [
        ("JPEG", "image/jpeg"),
        ("PNG", "image/png"),
        ("WEBP", "image/webp"),
        ("GIF", "image/gif"),
        ("BMP", "image/bmp"),
        ("TIFF", "image/tiff"),
    ],
)
def test_the_type_is_what_the_bytes_are(container: str, media_type: str) -> None:
    assert media_type_of(picture_bytes(1, container=container)[:32]) == media_type


def test_a_review_replaces_the_reviewers_earlier_one(api: Api) -> None:
    url = f"{URL}/{api.audited().id}/review"

    def review(**given: str):  # type: ignore[no-untyped-def]
        return api.client.post(url, json=given, headers=api.headers(Scope.REVIEW))

    first = review(decision="manipulated", note="cloned", by="anna").json()
    assert (first["by"], first["decision"], first["replaces"]) == ("review-key/anna", "manipulated", None)
    assert review(decision="manipulated", note="cloned", by="anna").json() == first
    second = review(decision="unsure", by="anna").json()
    assert second["replaces"] == first["id"]
    assert review(decision="authentic").json()["by"] == "review-key"
    with api.database.read() as session:
        assert len(session.exec(select(Review)).all()) == 3


def test_who_decided_meanwhile_is_told(api: Api) -> None:
    url = f"{URL}/{api.audited().id}/review"

    def review(by: str, seen: int | None = None, decision: str = "manipulated"):  # type: ignore[no-untyped-def]
        given = {"decision": decision, "by": by} | ({} if seen is None else {"seen": seen})
        return api.client.post(url, json=given, headers=api.headers(Scope.REVIEW))

    first = review("anna", seen=0).json()
    late = review("boris", seen=0, decision="authentic")
    assert (late.status_code, late.json()["code"]) == (409, "conflict")
    assert "review-key/anna decided meanwhile: manipulated" in late.json()["detail"]
    assert review("anna", seen=0).json() == first  # the same again is no conflict, it may be a repeated request
    assert review("boris", seen=first["id"], decision="authentic").status_code == 200
    assert review("anna", seen=first["id"], decision="unsure").status_code == 409
    shown = get(api, f"{url}s").json()
    assert [(each["by"], each["decision"]) for each in shown] == [
        ("review-key/anna", "manipulated"),
        ("review-key/boris", "authentic"),
    ]
    assert get(api, f"{URL}/99/reviews").status_code == 404


@pytest.mark.slow
def test_of_many_who_decide_at_once_one_is_first(database: Database, settings: Settings) -> None:
    with running(database, context_for(settings, database)) as api, ThreadPoolExecutor(8) as pool:
        url = f"{URL}/{api.audited().id}/review"

        def decide(number: int):  # type: ignore[no-untyped-def]
            given = {"decision": "manipulated", "by": f"person {number}", "seen": 0}
            return api.client.post(url, json=given, headers=api.headers(Scope.REVIEW))

        answers = list(pool.map(decide, range(8)))
    assert sorted(each.status_code for each in answers) == [200, *[409] * 7]
    first = next(each.json()["by"] for each in answers if each.status_code == 200)
    assert all(first in each.json()["detail"] for each in answers if each.status_code == 409)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"decision": "maybe"},
        {"decision": "unsure", "note": "x" * 4097},
        {"decision": "unsure", "by": "a/b"},
        {"decision": "unsure", "by": " "},
        {"decision": "unsure", "x": 1},
        {"decision": "unsure", "note": "\0"},
    ],
)
def test_a_wrong_review_is_told(api: Api, given: dict[str, object]) -> None:
    answer = api.client.post(f"{URL}/{api.audited().id}/review", json=given, headers=api.headers(Scope.REVIEW))
    assert (answer.status_code, answer.json()["code"] in ("invalid_request", "invalid_input")) == (422, True)


def test_a_review_of_nothing(api: Api) -> None:
    answer = api.client.post(f"{URL}/99/review", json={"decision": "unsure"}, headers=api.headers(Scope.REVIEW))
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_names_of_files_that_are_no_text(api: Api) -> None:
    with api.database.write() as session:
        session.add(AuditJob(id=uuid.uuid4(), source="\u2028\u202e<b>", sha256=None, state=JobState.FAILED))
    assert get(api, URL).status_code == 200
