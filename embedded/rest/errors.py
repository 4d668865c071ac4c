"""Errors in PostgREST's form: a status, and a JSON object of code, details, hint and message.

    RestError
    ├── ParseError        the request cannot be understood (PGRST100, PGRST102, ...)
    ├── SchemaMiss        a name is not in the schema cache; a newer cache may have it
    ├── StaleStatement    PostgreSQL does not know a name that the schema cache does
    └── DatabaseAway      PostgreSQL cannot be reached now

Codes and texts: https://docs.postgrest.org/en/stable/references/errors.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from embedded.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Iterable

_RETRY_AFTER_SECONDS = "1"
_STATUS_CODES = range(100, 600)


class RestError(EmbeddedError):
    """An answer other than success, ready to be sent."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: str | None = None,
        hint: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.hint = hint
        self.headers = headers

    def body(self) -> bytes:
        """Return the JSON object that PostgREST would send; all four keys are always there."""
        return json.dumps(
            {"code": self.code, "details": self.details, "hint": self.hint, "message": self.message},
            ensure_ascii=True,
        ).encode()


class ParseError(RestError):
    """The request cannot be understood; nothing was asked of the database."""


class SchemaMiss(RestError):  # noqa: N818 - it is a miss first, and an error only if a newer cache misses too
    """A name that the request uses is not in the schema cache."""


class StaleStatement(RestError):  # noqa: N818 - says what may be the matter
    """PostgreSQL refused a name or a type: perhaps the schema cache is older than the schema."""

    def __init__(self, answer: RestError) -> None:
        super().__init__(
            answer.status,
            answer.code,
            answer.message,
            details=answer.details,
            hint=answer.hint,
            headers=answer.headers,
        )


class DatabaseAway(RestError):  # noqa: N818 - says what is the matter
    """PostgreSQL cannot be reached; the request was not carried out, or its outcome is unknown."""

    def __init__(self, details: str) -> None:
        super().__init__(
            503,
            "PGRST001",
            "Database client error. Retrying the connection.",
            details=details,
            hint="PostgreSQL is away; the embedded server reconnects by itself. Try again.",
            headers=(("Retry-After", _RETRY_AFTER_SECONDS),),
        )


# -- what the request says -------------------------------------------------------------------------


def bad_parameter(parameter: str, text: str, position: int, expected: str) -> ParseError:
    """Return PGRST100; `position` counts characters of `text` from 0."""
    found = f'unexpected "{text[position]}"' if position < len(text) else "unexpected end of input"
    return ParseError(
        400,
        "PGRST100",
        f'"failed to parse {parameter} ({text})" (line 1, column {position + 1})',
        details=f"{found} expecting {expected}",
    )


def bad_body(message: str, details: str | None = None) -> ParseError:
    """Return PGRST102: the body is not what the method takes."""
    return ParseError(400, "PGRST102", message, details=details)


def bad_range(details: str) -> ParseError:
    """Return PGRST103 for a window no result could have."""
    return ParseError(416, "PGRST103", "Requested range not satisfiable", details=details)


def not_supported(feature: str) -> ParseError:
    """Return PGRST127 for what PostgREST can and this server cannot."""
    return ParseError(
        400,
        "PGRST127",
        "Feature not implemented",
        details=f"{feature} is not supported by the embedded server.",
        hint="See docs/embedded-supabase.md for what is; a hosted or self-hosted Supabase has all of PostgREST.",
    )


def bad_schema(schema: str, exposed: Iterable[str]) -> ParseError:
    """Return PGRST106: the profile header names a schema that is not exposed."""
    return ParseError(
        406,
        "PGRST106",
        f"Invalid schema: {schema}",
        hint=f"Only the following schemas are exposed: {', '.join(exposed)}",
    )


def bad_media_type(accept: str, details: str | None = None) -> ParseError:
    """Return PGRST107: nothing in the Accept header can be produced."""
    return ParseError(406, "PGRST107", f"None of these media types are available: {accept}", details=details)


def bad_path() -> ParseError:
    """Return PGRST125: the path is neither a table nor a function."""
    return ParseError(404, "PGRST125", "Invalid path specified in request URL")


def bad_method(method: str) -> ParseError:
    """Return PGRST117: the method has no meaning here."""
    return ParseError(405, "PGRST117", f"Unsupported HTTP method: {method}")


