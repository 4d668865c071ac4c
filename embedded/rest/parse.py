"""Turns the URL, headers and body of a request into a frozen `Request`, or raises `ParseError`.

Pure: knows PostgREST's grammar and nothing of the database. Grammar and headers:
https://docs.postgrest.org/en/stable/references/api/tables_views.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qsl, unquote

import orjson

from embedded.rest import errors
from embedded.rest.conditions import parse_filter, parse_logic
from embedded.rest.model import (
    Media,
    Method,
    OrderTerm,
    Payload,
    Preferences,
    Request,
    SelectColumn,
    SelectItem,
    Star,
    Window,
)
from embedded.rest.scanner import Scanner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from embedded.rest.model import Condition

_MAX_PARAMETERS: Final = 1000
_MAX_DIGITS: Final = 18  # any number of so many digits fits a bigint
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PATCH", "DELETE"})
_LOGIC_KEYS: Final = frozenset({"and", "or", "not.and", "not.or"})
_WINDOW_KEYS: Final = frozenset({"limit", "offset"})
_OWN_KEYS: Final = (
    frozenset({"select", "order", "columns", "on_conflict", "apikey"}) | _LOGIC_KEYS | _WINDOW_KEYS
)
_AGGREGATES: Final = ("avg", "count", "max", "min", "sum")
_RANGE: Final = re.compile(r"\s*(?:[a-zA-Z]+=)?(\d{1,18})-(\d{0,18})\s*")
_JSON_TYPES: Final = frozenset(
    {
        "",
        "application/json",
        "application/vnd.pgrst.array",
        "application/vnd.pgrst.array+json",
        "application/vnd.pgrst.object",
        "application/vnd.pgrst.object+json",
    }
)
_BODY_TYPES_OF_POSTGREST: Final = frozenset(
    {"text/csv", "application/x-www-form-urlencoded", "application/octet-stream", "text/plain", "text/xml"}
)
_MEDIA_OF_POSTGREST: Final = re.compile(
    r"application/vnd\.pgrst\.plan.*|application/geo\+json|application/openapi\+json"
    r"|application/octet-stream|text/plain|text/xml"
)
_ORDER_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "asc": ("direction", "asc"),
    "desc": ("direction", "desc"),
    "nullsfirst": ("nulls", "first"),
    "nullslast": ("nulls", "last"),
}
_PREFERENCE_VALUES: Final[Mapping[str, tuple[str, frozenset[str]]]] = {
    "return": ("returning", frozenset({"representation", "minimal", "headers-only"})),
    "count": ("count", frozenset({"exact", "planned", "estimated"})),
    "resolution": ("resolution", frozenset({"merge-duplicates", "ignore-duplicates"})),
    "missing": ("missing", frozenset({"default", "null"})),
    "handling": ("handling", frozenset({"strict", "lenient"})),
}


def parse_request(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    schemas: Sequence[str],
) -> Request:
    """Return what a request asks for.

    `path` is what follows `/rest/v1`, still percent-encoded; `query` is the raw query string; `headers` has
    lower-case names; `schemas` are the exposed ones, the default first. Raises `ParseError` and nothing else.
    """
    if method not in _METHODS:
        raise errors.not_supported("PUT") if method == "PUT" else errors.bad_method(method)
    name, is_function = _target(path)
    reads = method in {"GET", "HEAD"}
    if is_function and method in {"PATCH", "DELETE"}:
        raise errors.ParseError(405, "PGRST101", f"Cannot use the {method} method on RPC")
    pairs = _query_pairs(query)
    single_values = {key: value for key, value in reversed(pairs) if key in _OWN_KEYS}
    own = [pair for pair in pairs if pair[0] not in _OWN_KEYS]
    columns = single_values.get("columns")
    conflict = single_values.get("on_conflict")
    return Request(
        method=cast("Method", method),
        schema=_schema(headers.get("accept-profile" if reads else "content-profile"), schemas),
        name=name,
        is_function=is_function,
        select=_select(single_values.get("select")),
        conditions=_conditions(pairs, () if is_function and reads else own),
        order=_order(single_values.get("order")),
        window=_window(single_values, headers.get("range") if reads else None),
        arguments=tuple(own) if is_function and reads else (),
        columns=Scanner("columns parameter", columns).name_list() if columns else None,
        on_conflict=Scanner("on_conflict parameter", conflict).name_list() if conflict else (),
        preferences=parse_preferences(headers.get("prefer", "")),
        media=parse_accept(headers.get("accept", "")),
        payload=_payload(method, headers, body, is_function=is_function, any_keys=bool(columns)),
    )


def _target(path: str) -> tuple[str, bool]:
    try:
        segments = [unquote(part, errors="strict") for part in path.strip("/").split("/")]
    except UnicodeDecodeError:
        raise errors.bad_path() from None
    match segments:
        case [""]:
            raise errors.not_supported("The OpenAPI description at the root")
        case [table] if table:
            return table, False
        case ["rpc", function] if function:
            return function, True
        case _:
            raise errors.bad_path()


def _query_pairs(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS)
    except UnicodeDecodeError:
        raise errors.bad_parameter("query string", query, 0, "percent-encoded UTF-8") from None
    except ValueError:
        raise errors.bad_parameter(
            "query string", query[:80], 0, f"at most {_MAX_PARAMETERS} parameters"
        ) from None


def _schema(profile: str | None, schemas: Sequence[str]) -> str:
    if profile is None:
        return schemas[0]
    if profile not in schemas:
        raise errors.bad_schema(profile, schemas)
    return profile


# -- select, order, window ---------------------------------------------------------------------------


def _select(text: str | None) -> tuple[SelectItem, ...]:
    if text is None:
        return (Star(),)
    if not text.strip():
        return ()
    scanner = Scanner("select parameter", text)
    items = [_select_item(scanner)]
    while scanner.accept(","):
        items.append(_select_item(scanner))
    scanner.finish()
    return tuple(items)


def _select_item(scanner: Scanner) -> SelectItem:
    if scanner.accept("*"):
        return Star()
    if scanner.peek("..."):
        raise errors.not_supported("Spreading an embedded resource (select=...relation(columns))")
    alias = None
    start = scanner.position
    name = scanner.name()
    if scanner.peek(":") and not scanner.peek("::"):
        scanner.expect(":")
        alias = name
        start = scanner.position
        name = scanner.name()
    if name == "count" and scanner.peek("()"):
        raise _aggregate()
    scanner.refuse_embedding()
    scanner.position = start
    field = scanner.field()
    cast_to = None
    if scanner.accept("::"):
        cast_to = scanner.take_while(lambda char: char.isalnum() or char in "_ []").strip()
        if not cast_to:
            raise scanner.wrong("type name")
    if scanner.peek(".") and any(scanner.peek(f".{name}()") for name in _AGGREGATES):
        raise _aggregate()
    return SelectColumn(field, alias, cast_to)


def _aggregate() -> errors.ParseError:
    return errors.ParseError(400, "PGRST123", "Use of aggregate functions is not allowed")


def _order(text: str | None) -> tuple[OrderTerm, ...]:
    if not text:
        return ()
    scanner = Scanner("order parameter", text)
    terms = [_order_term(scanner)]
    while scanner.accept(","):
        terms.append(_order_term(scanner))
    scanner.finish()
    return tuple(terms)


def _order_term(scanner: Scanner) -> OrderTerm:
    field = scanner.field()
    if scanner.peek("("):
        raise errors.not_supported("Ordering by an embedded resource")
    chosen: dict[str, Any] = {}
    while scanner.accept("."):
        word = scanner.take_while(str.isalpha)
        part, value = _ORDER_WORDS.get(word, ("", ""))
        # a direction comes first, and each part once
        if not part or part in chosen or (part == "direction" and chosen):
            raise scanner.wrong('"asc", "desc", "nullsfirst" or "nullslast"')
        chosen[part] = value
    return OrderTerm(field, chosen.get("direction"), chosen.get("nulls"))


def _window(values: Mapping[str, str], range_header: str | None) -> Window:
    offset = _natural("offset", values["offset"]) if "offset" in values else 0
    limit: int | None = None
    if "limit" in values:
        if values["limit"].startswith("-"):
            raise errors.bad_range("Limit should be greater than or equal to zero.")
        limit = _natural("limit", values["limit"])
    if range_header is None or (match := _RANGE.fullmatch(range_header)) is None:
        return Window(offset, limit)  # RFC 9110, 14.2: a Range that cannot be understood is ignored
    first = int(match[1])
    last = int(match[2]) if match[2] else None
    if last is not None and last < first:
        raise errors.bad_range(
            "The lower boundary must be lower than or equal to the upper boundary in the Range header."
        )
    ends = [
        end
        for end in (None if limit is None else offset + limit, None if last is None else last + 1)
        if end is not None
    ]
    start = max(offset, first)
    return Window(start, max(0, min(ends) - start) if ends else None)


def _natural(parameter: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        raise errors.bad_parameter(f"{parameter} parameter", text, 0, "a natural number")
    return int(text)


def _conditions(
    pairs: Sequence[tuple[str, str]], filters: Sequence[tuple[str, str]]
) -> tuple[Condition, ...]:
    logic: list[Condition] = [parse_logic(key, value) for key, value in pairs if key in _LOGIC_KEYS]
    return (*(parse_filter(key, value) for key, value in filters), *logic)


# -- headers -------------------------------------------------------------------------------------------


def parse_preferences(header: str) -> Preferences:
    """Return what the `Prefer` header asks for; what is not known is ignored unless `handling=strict`."""
    chosen: dict[str, Any] = {}
    unknown: list[str] = []
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        name, value = name.strip(), value.strip()
        if name in _PREFERENCE_VALUES and value in _PREFERENCE_VALUES[name][1]:
            chosen.setdefault(_PREFERENCE_VALUES[name][0], value)
        elif name == "max-affected" and value.isascii() and value.isdecimal() and len(value) <= _MAX_DIGITS:
            chosen.setdefault("max_affected", int(value))
        elif name and name not in {"tx", "timezone"}:
            unknown.append(part.strip())
    if unknown and chosen.get("handling") == "strict":
        raise errors.bad_preferences(unknown)
    return Preferences(**chosen)


def parse_accept(header: str) -> Media:
    """Return the best form that the `Accept` header allows (RFC 9110, 12.5.1)."""
    if not header.strip():
        return Media()
    ranked = sorted(_media_ranges(header), key=lambda item: -item[0])
    for quality, name, parameters in ranked:
        if quality <= 0:
            continue
        stripped = parameters.get("nulls") == "stripped"
        if name in {"application/json", "application/*", "*/*"}:
            return Media()
        if name in {"text/csv", "text/*"}:
            return Media(csv=True)
        if name in {"application/vnd.pgrst.object+json", "application/vnd.pgrst.object"}:
            return Media(single=True, strip_nulls=stripped, vendor=True)
        if name in {"application/vnd.pgrst.array+json", "application/vnd.pgrst.array"}:
            return Media(strip_nulls=stripped, vendor=True)
    known = next((name for _, name, _ in ranked if _MEDIA_OF_POSTGREST.fullmatch(name)), None)
    details = f"{known} is not supported by the embedded server; ask for application/json." if known else None
    raise errors.bad_media_type(", ".join(name for _, name, _ in ranked), details)


def _media_ranges(header: str) -> list[tuple[float, str, dict[str, str]]]:
    ranges: list[tuple[float, str, dict[str, str]]] = []
    for part in header.split(","):
        name, *rest = (piece.strip() for piece in part.split(";"))
        parameters = {
            key.strip().lower(): value.strip() for key, _, value in (item.partition("=") for item in rest)
        }
        try:
            quality = float(parameters.get("q", "1"))
        except ValueError:
            quality = 0.0
        if name:
            ranges.append((quality, name.lower(), parameters))
    return ranges


# -- body --------------------------------------------------------------------------------------------


def _payload(
    method: str, headers: Mapping[str, str], body: bytes, *, is_function: bool, any_keys: bool
) -> Payload | None:
    """Return the body of a method that has one; `any_keys` when `columns` says which keys count."""
    if method not in {"POST", "PATCH"}:
        return None
    _require_json(headers.get("content-type", ""))
    if is_function and not body.strip():
        return Payload(b"{}", ())
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise errors.bad_body("Empty or invalid json", str(error)) from None
    if is_function:
        return Payload(body, tuple(content) if isinstance(content, dict) else None)
    if isinstance(content, dict):
        return Payload(b"[" + body + b"]", tuple(content))
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise errors.bad_body("Empty or invalid json", "The body must be an object or an array of objects")
    if method == "PATCH" and len(content) > 1:
        raise errors.bad_body("All object keys must match", "The body of PATCH must be one object")
    keys = tuple(content[0]) if content else ()
    if not any_keys and any(row.keys() != content[0].keys() for row in content):
        raise errors.bad_body("All object keys must match")
    return Payload(body, keys, len(content))


def _require_json(header: str) -> None:
    content_type = header.partition(";")[0].strip().lower()
    if content_type in _JSON_TYPES:
        return
    if content_type in _BODY_TYPES_OF_POSTGREST:
        raise errors.not_supported(f"A body of type {content_type}")
    raise errors.bad_body(f"Content-Type not acceptable: {content_type}")
