"""Status, headers and errors of the answers."""

from __future__ import annotations

import json

import pytest

from embedded.rest.errors import DatabaseAway, DatabaseReport, RestError, from_database
from embedded.rest.model import Media, Preferences, Request, Window
from embedded.rest.responses import Answer, Outcome, answer


def request(method: str = "GET", **more: object) -> Request:
    return Request(method=method, schema="public", name="t", **more)  # type: ignore[arg-type] # test shorthand


def ranges(found: Answer) -> tuple[int, str]:
    return found.status, dict(found.headers)["Content-Range"]


EXACT = Preferences(count="exact")
SHOWN = Preferences(returning="representation")


@pytest.mark.parametrize(
    ("asked", "outcome", "expected"),
    [
        (request(), Outcome(None, 3, b"[]"), (200, "0-2/*")),
        (request(), Outcome(None, 0, b"[]"), (200, "*/*")),
        (request(preferences=EXACT), Outcome(3, 3, b"[]"), (200, "0-2/3")),
        (request(preferences=EXACT), Outcome(0, 0, b"[]"), (200, "*/0")),
        (request(preferences=EXACT, window=Window(5, 2)), Outcome(9, 2, b"[]"), (206, "5-6/9")),
        (request("HEAD", preferences=EXACT), Outcome(3, 3, None), (200, "0-2/3")),
        (request("POST"), Outcome(2, 2, None), (201, "*/*")),
        (request("POST", preferences=EXACT), Outcome(2, 2, None), (201, "*/2")),
        (request("POST", preferences=SHOWN), Outcome(1, 1, b"[]", 0), (200, "*/*")),
        (request("POST", preferences=SHOWN), Outcome(1, 1, b"[]", 1), (201, "*/*")),
        (request("PATCH"), Outcome(2, 2, None), (204, "0-1/*")),
        (request("PATCH", preferences=SHOWN), Outcome(0, 0, b"[]"), (200, "*/*")),
        (request("DELETE"), Outcome(2, 2, None), (204, "*/*")),
        (request("POST", is_function=True), Outcome(None, 1, b"1"), (200, "0-0/*")),
        (request("POST", is_function=True), Outcome(None, 1, None), (204, "0-0/*")),
    ],
)
def test_status_and_content_range(asked: Request, outcome: Outcome, expected: tuple[int, str]) -> None:
    assert ranges(answer(asked, outcome)) == expected


def test_a_window_beyond_the_end() -> None:
    with pytest.raises(RestError) as caught:
        answer(request(preferences=EXACT, window=Window(10, 2)), Outcome(9, 0, b"[]"))
    assert (caught.value.status, caught.value.code) == (416, "PGRST103")
    assert caught.value.details == "An offset of 10 was requested, but there are only 9 rows."


@pytest.mark.parametrize("rows", [0, 2])
def test_a_single_object_has_to_be_one(rows: int) -> None:
    with pytest.raises(RestError) as caught:
        answer(request(media=Media(single=True)), Outcome(None, rows, b"{}"))
    assert (caught.value.status, caught.value.code) == (406, "PGRST116")
    assert caught.value.details == f"The result contains {rows} rows"


def test_max_affected() -> None:
    strict = Preferences(handling="strict", max_affected=1)
    with pytest.raises(RestError) as caught:
        answer(request("DELETE", preferences=strict), Outcome(2, 2, None))
    assert (caught.value.status, caught.value.code) == (400, "PGRST124")
    lenient = Preferences(max_affected=1)
    assert answer(request("DELETE", preferences=lenient), Outcome(2, 2, None)).status == 204


def test_functions_may_set_status_and_headers() -> None:
    found = answer(request(is_function=True), Outcome(None, 1, b"1", None, '[{"X-A":"b"}]', "202"))
    assert found.status == 202
    assert ("X-A", "b") in found.headers


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ("{", None, "PGRST111"),
        ('[{"X":1}]', None, "PGRST111"),
        ('[{"X":"a\\r\\nb"}]', None, "PGRST111"),
        (None, "9", "PGRST112"),
    ],
)
def test_nonsense_set_by_functions(headers: str | None, status: str | None, code: str) -> None:
    with pytest.raises(RestError) as caught:
        answer(request(is_function=True), Outcome(None, 1, b"1", None, headers, status))
    assert (caught.value.status, caught.value.code) == (500, code)


@pytest.mark.parametrize(
    ("sqlstate", "message", "anonymous", "status"),
    [
        ("23503", "fk", False, 409),
        ("23505", "unique", False, 409),
        ("42501", "denied", False, 403),
        ("42501", "denied", True, 401),
        ("42P01", "no table", False, 404),
        ("42883", "no function", False, 404),
        ("25006", "read only", False, 405),
        ("P0001", "raised", False, 400),
        ("P0002", "no data", False, 500),
        ("PT402", "pay", False, 402),
        ("PTxxx", "what", False, 500),
        ("08006", "gone", False, 503),
        ("53300", "too many", False, 503),
        ("40001", "serialise", False, 500),
        ("57014", "cancelled", False, 500),
        ("22P02", "bad input", False, 400),
        ("22023", 'role "x" does not exist', False, 401),
        ("21000", "DELETE requires a WHERE clause", False, 400),
        ("21000", "more than one row", False, 500),
    ],
)
def test_sqlstates(sqlstate: str, message: str, *, anonymous: bool, status: int) -> None:
    found = from_database(DatabaseReport(sqlstate, message), anonymous=anonymous)
    assert (found.status, found.code, found.message) == (status, sqlstate, message)


def test_functions_may_raise_a_whole_answer() -> None:
    message = '{"code":"1","message":"m","hint":"h"}'
    found = from_database(
        DatabaseReport("PGRST", message, '{"status":402,"headers":{"A":"b"}}'), anonymous=False
    )
    assert (found.status, found.code, found.hint, found.headers) == (402, "1", "h", (("A", "b"),))
    for details in (None, "{}", '{"status":1,"headers":{}}', "[]"):
        assert from_database(DatabaseReport("PGRST", message, details), anonymous=False).code == "PGRST121"


def test_an_error_has_all_four_keys() -> None:
    assert json.loads(DatabaseAway("gone").body()).keys() == {"code", "details", "hint", "message"}