def bad_preferences(preferences: Iterable[str]) -> ParseError:
    """Return PGRST122: `handling=strict` and a preference that is unknown."""
    return ParseError(
        400,
        "PGRST122",
        "Invalid preferences given with handling=strict",
        details=f"Invalid preferences: {', '.join(preferences)}",
    )


# -- what the database has ---------------------------------------------------------------------------


def _did_you_mean(kind: str, schema: str, name: str, known: Iterable[str]) -> str | None:
    close = get_close_matches(name, list(known), n=1)
    return f"Perhaps you meant {kind} '{schema}.{close[0]}'" if close else None


def no_table(schema: str, name: str, known: Iterable[str]) -> SchemaMiss:
    """Return PGRST205."""
    return SchemaMiss(
        404,
        "PGRST205",
        f"Could not find the table '{schema}.{name}' in the schema cache",
        hint=_did_you_mean("the table", schema, name, known),
    )


def no_function(schema: str, name: str, arguments: Iterable[str], known: Iterable[str]) -> SchemaMiss:
    """Return PGRST202."""
    names = ", ".join(arguments)
    called = f"{schema}.{name}"
    with_names = (
        f"with parameter{'s' if ',' in names else ''} {names} or with a single unnamed json/jsonb parameter"
        if names
        else "without parameters"
    )
    return SchemaMiss(
        404,
        "PGRST202",
        f"Could not find the function {called}{f'({names})' if names else ' without parameters'} in the schema cache",
        details=f"Searched for the function {called} {with_names}, but no matches were found in the schema cache.",
        hint=_did_you_mean("to call the function", schema, name, known),
    )


def ambiguous_function(signatures: Iterable[str]) -> RestError:
    """Return PGRST203: more than one function takes these arguments."""
    return RestError(
        300,
        "PGRST203",
        f"Could not choose the best candidate function between: {', '.join(signatures)}",
        hint=(
            "Try renaming the parameters or the function itself in the database"
            " so function overloading can be resolved"
        ),
    )


def no_payload_column(table: str, column: str) -> SchemaMiss:
    """Return PGRST204: the payload, or `columns`, names a column the table does not have."""
    return SchemaMiss(
        400, "PGRST204", f"Could not find the '{column}' column of '{table}' in the schema cache"
    )


def no_column(relation: str, column: str, known: Iterable[str]) -> SchemaMiss:
    """Return 42703 as PostgreSQL words it: the query names a column the relation does not have."""
    close = get_close_matches(column, list(known), n=1)
    hint = f'Perhaps you meant to reference the column "{relation}.{close[0]}".' if close else None
    return SchemaMiss(400, "42703", f"column {relation}.{column} does not exist", hint=hint)


def no_type(name: str) -> SchemaMiss:
    """Return 42704 as PostgreSQL words it: a cast names no type."""
    return SchemaMiss(400, "42704", f'type "{name}" does not exist')


def missing_where(command: str) -> RestError:
    """Return 21000, what the safeupdate extension of a hosted project answers."""
    return RestError(400, "21000", f"{command} requires a WHERE clause")


def not_single(rows: int) -> RestError:
    """Return PGRST116: a single object was asked for."""
    return RestError(
        406,
        "PGRST116",
        "Cannot coerce the result to a single JSON object",
        details=f"The result contains {rows} rows",
    )


def too_many_affected(rows: int) -> RestError:
    """Return PGRST124: `handling=strict,max-affected=N` and more than N rows."""
    return RestError(
        400,
        "PGRST124",
        "Query result exceeds max-affected preference constraint",
        details=f"The query affects {rows} rows",
    )


def pool_exhausted() -> RestError:
    """Return PGRST003: no connection became free in time."""
    return RestError(
        504,
        "PGRST003",
        "Timed out acquiring connection from connection pool.",
        headers=(("Retry-After", _RETRY_AFTER_SECONDS),),
    )


def bad_response_setting(which: str) -> RestError:
    """Return PGRST111 or PGRST112: a function set `response.headers` or `response.status` to nonsense."""
    if which == "headers":
        text = "response.headers guc must be a JSON array composed of objects with a single key and a string value"
        return RestError(500, "PGRST111", text)
    return RestError(500, "PGRST112", "response.status guc must be a valid status code")


# -- who is asking ----------------------------------------------------------------------------------


