"""Turns the one row a statement returned into status, headers and body.

Pure. Statuses and headers: https://docs.postgrest.org/en/stable/references/api/pagination_count.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedded.rest import errors

if TYPE_CHECKING:
    from embedded.rest.model import Request

_STATUS_CODES = range(200, 600)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The row every statement returns (`statements.OUTCOME_COLUMNS`)."""

    total: int | None
    rows: int
    body: bytes | None
    inserted: int | None = None
    response_headers: str | None = None
    response_status: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""


def answer(request: Request, outcome: Outcome) -> Answer:
    """Return the answer, or raise the error that the rows themselves are (too many, too few).

    Call it before the transaction is committed: an error here has to undo what was done.
    """
    wishes = request.preferences
    changes = not request.is_function and request.method in {"POST", "PATCH", "DELETE"}
    if request.media.single and outcome.rows != 1:
        raise errors.not_single(outcome.rows)
    affected = outcome.total if changes and outcome.total is not None else outcome.rows
    if (
        changes
        and wishes.handling == "strict"
        and wishes.max_affected is not None
        and affected > wishes.max_affected
    ):
        raise errors.too_many_affected(affected)
    total = outcome.total if wishes.count is not None else None
    headers: list[tuple[str, str]] = [("Content-Range", _content_range(request, outcome, total, affected))]
    if applied := wishes.applied():
        headers.append(("Preference-Applied", applied))
    headers.extend(_headers_set_by_function(outcome.response_headers))
    status = _status_set_by_function(outcome.response_status) or _status(request, outcome, total)
    if outcome.body is None:
        if request.method == "HEAD":
            headers.append(("Content-Type", request.media.content_type))
        return Answer(status, tuple(headers))
    headers.append(("Content-Type", request.media.content_type))
    return Answer(status, tuple(headers), outcome.body)


def _status(request: Request, outcome: Outcome, total: int | None) -> int:
    if request.is_function and outcome.body is None and request.method != "HEAD":
        return 204
    if request.is_function or request.method in {"GET", "HEAD"}:
        return _status_of_range(request.window.offset, outcome.rows, total)
    if request.method == "POST":
        return 200 if outcome.inserted == 0 and (outcome.total or 0) > 0 else 201
    return 204 if outcome.body is None else 200


def _status_of_range(offset: int, rows: int, total: int | None) -> int:
    """Return 200, or 206 when it is known that rows were left out; a window beyond the end is refused."""
    if total is None:
        return 200
    if offset > total:
        raise errors.bad_range(f"An offset of {offset} was requested, but there are only {total} rows.")
    return 206 if rows < total else 200


def _content_range(request: Request, outcome: Outcome, total: int | None, affected: int) -> str:
    known = "*" if total is None else str(total)
    if not request.is_function and request.method in {"POST", "DELETE"}:
        return f"*/{known}"
    first, rows = (
        (0, affected)
        if request.method == "PATCH" and not request.is_function
        else (request.window.offset, outcome.rows)
    )
    return f"{first}-{first + rows - 1}/{known}" if rows > 0 else f"*/{known}"


def _headers_set_by_function(text: str | None) -> list[tuple[str, str]]:
    """Return what a function put into the setting `response.headers`."""
    if text is None:
        return []
    try:
        pairs = [(str(name), value) for item in json.loads(text) for name, value in item.items()]
    except (ValueError, TypeError, AttributeError):
        raise errors.bad_response_setting("headers") from None
    if any(
        not isinstance(value, str) or "\n" in f"{name}{value}" or "\r" in f"{name}{value}"
        for name, value in pairs
    ):
        raise errors.bad_response_setting("headers")
    return pairs


def _status_set_by_function(text: str | None) -> int | None:
    """Return what a function put into the setting `response.status`."""
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and int(text) in _STATUS_CODES):
        raise errors.bad_response_setting("status")
    return int(text)
