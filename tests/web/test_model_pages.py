"""The models' pages: what they show, who may decide, and that nothing anybody called anything runs in a browser."""

import hashlib
import html
import re
from urllib.parse import quote

import pytest

from model.card import builtin_directory
from schemas.learning_tables import ShadowScore
from schemas.states import ModelAction, ModelStage, RetrainState, Role, Verdict
from schemas.tables import Picture
from storage import audit_log, queries, registry, shadow_scores
from storage.blobs import picture_key
from storage.model_files import store_student
from tests.web.learned import CARD, HOSTILE, add_candidate, make_live
from tests.web.made import Api
from tests.web.visitors import Browser, add_person, new_browser

_REASON = "fewer false alarms in a week of shadow mode"


@pytest.fixture
def live(api: Api) -> str:
    return make_live(api.database)


def visitor(api: Api, role: Role = Role.ADMIN) -> Browser:
    """Somebody who is logged in."""
    add_person(api.database, f"the {role.value}", role)
    browser = new_browser(api)
    assert browser.log_in(f"the {role.value}").status_code == 303
    return browser


def stage(api: Api, version: str) -> ModelStage:
    with api.database.read() as session:
        return registry.get(session, version).stage


def decide(browser: Browser, version: str, action: str, **form: str) -> int:
    path = f"/models/{quote(version, safe='')}/{action}" if version else f"/models/{action}"
    return browser.post(path, {"csrf_token": browser.form_token("/models"), "reason": _REASON, **form}).status_code


def test_without_any_version_the_page_says_so(api: Api) -> None:
    answer = visitor(api).get("/models")
    assert answer.status_code == 200 and "No model yet" in answer.text


def test_live_and_candidate_side_by_side(api: Api, live: str) -> None:
    run_id = add_candidate(api.database, "night-1")
    page = visitor(api).get("/models").text

    for words in (live, "night-1", "pixel F1", "0.2500", "0.3000", "+0.0500", "+0.0100 … +0.0900", "surely better"):
        assert words in page, words
    assert "412 held-out pictures are enough" in page and f"/runs/{run_id}" in page
    assert page.count('class="interval"') == 2
    assert "None was rejected." in page


def test_a_viewer_sees_everything_and_decides_nothing(api: Api, live: str) -> None:
    add_candidate(api.database, "night-1")
    browser = visitor(api, Role.VIEWER)
    page = browser.get("/models").text
    assert "night-1" in page and "open-promote" not in page and "open-reject" not in page
    for action in ("promote", "reject"):
        assert decide(browser, "night-1", action) == 403
    assert decide(browser, "", "rollback") == 403
    assert (stage(api, "night-1"), stage(api, live)) == (ModelStage.CANDIDATE, ModelStage.LIVE)


def test_a_moderator_does_not_decide_either(api: Api, live: str) -> None:
    add_candidate(api.database, "night-1")
    assert decide(visitor(api, Role.MODERATOR), "night-1", "promote") == 403
    assert stage(api, live) is ModelStage.LIVE


@pytest.mark.parametrize(
    "path", ["/models", "/models/x", "/models/x/changes", "/models/x/curves.png", f"/pictures/{'0' * 64}/small.jpg"]
)
def test_nobody_gets_in_without_logging_in(api: Api, path: str) -> None:
    answer = new_browser(api).get(path)
    assert answer.status_code == 303 and answer.headers["location"].startswith("/login")


def test_promoting_and_rolling_back_are_recorded_with_name_and_reason(api: Api, live: str) -> None:
    add_candidate(api.database, live_name := "night-1", location=_stored(api))
    browser = visitor(api)

    assert decide(browser, live_name, "promote", from_version=live) == 303
    assert (stage(api, live_name), stage(api, live)) == (ModelStage.LIVE, ModelStage.RETIRED)
    page = browser.get("/models").text
    assert "open-roll-back" in page and f'a roll-back leads to</dt><dd><a class="version" href="/models/{live}"' in page
    assert decide(browser, "", "rollback", to=live, from_version=live_name) == 303

    assert stage(api, live) is ModelStage.LIVE
    with api.database.read() as session:
        last = registry.decisions(session)[-2:]
        logged = [entry.who for entry in audit_log.entries(session) if entry.action.startswith("model.")]
    assert [(each.action, each.who, each.reason) for each in last] == [
        (ModelAction.PROMOTE, "the admin", _REASON),
        (ModelAction.ROLLBACK, "the admin", _REASON),
    ]
    assert logged.count("the admin") == 2