def bad_token(message: str, *, code: str = "PGRST301", details: str | None = None) -> RestError:
    """Return 401 for a token that cannot be trusted (PGRST301) or whose claims do not hold (PGRST303)."""
    challenge = f'Bearer error="invalid_token", error_description="{message}"'
    return RestError(401, code, message, details=details, headers=(("WWW-Authenticate", challenge),))


def no_api_key() -> RestError:
    """Return 401 as the gateway of a hosted project does when a request brings no key at all."""
    return RestError(
        401,
        "PGRST302",
        "No API key found in request",
        hint="No `apikey` request header or url param was found.",
        headers=(("WWW-Authenticate", "Bearer"),),
    )


def bad_api_key() -> RestError:
    """Return 401 as the gateway of a hosted project does for a key it did not hand out."""
    return RestError(
        401,
        "PGRST301",
        "Invalid API key",
        hint="Double check your Supabase `anon` or `service_role` API key.",
        headers=(("WWW-Authenticate", "Bearer"),),
    )


# -- what PostgreSQL says -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DatabaseReport:
    """An error report of PostgreSQL."""

    sqlstate: str
    message: str
    details: str | None = None
    hint: str | None = None


# Exact SQLSTATEs, then classes by prefix; the longest match wins. Anything else is 400.
_STATUS_OF_SQLSTATE: dict[str, int] = {
    "08": 503,
    "09": 500,
    "0L": 403,
    "0P": 403,
    "21000": 500,
    "23503": 409,
    "23505": 409,
    "25": 500,
    "25006": 405,
    "28": 403,
    "2D": 500,
    "38": 500,
    "39": 500,
    "3B": 500,
    "40": 500,
    "42883": 404,
    "42P01": 404,
    "42P17": 500,
    "53": 503,
    "53400": 500,
    "54": 500,
    "55": 500,
    "57": 500,
    "57P01": 503,
    "58": 500,
    "F0": 500,
    "HV": 500,
    "P0": 500,
    "P0001": 400,
    "XX": 500,
}


def status_of(error: DatabaseReport, *, anonymous: bool) -> int:
    """Return the HTTP status PostgREST gives to an error of PostgreSQL."""
    state = error.sqlstate
    if state == "42501":
        return 401 if anonymous else 403
    if state == "22023" and error.message.startswith("role") and error.message.endswith("does not exist"):
        return 401
    if state == "21000" and error.message.endswith("requires a WHERE clause"):
        return 400
    if state.startswith("PT"):
        wished = int(state[2:]) if state[2:].isdecimal() else 0
        return wished if wished in _STATUS_CODES else 500
    for length in (5, 2):
        if (status := _STATUS_OF_SQLSTATE.get(state[:length])) is not None:
            return status
    return 400


def from_database(error: DatabaseReport, *, anonymous: bool) -> RestError:
    """Return PostgreSQL's report as PostgREST would send it."""
    if error.sqlstate == "PGRST":
        return _raised_by_function(error)
    status = status_of(error, anonymous=anonymous)
    headers = (("WWW-Authenticate", "Bearer"),) if status == 401 else ()  # noqa: PLR2004 - HTTP's own number
    return RestError(
        status, error.sqlstate, error.message, details=error.details, hint=error.hint, headers=headers
    )


def _raised_by_function(error: DatabaseReport) -> RestError:
    """Return what a function asked for by `raise sqlstate 'PGRST'`: its own status, headers and body."""
    try:
        body = json.loads(error.message)
        wished = json.loads(error.details or "")
        status = int(wished["status"])
        if status not in _STATUS_CODES:
            raise ValueError(status)  # noqa: TRY301 - one handler for every malformed wish
        return RestError(
            status,
            str(body["code"]),
            str(body["message"]),
            details=body.get("details"),
            hint=body.get("hint"),
            headers=tuple((str(name), str(value)) for name, value in dict(wished["headers"]).items()),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return RestError(
            500,
            "PGRST121",
            "Could not parse JSON in the \"RAISE SQLSTATE 'PGRST'\" error",
            details="MESSAGE or DETAIL is not the JSON object it has to be",
            hint=(
                "MESSAGE must be a JSON object with obligatory keys: 'code', 'message' and optional keys:"
                " 'details', 'hint'. DETAIL must be a JSON object with obligatory keys: 'status', 'headers'."
            ),
        )
