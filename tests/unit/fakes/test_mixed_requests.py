"""What the mix of requests calls handled, and what it does not."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.fakes.mixed_requests import (
    Asked,
    Target,
    Windows,
    classified,
    operations,
    problem_form,
    sample,
    supabase_form,
    text_form,
)

PROBLEM = {"type": "urn:x", "status": 503, "detail": "the database does not answer"}
TYPE = {"content-type": "application/problem+json"}
AGAIN = {**TYPE, "retry-after": "1"}
QUERY = Target("query", "http://x", (), problem_form, 10.0)
ASKED = Asked("GET", "/api/heads")


def answer(status: int, body: Any = None, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.Response(status, json=body, headers=headers)


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (answer(200, []), "answered"),
        (answer(304), "answered"),
        (answer(400, {**PROBLEM, "status": 400}, TYPE), "refused"),
        (answer(503, PROBLEM, AGAIN), "unavailable"),
        (answer(503, PROBLEM, TYPE), "no Retry-After"),
        (answer(500, {**PROBLEM, "status": 500}, TYPE), "error"),
        (answer(502, {**PROBLEM, "status": 502}, TYPE), "error"),
        (answer(404, {"detail": "Not Found"}), "form"),
        (answer(400, PROBLEM, TYPE), "form"),
        (httpx.Response(503, text="upstream", headers={"retry-after": "1"}), "form"),
    ],
)
def test_an_answer_has_a_class(got: httpx.Response, expected: str) -> None:
    assert classified(QUERY, ASKED, got, 0.1) == expected
    assert classified(QUERY, ASKED, got, 10.1) == "late"


def test_health_says_with_503_how_it_is() -> None:
    told = answer(503, {"status": "down", "components": []})
    assert classified(QUERY, Asked("GET", "/health/detailed"), told, 0.1) == "unavailable"
    assert classified(QUERY, ASKED, told, 0.1) == "form"


def test_each_kind_of_server_has_a_form_of_its_own() -> None:
    failure = answer(400, {"errorCode": "PARSE_ERROR", "errorDetails": "x"})
    assert problem_form(Asked("POST", "/ofrep/v1/evaluate/flags"), failure)
    assert not problem_form(ASKED, failure)
    assert supabase_form(ASKED, answer(404, {"code": "PGRST205", "message": "no table"}))
    assert not supabase_form(ASKED, answer(404, ["no table"]))
    assert text_form(ASKED, httpx.Response(404, text="no such path\n"))
    assert not text_form(ASKED, httpx.Response(400, text="Traceback\n  File\n"))
    assert not text_form(ASKED, httpx.Response(400, text=""))


def test_times_in_which_something_was_so_are_added_up() -> None:
    windows = Windows()
    windows._all = [("query", 10.0, 13.0), ("query", 20.0, None), ("other", 0.0, 100.0)]
    assert windows.seconds("query", 0.0, 9.0) == 0.0
    assert windows.seconds("query", 9.0, 11.5) == 1.5
    assert windows.seconds("query", 11.0, 22.0) == 4.0
    with windows.open("new"):
        assert windows._all[-1][2] is None
    assert windows._all[-1][2] is not None


def test_an_operation_is_asked_by_everybody_with_what_it_needs() -> None:
    parameters = [
        {"name": "device", "in": "path", "schema": {"type": "string"}},
        {"name": "stream", "in": "query", "required": True, "schema": {"type": "string"}},
        {"name": "limit", "in": "query", "schema": {"type": "integer"}},
    ]
    document = {"paths": {"/api/{device}/series": {"get": {"parameters": parameters}}}}
    made = operations(document, {"device": "e2e", "stream": "e2e/system"}, [None, "token"])
    assert [asked.path for asked in made] == ["/api/e2e/series?stream=e2e/system"] * 2
    assert [dict(asked.headers) for asked in made] == [{}, {"Authorization": "Bearer token"}]


def test_a_sample_is_what_a_schema_allows() -> None:
    schemas = {"Thing": {"type": "object", "required": ["a", "b"], "properties": {
        "a": {"anyOf": [{"type": "integer", "minimum": 3}, {"type": "null"}]},
        "b": {"type": "array", "minItems": 1, "items": {"enum": ["x", "y"]}},
        "c": {"type": "string"},
    }}}  # fmt: skip
    assert sample({"$ref": "#/components/schemas/Thing"}, schemas) == {"a": 3, "b": ["x"]}
    assert sample({"examples": ["this"], "default": "that"}, {}) == "this"
