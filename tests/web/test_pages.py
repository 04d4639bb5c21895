"""The frame around every page: bundled files, headers, colours, and errors as people see them."""

import re
from pathlib import Path

import pytest

from schemas.errors import EnvironmentMissing
from schemas.states import Scope
from tests.web.made import Api
from web.pages import assets

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def test_the_bundle_is_served_for_good_under_names_that_hold_its_hash(api: Api) -> None:
    for entry, media_type in (("page.js", "text/javascript"), ("page.css", "text/css")):
        address = assets.load().address(entry)
        assert re.fullmatch(r"/static/page-[A-Z0-9]{8}\.(js|css)", address)
        answer = api.client.get(address)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(media_type)
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "htmx.org" in api.client.get("/static/licences.txt").text


@pytest.mark.parametrize("name", ["nothing.js", "manifest.json", "..%2fapp.py", "%2e%2e%2fapp.py"])
def test_nothing_but_the_bundle_is_served(api: Api, name: str) -> None:
    assert api.client.get(f"/static/{name}").status_code == 404


def test_the_bundle_reaches_for_no_other_origin() -> None:
    files = assets.load().files
    scripts = b"".join(content for name, content in files.items() if not name.endswith(".txt"))
    assert b"eval(" not in files[assets.load().entries["page.css"]]
    assert re.findall(rb"https?://(?!www\.w3\.org/)[\w.]+", scripts) == []


def test_a_person_is_told_of_an_error_by_a_page(api: Api) -> None:
    answer = api.client.get("/nowhere", headers=BROWSER)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'" in policy and "unsafe" not in policy and "default-src 'none'" in policy
    assert not re.search(r"<script(?![^>]* src=)|\sstyle=|\son\w+=", answer.text)
    assert re.findall(r'(?:src|href)="(?!/|#|")([^"]*)"', answer.text) == []
    assert "Not Found" in answer.text and 'data-theme="auto"' in answer.text


def test_a_script_of_the_page_is_told_of_an_error_by_a_part(api: Api) -> None:
    answer = api.client.get("/nowhere", headers={"HX-Request": "true"})
    assert answer.text.startswith('<div class="notice error"')


def test_a_program_is_told_of_an_error_by_problem_details(api: Api) -> None:
    for path, headers in (("/nowhere", {}), ("/v1/results/77", BROWSER | api.headers(Scope.READ))):
        answer = api.client.get(path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(("cookie", "theme"), [("dark", "dark"), ('"><script>', "auto")])
def test_the_colours_are_those_of_the_cookie(api: Api, cookie: str, theme: str) -> None:
    answer = api.client.get("/nowhere", headers={**BROWSER, "Cookie": f"tamperwatch_theme={cookie}"})
    assert f'data-theme="{theme}"' in answer.text


def test_without_a_bundle_the_answer_says_how_to_mend_it(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "_FOLDER", tmp_path)
    assets.load.cache_clear()
    try:
        with pytest.raises(EnvironmentMissing, match="make page"):
            assets.load()
        assert api.client.get("/nowhere", headers=BROWSER).json()["code"] == "not_found"
        assert api.client.get("/static/page.css").json()["code"] == "environment_missing"
    finally:
        assets.load.cache_clear()
