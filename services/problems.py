"""Errors as RFC 9457 problem details: what happened, where, what to do next; and the table of their types."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"

_log = logging.getLogger(__name__)


class Kind(StrEnum):
    """The types of problem: the end of their ``type``, ``urn:crossfade:problem:...``; docs/query.md has them all."""

    INVALID_REQUEST = "invalid-request"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not-found"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    CONFLICT = "conflict"
    TOO_SLOW = "too-slow"
    TOO_LARGE = "too-large"
    TOO_MANY = "too-many"
    INTERNAL = "internal"
    DATABASE_AWAY = "database-away"
    DATABASE_NOT_READY = "database-not-ready"
    NOT_KEPT = "not-kept"
    TOO_MUCH = "too-much"
    ENGINE_AWAY = "engine-away"
    UNCONFIRMED = "unconfirmed"


_STATUS: Mapping[Kind, HTTPStatus] = {
    Kind.INVALID_REQUEST: HTTPStatus.BAD_REQUEST,
    Kind.UNAUTHORIZED: HTTPStatus.UNAUTHORIZED,
    Kind.FORBIDDEN: HTTPStatus.FORBIDDEN,
    Kind.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Kind.METHOD_NOT_ALLOWED: HTTPStatus.METHOD_NOT_ALLOWED,
    Kind.CONFLICT: HTTPStatus.CONFLICT,
    Kind.TOO_SLOW: HTTPStatus.REQUEST_TIMEOUT,
    Kind.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Kind.TOO_MANY: HTTPStatus.TOO_MANY_REQUESTS,
    Kind.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
    Kind.DATABASE_AWAY: HTTPStatus.SERVICE_UNAVAILABLE,
    Kind.DATABASE_NOT_READY: HTTPStatus.SERVICE_UNAVAILABLE,
    Kind.NOT_KEPT: HTTPStatus.SERVICE_UNAVAILABLE,
    Kind.TOO_MUCH: HTTPStatus.SERVICE_UNAVAILABLE,
    Kind.ENGINE_AWAY: HTTPStatus.SERVICE_UNAVAILABLE,
    Kind.UNCONFIRMED: HTTPStatus.GATEWAY_TIMEOUT,
}
_AGAIN_SECONDS: Mapping[HTTPStatus, str] = {
    HTTPStatus.SERVICE_UNAVAILABLE: "5",
    HTTPStatus.TOO_MANY_REQUESTS: "5",
}
"""When to ask again (RFC 9110, 10.2.3), where whoever raised the problem knows no better."""
_BY_STATUS = {
    HTTPStatus.NOT_FOUND: Kind.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED: Kind.METHOD_NOT_ALLOWED,
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong with a request: ``at`` is a JSON pointer into the body, or ``query NAME``."""

    at: str
    detail: str


class Problem(Exception):  # noqa: N818 - RFC 9457's word
    """A request that cannot be answered; raised anywhere below an application, turned into its answer here."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        mistakes: Sequence[Mistake] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.mistakes = tuple(mistakes)
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """Return the answer."""
        status = _STATUS[self.kind]
        body: dict[str, Any] = {
            "type": f"urn:crossfade:problem:{self.kind}",
            "title": status.phrase,
            "status": status.value,
            "detail": self.detail,
        }
        if self.mistakes:
            body["errors"] = [{"at": mistake.at, "detail": mistake.detail} for mistake in self.mistakes]
        headers = dict(self.headers)
        if (again := _AGAIN_SECONDS.get(status)) is not None:
            headers.setdefault("Retry-After", again)
        return Response(orjson.dumps(body), status, headers, MEDIA_TYPE)


def invalid(at: str, detail: str) -> Problem:
    """Return the problem of a request with one mistake."""
    return Problem(Kind.INVALID_REQUEST, f"{at}: {detail}", mistakes=(Mistake(at, detail),))


def install(app: FastAPI) -> None:
    """Make every error of an application a problem."""

    async def known(_: Request, error: Exception) -> Response:
        return error.response() if isinstance(error, Problem) else await unknown(_, error)

    async def malformed(_: Request, error: Exception) -> Response:
        found = error.errors() if isinstance(error, RequestValidationError) else ()
        mistakes = tuple(Mistake(_place(each["loc"]), str(each["msg"])) for each in found)
        detail = "; ".join(f"{mistake.at}: {mistake.detail}" for mistake in mistakes)
        return Problem(Kind.INVALID_REQUEST, detail, mistakes=mistakes).response()

    async def of_the_framework(_: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            return await unknown(_, error)
        kind = _BY_STATUS.get(HTTPStatus(error.status_code), Kind.INVALID_REQUEST)
        return Problem(kind, str(error.detail), headers=error.headers).response()

    async def unknown(request: Request, error: Exception) -> Response:
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return Problem(Kind.INTERNAL, "something went wrong here; the service's log says what").response()

    app.add_exception_handler(Problem, known)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(HTTPException, of_the_framework)
    app.add_exception_handler(Exception, unknown)


def _place(location: Sequence[int | str]) -> str:
    """Return where a mistake is: a JSON pointer (RFC 6901) into the body, or the name of a parameter."""
    where, *path = location
    if where == "body":
        return "/" + "/".join(str(step).replace("~", "~0").replace("/", "~1") for step in path)
    return " ".join(map(str, (where, *path)))
