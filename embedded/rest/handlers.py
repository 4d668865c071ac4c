"""The aiohttp shell of the REST endpoint: reads the request, asks the pure parts and the database, answers."""

from __future__ import annotations

import json
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from aiohttp import web

from embedded.rest import errors
from embedded.rest.auth import authenticate
from embedded.rest.database import RequestContext
from embedded.rest.parse import parse_request
from embedded.rest.responses import answer
from embedded.rest.statements import build_statement

if TYPE_CHECKING:
    from embedded.rest.auth import Caller, ProjectKeys
    from embedded.rest.database import Database
    from embedded.rest.model import Request
    from embedded.rest.responses import Answer

_logger = logging.getLogger(__name__)

PREFIX: Final = "/rest/v1"
DEFAULT_MAX_ROWS: Final = 1000  # of hosted projects and of the Supabase CLI


class RestHandlers:
    """Answers `/rest/v1/*`."""

    def __init__(
        self,
        database: Database,
        keys: ProjectKeys,
        *,
        schemas: tuple[str, ...] = ("public",),
        max_rows: int | None = DEFAULT_MAX_ROWS,
    ) -> None:
        self._database = database
        self._keys = keys
        self._schemas = schemas
        self._max_rows = max_rows

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request; whatever goes wrong is said in PostgREST's form."""
        try:
            found = await self._answer(request)
        except errors.RestError as error:
            return error_response(error, request.method)
        except web.HTTPRequestEntityTooLarge as error:
            too_large = errors.RestError(413, "PGRST102", "Request body is too large", details=error.text)
            return error_response(too_large, request.method)
        except Exception:
            _logger.exception("REST could not answer %s %s", request.method, request.path)
            unexpected = errors.RestError(
                500, "PGRSTX00", "The embedded server failed to answer", hint="Its log says why."
            )
            return error_response(unexpected, request.method)
        return web.Response(status=found.status, headers=found.headers, body=found.body)

    async def _answer(self, request: web.Request) -> Answer:
        apikey = request.headers.get("apikey") or request.query.get("apikey")
        caller = authenticate(request.headers.get("Authorization"), apikey, self._keys)
        headers = _lower_case(request)
        path = request.rel_url.raw_path.removeprefix(PREFIX)
        parsed = parse_request(
            request.method,
            path,
            request.rel_url.raw_query_string,
            headers,
            await request.read() if request.can_read_body else b"",
            schemas=self._schemas,
        )
        context = _context(request, caller, parsed, path, headers)
        return await self._run(parsed, context)

    async def _run(self, parsed: Request, context: RequestContext) -> Answer:
        """Run a request; when the schema cache turns out to be old, once more with a new one."""
        finish = partial(answer, parsed)
        cache = self._database.cache
        statement = None
        try:
            statement = build_statement(parsed, cache, max_rows=self._max_rows)
            return await self._database.run(context, statement, finish)
        except (errors.SchemaMiss, errors.StaleStatement) as error:
            # worth waiting for a new cache, unless the refusal may come from inside a function again and again
            wait = isinstance(error, errors.SchemaMiss) or not parsed.is_function
            if not await self._database.refresh(cache, wait=wait):
                raise
            again = build_statement(parsed, self._database.cache, max_rows=self._max_rows)
            if again == statement:
                raise
        return await self._database.run(context, again, finish)


def _lower_case(request: web.Request) -> dict[str, str]:
    """Return the headers by lower-case name, repeated ones joined (RFC 9110, 5.3)."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        key = name.lower()
        # aiohttp keeps bytes that are not UTF-8 as lone surrogates, which PostgreSQL would refuse
        text = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def _context(
    request: web.Request, caller: Caller, parsed: Request, path: str, headers: dict[str, str]
) -> RequestContext:
    return RequestContext(
        caller=caller,
        schema=parsed.schema,
        method=request.method,
        path=path,
        headers=json.dumps(headers),
        cookies=json.dumps(dict(request.cookies)),
    )


def error_response(error: errors.RestError, method: str) -> web.Response:
    """Return an error as PostgREST sends it."""
    headers = [("Proxy-Status", f"PostgREST; error={error.code}"), *error.headers]
    if method == "HEAD":
        return web.Response(status=error.status, headers=headers)
    headers.append(("Content-Type", "application/json; charset=utf-8"))
    return web.Response(status=error.status, headers=headers, body=error.body())
