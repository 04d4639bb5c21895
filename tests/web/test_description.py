"""The description of the API: an example of every body and every answer, and each of them of the form it stands for."""

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from tests.web.made import Api

Described = dict[str, Any]


def contents(description: Described) -> Iterator[tuple[str, str, Described]]:
    """Where, media type and content of every body and answer."""
    for path, each in description["paths"].items():
        for method, operation in each.items():
            where = f"{method.upper()} {path}"
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                yield f"{where} body", kind, content
            for status, answer in operation["responses"].items():
                for kind, content in answer.get("content", {}).items():
                    yield f"{where} {status}", kind, content


def example_of(content: Described, description: Described) -> Any:
    """The example that stands at a content, at its schema, or at the schema of its items."""
    if "example" in content:
        return content["example"]
    schema = resolved(content["schema"], description)
    if schema.get("type") == "array":
        return [resolved(schema["items"], description)["example"]]
    return schema["example"]


def resolved(schema: Described, description: Described) -> Described:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: Described = description["components"]["schemas"][name] if name else schema
    return found


@pytest.fixture
def description(api: Api) -> Described:
    return api.app.openapi()


def test_every_body_and_answer_has_an_example_of_its_form(description: Described) -> None:
    seen = set()
    for where, kind, content in contents(description):
        if kind.startswith("image/"):
            continue
        example = example_of(content, description)
        seen.add(where)
        if "json" in kind or kind.startswith("multipart/"):
            schema = content["schema"] | {"components": description["components"]}
            jsonschema.validate(example, schema, format_checker=jsonschema.FormatChecker())
    assert len(seen) > 250


def test_every_problem_names_its_own_status(description: Described) -> None:
    for where, kind, content in contents(description):
        if kind == "application/problem+json":
            assert str(content["example"]["status"]) == where.rpartition(" ")[2]


def test_answers_say_their_headers(description: Described) -> None:
    paths = description["paths"]
    for name in ("mask.png", "overlay.png", "picture"):
        answers = paths[f"/v1/results/{{number}}/{name}"]["get"]["responses"]
        assert {"ETag"} == set(answers["200"]["headers"]) == set(answers["304"]["headers"])
    submitted = paths["/v1/audits"]["post"]["responses"]
    assert set(submitted["202"]["headers"]) == {"Location"}
    assert all(set(submitted[status]["headers"]) == {"Retry-After"} for status in ("429", "503"))
