"""The pages of retraining runs: their way, their end, who may begin and cancel them."""

import uuid

import pytest

from schemas.states import RetrainState, RetrainTrigger, Role
from storage import audit_log, leases, runs
from tests.web.learned import HOSTILE, add_candidate, add_run, make_live
from tests.web.made import Api
from tests.web.test_model_pages import visitor
from tests.web.visitors import Browser, new_browser


def state(api: Api, run_id: uuid.UUID) -> RetrainState:
    with api.database.read() as session:
        return runs.get(session, run_id).state


def send(browser: Browser, path: str) -> int:
    return browser.post(path, {"csrf_token": browser.form_token("/runs")}).status_code


def test_without_runs_the_page_says_how_they_begin(api: Api) -> None:
    page = visitor(api, Role.VIEWER).get("/runs").text
    assert "No run yet" in page and "0 new boxes on 0 newly annotated pictures" in page


def test_runs_with_their_ends_and_a_plot_of_their_nights(api: Api) -> None:
    make_live(api.database)
    ended = add_candidate(api.database, "night-1", RetrainState.REJECTED, step=700, steps_total=700)
    page = visitor(api, Role.VIEWER).get("/runs").text

    assert f"/runs/{ended}" in page and "surely better" in page and "700 of 700" in page
    assert page.count("<circle") == 4  # live and candidate, in F1 and false-alarm area
    assert "night-1 0.300, rejected" in page
    assert "open-begin" not in page


def test_one_run_in_full(api: Api) -> None:
    make_live(api.database)
    run_id = add_candidate(
        api.database, "night-1", RetrainState.REJECTED, seed=77, teacher_id="sam-vit-b", code_version="0.9 (abc)",
        error_code=None,
    )  # fmt: skip
    page = visitor(api, Role.VIEWER).get(f"/runs/{run_id}").text
    for words in ("ab" * 32, "77", "sam-vit-b", "0.9 (abc)", "surely better", "pixel F1", "+0.0500", "night-1"):
        assert words in page, words
    assert "hx-get" not in page and "open-cancel" not in page


def test_a_run_under_way_is_asked_for_again_until_it_has_ended(api: Api) -> None:
    run_id = add_run(api.database, RetrainState.TRAINING, step=310, steps_total=1240, message="loss 0.2")
    browser = visitor(api, Role.VIEWER)
    for path in ("/runs", f"/runs/{run_id}", f"/runs/{run_id}/progress"):
        page = browser.get(path).text
        assert f'hx-get="/runs/{run_id}/progress" hx-trigger="every 3s"' in page
        assert '<progress value="0.25"' in page and "loss 0.2" in page and 'aria-current="step"' in page
    assert "No trainer is at it" in browser.get(f"/runs/{run_id}").text
    with api.database.write() as session:
        runs.cancel(session, run_id)
    answer = browser.get(f"/runs/{run_id}/progress")
    assert (answer.status_code, answer.headers["hx-refresh"]) == (204, "true")


def test_a_run_that_failed_says_why(api: Api) -> None:
    run_id = add_run(api.database, RetrainState.FAILED, reason="failed", error_code="worker_lost", error_message="5 died")
    page = visitor(api, Role.VIEWER).get(f"/runs/{run_id}").text
    assert "worker_lost" in page and "5 died" in page and 'class="notice error"' in page


def test_an_admin_begins_a_run_and_cancels_it(api: Api) -> None:
    browser = visitor(api)
    assert "open-begin" in browser.get("/runs").text
    answer = browser.post("/runs", {"csrf_token": browser.form_token("/runs")})
    run_id = uuid.UUID(answer.headers["location"].removeprefix("/runs/"))
    with api.database.read() as session:
        run = runs.get(session, run_id)
    assert (answer.status_code, run.state, run.trigger) == (303, RetrainState.QUEUED, RetrainTrigger.MANUAL)
    assert "open-begin" not in browser.get("/runs").text
    # While one has not ended, another request leads to it.
    again = browser.post("/runs", {"csrf_token": browser.form_token("/runs")})
    assert again.headers["location"] == f"/runs/{run_id}"

    assert send(browser, f"/runs/{run_id}/cancel") == 303
    assert state(api, run_id) is RetrainState.CANCELLED
    assert send(browser, f"/runs/{run_id}/cancel") == 422
    with api.database.read() as session:
        logged = [(entry.who, entry.action) for entry in audit_log.entries(session) if entry.action.startswith("run.")]
    assert logged == [("the admin", "run.begin"), ("the admin", "run.cancel")]


def test_a_run_in_a_trainers_hands_is_asked_to_end(api: Api) -> None:
    run_id = add_run(api.database, RetrainState.TRAINING)
    with api.database.write() as session:
        assert leases.acquire(session, runs.LEASE, "trainer-1", 60)
    browser = visitor(api)
    assert send(browser, f"/runs/{run_id}/cancel") == 303
    page = browser.get(f"/runs/{run_id}").text
    assert "it was asked to end" in page and "open-cancel" not in page and "No trainer is at it" not in page
    assert state(api, run_id) is RetrainState.TRAINING


@pytest.mark.parametrize("role", [Role.VIEWER, Role.MODERATOR])
def test_others_neither_begin_nor_cancel(api: Api, role: Role) -> None:
    run_id = add_run(api.database, RetrainState.QUEUED)
    browser = visitor(api, role)
    assert send(browser, "/runs") == 403
    assert send(browser, f"/runs/{run_id}/cancel") == 403
    assert state(api, run_id) is RetrainState.QUEUED


def test_without_a_token_of_ours_nothing_begins(api: Api) -> None:
    browser = visitor(api)
    assert browser.post("/runs", {}).status_code == 403
    with api.database.read() as session:
        assert runs.unended(session) is None


@pytest.mark.parametrize("path", ["/runs", f"/runs/{uuid.UUID(int=1)}", f"/runs/{uuid.UUID(int=1)}/progress"])
def test_nobody_gets_in_without_logging_in(api: Api, path: str) -> None:
    assert new_browser(api).get(path).status_code == 303


def test_there_is_no_such_run(api: Api) -> None:
    browser = visitor(api, Role.VIEWER)
    assert browser.get(f"/runs/{uuid.UUID(int=1)}").status_code == 404
    assert browser.get("/runs/last").status_code == 422


def test_what_a_run_says_is_text(api: Api) -> None:
    figures = {"selection": {"taken": {HOSTILE: 1}, "left_out": {}}, "teaching": "x", "measured": {"live": 3}}
    run_id = add_run(
        api.database, RetrainState.FAILED, reason=HOSTILE, message=HOSTILE, error_code=HOSTILE, error_message=HOSTILE,
        teacher_id=HOSTILE, code_version=HOSTILE, parent_version=HOSTILE, figures=figures,
        decision={"checks": [{"name": HOSTILE, "passed": True, "sentence": HOSTILE}, 3]},
    )  # fmt: skip
    browser = visitor(api, Role.VIEWER)
    for path in ("/runs", f"/runs/{run_id}"):
        page = browser.get(path)
        assert page.status_code == 200
        assert "<script>alert" not in page.text and "\u202e" not in page.text
