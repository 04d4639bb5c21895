"""Pictures in: sent, or named; once under each Idempotency-Key; hostile ones refused alone."""

import hashlib
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from sqlmodel import col, select, update

from schemas.api_tables import AuditRequest
from schemas.errors import BlobStoreUnavailable
from schemas.settings import FetchSettings, Settings, WebSettings
from schemas.states import AuditQueue, JobState, Scope
from schemas.tables import AuditJob, Picture, now
from storage import audit_requests
from storage.blobs import picture_key
from storage.database import Database
from tests import hostile
from tests.pictures import picture_bytes
from tests.web.made import Api, context_for, running
from workers.app import make_app

URL = "/v1/audits"


def send(api: Api, *files: tuple[str, bytes], data: dict[str, Any] | None = None, **headers: str) -> httpx2.Response:
    parts = [("file", (name, content)) for name, content in files]
    return api.client.post(URL, files=parts, data=data or {}, headers=api.headers(Scope.SUBMIT, **headers))


def name(api: Api, *pictures: dict[str, Any], headers: dict[str, str] | None = None, **wishes: Any) -> httpx2.Response:
    body = {"pictures": list(pictures), **wishes}
    return api.client.post(URL, json=body, headers=api.headers(Scope.SUBMIT, **(headers or {})))


def all_jobs(database: Database) -> list[AuditJob]:
    with database.read() as session:
        return list(session.exec(select(AuditJob).order_by(col(AuditJob.created_at))))


def stored(api: Api, seed: int = 1) -> str:
    data = picture_bytes(seed)
    sha256 = hashlib.sha256(data).hexdigest()
    api.context.blobs.put(picture_key(sha256), data)
    return sha256


def test_a_picture_that_is_sent_is_stored_and_queued(api: Api) -> None:
    data = picture_bytes(1)
    answer = send(api, ("a.jpg", data), data={"queue": "high", "profiles": "wechat,facebook", "source_profile": "wechat"})
    assert answer.status_code == 202, answer.text
    (picture,) = answer.json()["pictures"]
    sha256 = hashlib.sha256(data).hexdigest()
    assert (picture["name"], picture["sha256"], picture["state"]) == ("a.jpg", sha256, "queued")
    assert api.context.blobs.get(picture_key(sha256), 10**6) == data
    (job,) = all_jobs(api.database)
    assert (str(job.id), job.queue, job.profiles) == (picture["job_id"], AuditQueue.HIGH, ["wechat", "facebook"])
    assert (job.source_profile, job.submission) == ("wechat", answer.json()["id"])
    with api.database.read() as session:
        kept = session.get(Picture, sha256)
        request = audit_requests.get(session, answer.json()["id"])
    assert kept is not None and kept.bytes == len(data)
    assert request.who == answer.json()["by"] == "submit-key"
    shown = api.client.get(answer.headers["location"], headers=api.headers(Scope.READ))
    assert shown.json() == answer.json()


def test_one_that_is_refused_fails_alone(api: Api) -> None:
    answer = send(api, ("a.jpg", picture_bytes(1)), ("b.jpg", b"no picture"), ("c.jpg", picture_bytes(2)))
    assert answer.status_code == 202
    assert [each["state"] for each in answer.json()["pictures"]] == ["queued", "failed", "queued"]
    assert answer.json()["pictures"][1]["error"]["code"] == "unsupported_format"
    assert answer.json()["counts"] == {"queued": 2, "running": 0, "done": 0, "failed": 1}


STATUS = {"empty": 422, "unsupported_format": 415, "decode_failed": 422, "too_large": 413}
SEEN_BY_THE_HEADER = [
    each for each in hostile.BROKEN if each.code != "decode_failed" or each.name in ("three-bytes.jpg", "signature-only.png")
]


@pytest.mark.parametrize("broken", SEEN_BY_THE_HEADER, ids=lambda each: each.name)
def test_hostile_pictures_are_refused_by_their_header(api: Api, broken: hostile.Broken) -> None:
    answer = send(api, (broken.name, broken.make()))
    assert (answer.status_code, answer.json()["code"]) == (STATUS[broken.code], broken.code), answer.text
    assert all_jobs(api.database) == []


