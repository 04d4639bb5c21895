"""What people say over HTTP: annotations, and decisions about models; each with who said it."""

from typing import Any

import httpx2
import pytest

from schemas.states import Scope
from storage import registry
from tests.web.made import Api

BOX = {"x0": 20, "y0": 10, "x1": 60, "y1": 50}


def say(api: Api, scope: Scope = Scope.REVIEW, **said: Any) -> httpx2.Response:
    return api.client.post("/v1/annotations", json=said, headers=api.headers(scope))


def decide(api: Api, path: str, **given: Any) -> httpx2.Response:
    return api.client.post(f"/v1/models/{path}", json=given, headers=api.headers(Scope.ADMIN))


def test_boxes_by_result_and_their_history(api: Api) -> None:
    result = api.audited()
    first = say(api, result_id=result.id, kind="boxes", boxes=[BOX], by="anna").json()
    assert (first["by"], first["boxes"], first["width"], first["height"]) == ("review-key/anna", [BOX], 96, 72)
    assert (first["origin"], first["result_id"]) == ("api", result.id)
    assert say(api, result_id=result.id, kind="boxes", boxes=[BOX], by="anna").json() == first
    second = say(api, sha256=first["sha256"], kind="authentic", by="anna").json()
    assert second["replaces"] == first["id"]
    undone = api.client.post(
        f"/v1/annotations/{second['id']}/undo", json={"reason": "wrong key"}, headers=api.headers(Scope.REVIEW)
    ).json()
    assert (undone["kind"], undone["replaces"], undone["by"]) == ("retracted", second["id"], "review-key")
    again = api.client.post(f"/v1/annotations/{second['id']}/undo", json={"reason": "x"}, headers=api.headers(Scope.REVIEW))
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    history = api.client.get(f"/v1/annotations?sha256={first['sha256']}", headers=api.headers(Scope.READ)).json()
    assert history["annotations"] == [first, second, undone]
    page = api.client.get("/v1/annotations?limit=2", headers=api.headers(Scope.READ)).json()
    assert (page["annotations"], page["next_cursor"]) == ([first, second], second["id"])


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"kind": "boxes", "boxes": [BOX]}, 422),
        ({"kind": "boxes", "boxes": [], "result_id": 1}, 422),
        ({"kind": "retracted", "result_id": 1}, 422),
        ({"kind": "boxes", "boxes": [{"x0": 5, "y0": 5, "x1": 5, "y1": 9}], "result_id": 1}, 422),
        ({"kind": "boxes", "boxes": [{"x0": 0, "y0": 0, "x1": 97, "y1": 9}], "result_id": 1}, 422),
        ({"kind": "boxes", "boxes": [{"x0": 0, "y0": 0, "x1": 2**70, "y1": 9}], "result_id": 1}, 422),
        ({"kind": "boxes", "boxes": [BOX] * 201, "result_id": 1}, 422),
        ({"kind": "authentic", "result_id": 1, "note": "a\0b"}, 422),
        ({"kind": "authentic", "result_id": 1, "replaces": 99}, 422),
        ({"kind": "authentic", "sha256": "b" * 64}, 404),
        ({"kind": "authentic", "result_id": 99}, 404),
    ],
)
def test_a_wrong_annotation_is_told(api: Api, said: dict[str, Any], status: int) -> None:
    api.audited()
    answer = say(api, **said)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_undoing_what_is_not_there(api: Api) -> None:
    answer = api.client.post("/v1/annotations/9/undo", json={"reason": "x"}, headers=api.headers(Scope.REVIEW))
    assert answer.status_code == 404


def test_models_are_promoted_rejected_and_rolled_back_with_who_and_why(api: Api) -> None:
    api.versions("one", "two", "three")
    assert decide(api, "one/promote", reason="first").json()["stage"] == "live"
    assert decide(api, "two/promote", reason="better", from_version="one").json()["stage"] == "live"
    stale = decide(api, "three/promote", reason="mine", from_version="one")
    assert (stale.status_code, stale.json()["code"]) == (409, "conflict")
    assert decide(api, "two/reject", reason="no").status_code == 409
    back = decide(api, "two/rollback", reason="flags portraits").json()
    assert decide(api, "two/rollback", reason="flags portraits").status_code == 409  # sent twice, it goes back once
    assert (back["version"], back["stage"]) == ("one", "live")
    assert decide(api, "three/reject", reason="worse").json()["stage"] == "retired"
    assert decide(api, "three/promote", reason="all the same").status_code == 409
    assert decide(api, "three/promote", reason="all the same", override=True).json()["stage"] == "live"
    shown = api.client.get("/v1/models/three", headers=api.headers(Scope.READ)).json()
    assert [each["action"] for each in shown["decisions"]] == ["reject", "promote"]
    assert {each["by"] for each in shown["decisions"]} == {"admin-key"}
    assert shown["card"] == {"metrics": {"f1": 0.5}}
    listed = api.client.get("/v1/models", headers=api.headers(Scope.READ)).json()
    assert {each["version"]: each["stage"] for each in listed} == {"one": "retired", "two": "retired", "three": "live"}
    with api.database.read() as session:
        live = registry.live(session)
    assert live is not None and live.version == "three"


@pytest.mark.parametrize(
    ("path", "given", "status"),
    [
        ("none/promote", {"reason": "x"}, 404),
        ("none/reject", {"reason": "x"}, 404),
        ("one/rollback", {"reason": "x", "to": "none"}, 404),
        ("none/rollback", {"reason": "x"}, 404),
        ("one/rollback", {"reason": "x"}, 409),
        ("one/promote", {}, 422),
        ("one/promote", {"reason": "  "}, 422),
        ("one/promote", {"reason": "x", "force": True}, 422),
        ("one/delete", {"reason": "x"}, 404),
    ],
)
def test_a_wrong_decision_is_told(api: Api, path: str, given: dict[str, Any], status: int) -> None:
    api.versions("one")
    answer = decide(api, path, **given)
    assert answer.status_code == status, answer.text