def test_of_two_decisions_the_second_is_told(api: Api, live: str) -> None:
    add_candidate(api.database, "night-1", location=_stored(api))
    add_candidate(api.database, "night-2", location=_stored(api))
    browser = visitor(api)
    assert decide(browser, "night-1", "promote", from_version=live) == 303
    assert decide(browser, "night-2", "promote", from_version=live) == 422
    assert (stage(api, "night-1"), stage(api, "night-2")) == (ModelStage.LIVE, ModelStage.CANDIDATE)


def test_rejecting_and_overruling_it(api: Api, live: str) -> None:
    add_candidate(api.database, "night-1", location=_stored(api))
    browser = visitor(api)
    assert decide(browser, "night-1", "reject") == 303
    assert stage(api, "night-1") is ModelStage.RETIRED
    assert "Rejected versions" in browser.get("/models").text
    page = browser.get("/models/night-1").text
    assert "It was rejected: this overrules that" in page and "open-reject" not in page

    assert decide(browser, "night-1", "promote", from_version=live) == 422
    assert decide(browser, "night-1", "promote", from_version=live, override="true") == 303
    with api.database.read() as session:
        assert registry.decisions(session, "night-1")[-1].figures == {"override": True}


@pytest.mark.parametrize("reason", ["", "   "])
def test_a_decision_needs_a_reason(api: Api, live: str, reason: str) -> None:
    add_candidate(api.database, "night-1", location=_stored(api))
    assert decide(visitor(api), "night-1", "promote", reason=reason) == 422
    assert stage(api, live) is ModelStage.LIVE


def test_a_form_of_another_site_changes_nothing(api: Api, live: str) -> None:
    add_candidate(api.database, "night-1", location=_stored(api))
    browser = visitor(api)
    for form in ({"reason": _REASON}, {"reason": _REASON, "csrf_token": "0" * 64}):
        assert browser.post("/models/night-1/promote", form).status_code == 403
    assert stage(api, live) is ModelStage.LIVE


def test_a_version_whose_files_are_gone_is_not_promoted(api: Api, live: str) -> None:
    add_candidate(api.database, "night-1", location=f"blob:models/lost/{'0' * 64}")
    answer = visitor(api)
    assert decide(answer, "night-1", "promote") >= 400
    assert stage(api, live) is ModelStage.LIVE


@pytest.mark.usefixtures("live")
def test_a_script_is_told_where_to_go_and_what_is_wrong(api: Api) -> None:
    add_candidate(api.database, "night-1", location=_stored(api))
    browser = visitor(api)
    form = {"csrf_token": browser.form_token("/models"), "reason": ""}
    told = browser.post("/models/night-1/reject", form, **{"HX-Request": "true"})
    assert told.status_code == 422 and told.text.startswith('<div class="notice error"')
    done = browser.post("/models/night-1/reject", form | {"reason": _REASON}, **{"HX-Request": "true"})
    assert (done.status_code, done.headers["hx-redirect"]) == (204, "/models/night-1")


def test_one_version_in_full(api: Api, live: str) -> None:
    run_id = add_candidate(api.database, "night-1", teacher_id="sam-vit-b", code_version="0.9.1 (abc)", seed=77)
    page = visitor(api).get("/models/night-1").text
    for words in ("sam-vit-b", "ab" * 32, "0.9.1 (abc)", "seed 77", "registered", "tamperwatch", str(run_id), live):
        assert words in page, words
    assert 'hx-get="/models/night-1/changes"' in page and "No curves were kept" in page


@pytest.mark.usefixtures("live")
def test_curves_are_those_of_the_run(api: Api) -> None:
    png = b"\x89PNG\r\n\x1a\n..."
    api.context.blobs.put("retrain/curves.png", png)
    add_candidate(api.database, "night-1", figures={"files": {"curves": "retrain/curves.png"}})
    browser = visitor(api)
    assert '<img src="/models/night-1/curves.png"' in browser.get("/models/night-1").text
    answer = browser.get("/models/night-1/curves.png")
    assert (answer.content, answer.headers["content-type"]) == (png, "image/png")