@pytest.mark.slow
@pytest.mark.parametrize("sound", hostile.PICTURES, ids=lambda each: each.name)
def test_odd_but_sound_pictures_are_taken_in(api: Api, sound: hostile.Sound) -> None:
    assert send(api, (sound.name, sound.make())).status_code == 202


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\fakepath\\cat.jpg", "cat.jpg"),
        ("/", "upload"),
        ("..", "upload"),
        ("a\u202egpj.exe", "agpj.exe"),
        ("<img src=x onerror=alert(1)>.jpg", "<img src=x onerror=alert(1)>.jpg"),
        ("x" * 1000 + ".jpg", "x" * 255),
        ("猫.jpg", "猫.jpg"),
    ],
)
def test_names_are_only_shown(api: Api, given: str, kept: str) -> None:
    answer = send(api, (given, picture_bytes(1)))
    assert answer.status_code == 202, answer.text
    assert answer.json()["pictures"][0]["name"] == kept
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("files", "data", "words"),
    [
        ([], {"queue": "high"}, "no picture was sent"),
        ([("file", ("a.jpg", b"x"))], {"queue": "urgent"}, "queue"),
        ([("file", ("a.jpg", b"x"))], {"profiles": "myspace"}, "unknown profile"),
        ([("file", ("a.jpg", b"x"))], {"source_profile": "We Chat"}, "source_profile"),
        ([("file", ("a.jpg", b"x"))], {"nonsense": "1"}, "nonsense"),
        ([("file", ("a.jpg", b"x"))], {"queue": ["high", "bulk"]}, "more than once"),
        ([("file", ("a.jpg", b"x"))], {"client_ref": ["1", "2"]}, "one for each picture"),
        ([("file", ("a.jpg", b"x")), ("file", ("b.jpg", b"y"))], {"client_ref": ["1", "1"]}, "one for each picture"),
        ([("file", ("a.jpg", b"x"))], {"client_ref": "a\0b"}, "cannot be shown"),
        ([("picture", ("a.jpg", b"x"))], {}, "come as `file`"),
        ([("file", ("a.jpg", b"x"))] * 17, {}, "Too many files"),
        ([("file", ("a.jpg", b"x"))], {"source_profile": "x" * 5000}, "Part exceeded"),
    ],
)
def test_a_wrong_form_says_what_is_wrong(api: Api, files: Any, data: dict[str, Any], words: str) -> None:
    parts = files or [("other", (None, "x"))]
    if not files:
        parts, data = [("queue", (None, "high"))], {}
    answer = api.client.post(URL, files=parts, data=data, headers=api.headers(Scope.SUBMIT))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("", b""),
        ("text/plain", b"hello"),
        ("image/jpeg", b"\xff\xd8\xff"),
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=x", b"--y\r\n"),
        ("multipart/form-data; boundary=" + "x" * 300, b"--y\r\n"),
        ("multipart/form-data; boundary=x; charset=nonsense", b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n"),
        ("application/json", b"{"),
        ("application/json", b"\xff\xfe"),
        ("application/json", b"[" * 10_000),
        ("application/json", b'{"pictures": []}'),
        ("application/json", b'{"pictures": [{}]}'),
        ("application/json", b'{"pictures": [{"sha256": "xyz"}]}'),
        ("application/json", b'{"pictures": [{"sha256": "' + b"0" * 64 + b'", "path": "/etc/passwd"}]}'),
        ("application/json", b'{"pictures": [{"url": "https://x", "s3": "s3://b/k"}]}'),
        ("application/json", b'{"pictures": [{"url": "https://x", "name": "../x"}]}'),
        ("application/json", b'{"pictures": [{"url": "https://x", "name": "\\ud800"}]}'),
    ],
)
def test_wrong_bodies_are_refused_in_plain_words(api: Api, content_type: str, body: bytes) -> None:
    headers = api.headers(Scope.SUBMIT, **({"Content-Type": content_type} if content_type else {}))
    answer = api.client.post(URL, content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert all_jobs(api.database) == []


def test_references_stand_in_the_order_sent(api: Api) -> None:
    known, missing = stored(api), "f" * 64
    answer = name(
        api,
        {"sha256": known, "client_ref": "mine", "queue": "bulk", "name": "folder/one.jpg"},
        {"sha256": missing},
        {"url": "https://elsewhere.example/x.jpg?token=secret"},
        {"s3": "s3://private/x.jpg"},
        {"sha256": known, "client_ref": "mine"},
        queue="high",
    )
    assert answer.status_code == 202, answer.text
    pictures = answer.json()["pictures"]
    assert [each["state"] for each in pictures] == ["queued", "failed", "failed", "failed", "queued"]
    assert [each["error"]["code"] for each in pictures[1:4]] == ["blob_missing", "url_refused", "invalid_input"]
    assert pictures[0]["job_id"] == pictures[4]["job_id"]
    assert "secret" not in answer.text
    assert "TAMPERWATCH_WEB__S3_BUCKETS" in pictures[3]["error"]["message"]


def test_a_url_is_queued_where_fetching_allows_its_host(settings: Settings, sqlite: Database) -> None:
    allowed = settings.model_copy(update={"fetch": FetchSettings(allowed_hosts="img.example.com")})
    with running(sqlite, context_for(allowed, sqlite)) as api:
        answer = name(api, {"url": "https://img.example.com/1.jpg"}, {"url": "https://169.254.169.254/latest"})
    assert [each["state"] for each in answer.json()["pictures"]] == ["queued", "failed"]
    assert all_jobs(sqlite)[0].url == "https://img.example.com/1.jpg"


def test_the_same_client_ref_is_one_job_for_good(api: Api) -> None:
    first = send(api, ("a.jpg", picture_bytes(1)), data={"client_ref": "upload-1"})
    again = send(api, ("a.jpg", picture_bytes(1)), data={"client_ref": "upload-1"})
    assert first.json()["id"] != again.json()["id"]
    assert first.json()["pictures"][0]["job_id"] == again.json()["pictures"][0]["job_id"]
    shown = api.client.get(f"{URL}/{first.json()['id']}", headers=api.headers(Scope.READ)).json()
    assert len(shown["pictures"]) == 1  # though the job belongs to the later audit, too


def test_a_thousand_references_and_not_one_more(api: Api) -> None:
    sha256 = stored(api)
    answer = name(api, *({"sha256": sha256, "client_ref": f"ref-{number}"} for number in range(1000)))
    assert (answer.status_code, answer.json()["counts"]["queued"]) == (202, 1000)
    assert name(api, *({"sha256": sha256} for _ in range(1001))).status_code == 422


def test_an_idempotency_key_answers_the_same_again(api: Api) -> None:
    key = {"Idempotency-Key": "order 1"}
    first = send(api, ("a.jpg", picture_bytes(1)), ("b.jpg", b"no picture"), **key)
    again = send(api, ("a.jpg", picture_bytes(1)), ("b.jpg", b"no picture"), **key)
    assert first.status_code == again.status_code == 202
    assert again.json() == first.json()
    assert len(all_jobs(api.database)) == 2
    other = send(api, ("a.jpg", picture_bytes(2)), **key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    named = name(api, {"sha256": stored(api)}, headers=key)
    assert named.json()["code"] == "idempotency_mismatch"


def test_idempotency_keys_are_each_senders_own(api: Api) -> None:
    key = {"Idempotency-Key": "1"}
    sent = [
        api.client.post(URL, files={"file": ("a.jpg", picture_bytes(1))}, headers=api.headers(scope, **key))
        for scope in (Scope.SUBMIT, Scope.ADMIN)
    ]
    assert sent[0].json()["id"] != sent[1].json()["id"]


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
def test_an_idempotency_key_has_a_form(api: Api, key: str) -> None:
    assert send(api, ("a.jpg", picture_bytes(1)), **{"Idempotency-Key": key}).status_code == 422


def test_an_idempotency_key_is_free_again_after_its_time(api: Api) -> None:
    key = {"Idempotency-Key": "1"}
    first = send(api, ("a.jpg", picture_bytes(1)), **key).json()["id"]
    with api.database.write() as session:
        session.execute(update(AuditRequest).values(created_at=now() - timedelta(hours=25)))
    second = send(api, ("b.jpg", picture_bytes(2)), **key)
    assert second.status_code == 202 and second.json()["id"] != first
    assert api.client.get(f"{URL}/{first}", headers=api.headers(Scope.READ)).status_code == 200


def test_a_request_that_is_at_work_is_told_and_one_that_was_abandoned_is_taken_up(api: Api) -> None:
    key = {"Idempotency-Key": "1"}
    first = send(api, ("a.jpg", picture_bytes(1)), **key).json()
    with api.database.write() as session:
        session.execute(update(AuditRequest).values(finished_at=None, job_ids=[]))
    busy = send(api, ("a.jpg", picture_bytes(1)), **key)
    assert (busy.status_code, busy.json()["code"], busy.headers["retry-after"]) == (409, "conflict", "1")
    with api.database.write() as session:
        session.execute(update(AuditRequest).values(begun_at=now() - timedelta(minutes=5)))
    again = send(api, ("a.jpg", picture_bytes(1)), **key)
    assert again.json() == first
    assert len(all_jobs(api.database)) == 1


def test_what_redis_does_not_take_waits_in_the_store(api: Api) -> None:
    api.context.app = make_app(api.context.settings)  # of a Redis that is not there
    assert send(api, ("a.jpg", picture_bytes(1))).json()["counts"]["queued"] == 1
    assert name(api, {"sha256": stored(api)}).json()["counts"]["queued"] == 1
    assert [job.state for job in all_jobs(api.database)] == [JobState.QUEUED] * 2


def test_a_store_that_is_away_leaves_the_name_free(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise BlobStoreUnavailable("the S3 server at s3.internal does not answer")

    key = {"Idempotency-Key": "1"}
    with monkeypatch.context() as patched:
        patched.setattr(api.context.blobs, "put_file", away)
        refused = send(api, ("a.jpg", picture_bytes(1)), **key)
    assert (refused.status_code, refused.json()["code"]) == (503, "blob_store_unavailable")
    assert "retry-after" in refused.headers
    assert "s3.internal" not in refused.text
    assert send(api, ("a.jpg", picture_bytes(1)), **key).status_code == 202


@pytest.mark.slow
def test_the_same_request_many_times_at_once_is_taken_in_once(database: Database, settings: Settings) -> None:
    with running(database, context_for(settings, database)) as api, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: send(api, ("a.jpg", picture_bytes(1)), **{"Idempotency-Key": "k"}), range(16)))
    assert {each.status_code for each in answers} <= {202, 409}
    assert len({each.json()["id"] for each in answers if each.status_code == 202}) == 1
    assert len(all_jobs(database)) == 1


def test_a_body_that_is_too_large_is_refused(settings: Settings, sqlite: Database) -> None:
    small = settings.model_copy(update={"web": WebSettings(max_body_bytes=5000)})
    with running(sqlite, context_for(small, sqlite)) as api:
        said = send(api, ("a.jpg", b"\xff\xd8\xff" + bytes(6000)))
        assert (said.status_code, said.json()["code"]) == (413, "too_large")

        def unsaid() -> Any:
            yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
            for _ in range(100):
                yield bytes(1000)

        headers = api.headers(Scope.SUBMIT, **{"Content-Type": "multipart/form-data; boundary=x"})
        streamed = api.client.post(URL, content=unsaid(), headers=headers)
        assert (streamed.status_code, streamed.json()["code"]) == (413, "too_large")
    assert all_jobs(sqlite) == []


def test_other_routes_take_a_megabyte(api: Api) -> None:
    body = json.dumps({"reason": "x" * 1_100_000}).encode()
    headers = api.headers(Scope.ADMIN, **{"Content-Type": "application/json"})
    answer = api.client.post("/v1/models/v/reject", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_an_audit_shows_what_became_of_its_pictures(api: Api) -> None:
    sent = send(api, ("a.jpg", picture_bytes(1)), ("b.jpg", picture_bytes(2)), ("c.jpg", picture_bytes(3))).json()
    ids = [uuid.UUID(each["job_id"]) for each in sent["pictures"]]
    result = api.result_of(ids[0])
    with api.database.write() as session:
        failed = session.get(AuditJob, ids[1])
        assert failed is not None
        failed.state, failed.error_code, failed.error_message = JobState.FAILED, "decode_failed", "cut off"
        session.delete(session.get(AuditJob, ids[2]))
    shown = api.client.get(f"{URL}/{sent['id']}", headers=api.headers(Scope.READ)).json()
    assert shown["ended"] is True
    assert shown["pictures"][0]["result"] == {"id": result, "score": 0.9, "verdict": "flag", "model_version": "student-1"}
    assert shown["pictures"][1]["error"] == {"code": "decode_failed", "message": "cut off"}
    assert (shown["pictures"][2]["state"], shown["pictures"][2]["job_id"]) == (None, str(ids[2]))


@pytest.mark.parametrize("audit_id", ["0" * 32, "x", "../../etc"])
def test_an_audit_that_is_not_there(api: Api, audit_id: str) -> None:
    assert api.client.get(f"{URL}/{audit_id}", headers=api.headers(Scope.READ)).status_code in (404, 422)


def test_old_audits_are_forgotten_and_their_jobs_stay(api: Api) -> None:
    send(api, ("a.jpg", picture_bytes(1)))
    with api.database.write() as session:
        assert audit_requests.purge(session, timedelta(days=1)) == 0
        session.execute(update(AuditRequest).values(created_at=now() - timedelta(days=2)))
        assert audit_requests.purge(session, timedelta(days=1)) == 1
    assert len(all_jobs(api.database)) == 1