@pytest.mark.usefixtures("live")
def test_what_anybody_called_anything_is_text(api: Api) -> None:
    name = "<img src=x onerror=alert(2)>"
    add_candidate(api.database, name, reason=HOSTILE, teacher_id=HOSTILE, code_version=HOSTILE, decision={"summary": HOSTILE})
    browser = visitor(api)
    for path in ("/models", f"/models/{quote(name, safe='')}", f"/models/{quote(name, safe='')}/changes"):
        answer = browser.get(path)
        assert answer.status_code == 200
        assert "<img src=x" not in answer.text and "<script>alert" not in answer.text and "\u202e" not in answer.text
        assert not re.search(r"<script(?![^>]* src=)|\sstyle=|\son\w+=\"", answer.text)
        assert "unsafe" not in answer.headers["content-security-policy"]
    assert html.escape(name) in browser.get("/models").text


def test_pictures_that_changed_most(api: Api, live: str) -> None:
    add_candidate(api.database, "night-1")
    result = api.audited(1, Verdict.PASS)
    with api.database.write() as session:
        result.model_version = live
        session.merge(result)
        sha256 = _sha256_of(api, result.id or 0)
        shadow_scores.add_shadow_score(session, _shadow(result.job_id, sha256, live))
    browser = visitor(api)
    part = browser.get("/models/night-1/changes").text

    assert "1.jpg" in part and f"/pictures/{sha256}/small.jpg?result={result.id}" in part and "no mask kept" in part
    for address in (f"/pictures/{sha256}/small.jpg", f"/pictures/{sha256}/small.jpg?result={result.id}"):
        answer = browser.get(address)
        assert (answer.status_code, answer.headers["content-type"], answer.content[:3]) == (200, "image/jpeg", b"\xff\xd8\xff")
        again = browser.get(address, **{"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_a_mask_is_painted_over_its_own_picture_only(api: Api) -> None:
    one, other = api.audited(1), api.audited(2)
    browser = visitor(api)
    address = f"/pictures/{_sha256_of(api, one.id or 0)}/small.jpg"
    assert browser.get(f"{address}?result={other.id}").status_code == 404
    assert browser.get(f"{address}?result=999").status_code == 404
    assert browser.get(f"/pictures/{'0' * 64}/small.jpg").status_code == 404
    assert browser.get("/pictures/..%2f..%2fetc/small.jpg").status_code in (404, 422)


def test_a_hostile_upload_reaches_no_browser(api: Api) -> None:
    data = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    sha256 = hashlib.sha256(data).hexdigest()
    api.context.blobs.put(picture_key(sha256), data)
    with api.database.write() as session:
        session.add(Picture(sha256=sha256, bytes=len(data)))
    answer = visitor(api).get(f"/pictures/{sha256}/small.jpg")
    assert answer.status_code == 415 and b"alert" not in answer.content


@pytest.mark.usefixtures("live")
def test_thousands_of_versions_do_not_make_a_page_of_thousands(api: Api) -> None:
    with api.database.write() as session:
        for number in range(130):
            registry.register(session, f"old-{number}", {}, "package", "t", "r")
            registry.reject(session, f"old-{number}", "t", "worse")
    page = visitor(api).get("/models").text
    assert page.count("/models/old-") == 100 and "tamperwatch models list" in page


@pytest.mark.usefixtures("live")
def test_a_run_that_measured_against_another_version_is_not_shown_as_if_it_were_this_one(api: Api) -> None:
    other = {"live": {"version": "gone"}, "candidate": {"version": "night-1"}}
    add_candidate(api.database, "night-1", state=RetrainState.REJECTED, figures={"measured": other})
    page = visitor(api).get("/models").text
    assert "All validation pictures" in page and 'class="interval"' not in page


def _stored(api: Api) -> str:
    """Where the packaged student's files lie in the blob store."""
    return store_student(api.context.blobs, builtin_directory(), CARD.version)


def _sha256_of(api: Api, number: int) -> str:
    with api.database.read() as session:
        found = queries.audited_of_result(session, number)
    assert found is not None and found.job.sha256 is not None
    return found.job.sha256


def _shadow(job_id: object, sha256: str, live: str) -> ShadowScore:
    return ShadowScore(
        job_id=job_id,
        sha256=sha256,
        candidate_version="night-1",
        live_version=live,
        live_score=0.1,
        candidate_score=0.9,
        live_verdict=Verdict.PASS,
        candidate_verdict=Verdict.FLAG,
        mask_agreement=0.2,
    )
