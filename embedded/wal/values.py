"""Column values as PostgreSQL prints them, turned into the JSON that Supabase Realtime sends.

Realtime reads wal2json and casts each value with ``to_jsonb(text::type)``; the result was measured on the real server
(v2.129.8). Two sets of rules follow from that: a column's own value passed through wal2json, which writes NaN and the
infinities as null and bytea without its prefix; inside arrays, domains and row types only ``to_jsonb`` applies.
The input must be printed with TimeZone UTC, DateStyle ISO and bytea_output hex. Pure functions.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from json.encoder import encode_basestring as quote
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from embedded.wal.types import PgType

    Encoder = Callable[[str], str]

# PostgreSQL's numeric holds 131,072 digits before the point; longer is no number there, and would fill our memory
_LARGEST_EXPONENT = 131_072
_NOT_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})
_BOX_ARRAY_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|([{}])|([^{}";]+)|(;)', re.DOTALL)
_COMMA_ARRAY_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|([{}])|([^{}",]+)|(,)', re.DOTALL)
_DIMENSIONS = re.compile(r"(?:\[-?\d+:-?\d+\])+=")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ROW_FIELD = re.compile(r'"((?:[^"\\]|\\.|"")*)"|([^,()"\\]*)', re.DOTALL)
_ROW_ESCAPED = re.compile(r'\\(.)|"(")', re.DOTALL)


class _UnparsableError(ValueError):
    """A text is not what its type says (the type changed since, or is one we do not know); it passes as a string."""


def jsonb_key_order(name: str) -> tuple[int, bytes]:
    """Sort key that puts the keys of an object as jsonb does: shorter ones first, equally long ones by bytes."""
    encoded = name.encode("utf-8", "surrogatepass")
    return len(encoded), encoded


def is_json_already(pg_type: PgType) -> bool:
    """Whether what PostgreSQL prints for a column of this type is its JSON as it stands."""
    return pg_type.shape in ("integer", "jsonb")


def column_encoder(pg_type: PgType) -> Encoder:
    """Return the function that turns a column's text into JSON text; it accepts any text and never raises."""
    if pg_type.shape == "bytea":
        return _bytea
    if pg_type.shape == "number":
        return _column_number
    return _encoder(pg_type)


def _encoder(pg_type: PgType) -> Encoder:
    """Return the ``to_jsonb`` of a type.

    The real server casts by the type's name alone, so that of char(5) and bit(4) only the first character arrives;
    that loses data, and is not imitated.
    """
    if pg_type.element is not None:
        return _array_encoder(pg_type.element)
    if pg_type.base is not None:
        return _encoder(pg_type.base)
    if pg_type.fields is not None:
        return _row_encoder(pg_type.fields)
    return _PLAIN.get(pg_type.shape, quote)


def _bytea(text: str) -> str:
    return quote(text.removeprefix("\\x"))


def _bool(text: str) -> str:
    return "true" if text == "t" else "false"


def _timestamp(text: str) -> str:
    return quote(text.replace(" ", "T", 1)) if text[:1].isdigit() else quote(text)


def _timestamptz(text: str) -> str:
    """``2024-05-06 05:08:09+00 BC`` to ``2024-05-06T05:08:09+00:00 BC``; infinity stays."""
    if text[10:11] == " " and text.endswith("+00"):  # all but years beyond 9999 and before Christ
        return f'"{text[:10]}T{text[11:]}:00"'
    if not text[:1].isdigit():
        return quote(text)
    moment, space, era = text.replace(" ", "T", 1).partition(" ")
    minutes = ":00" if moment[-3:-2] in ("+", "-") else ""
    return quote(f"{moment}{minutes}{space}{era}")


def _column_number(text: str) -> str:
    return "null" if text in _NOT_FINITE else _number(text)


def _number(text: str) -> str:
    """All digits of a number, as numeric prints them: no exponent, no negative zero. NaN and Infinity as strings."""
    if text in _NOT_FINITE:
        return quote(text)
    if "e" not in text and "E" not in text:
        return text.removeprefix("-") if text.startswith("-0") and not text.strip("-0.") else text
    try:
        number = Decimal(text)
    except InvalidOperation:
        return quote(text)
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or abs(exponent) > _LARGEST_EXPONENT:
        return "null"
    return format(number.copy_abs() if number.is_zero() else number, "f")


class _Digits(str):
    """A number inside a json value, kept as it was written."""

    __slots__ = ()


def _reject_constant(name: str) -> None:
    raise ValueError(name)


def _json(text: str) -> str:
    """A json value as jsonb prints it: one space after ``:`` and ``,``, keys in order, the last of duplicates."""
    try:
        loaded = json.loads(text, parse_int=_Digits, parse_float=_Digits, parse_constant=_reject_constant)
        return _jsonb_text(loaded)
    except (ValueError, RecursionError):
        return (
            text  # it was valid for PostgreSQL, so it is JSON: too deep or out of range, it passes as it is
        )


def _jsonb_text(value: Any) -> str:
    if isinstance(value, _Digits):
        return _number(value)
    if isinstance(value, str):
        return quote(value) if value.isascii() else _quote_surrogates(value)
    if isinstance(value, dict):
        keys = sorted(value, key=jsonb_key_order)
        return _object((_quote_surrogates(key), _jsonb_text(value[key])) for key in keys)
    if isinstance(value, list):
        return "[" + ", ".join(map(_jsonb_text, value)) + "]"
    return "null" if value is None else "true" if value else "false"


def _quote_surrogates(value: str) -> str:
    """Quote a string that json escapes may have given half a surrogate pair, which UTF-8 cannot carry."""
    quoted: str = quote(value)
    try:
        quoted.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value)
    return quoted


def _object(members: Iterable[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in members) + "}"


def _array_encoder(element: PgType) -> Encoder:
    encode = _encoder(element)
    token = _BOX_ARRAY_TOKEN if element.delimiter == ";" else _COMMA_ARRAY_TOKEN

    def encode_array(text: str) -> str:
        try:
            return _array(text, token, encode)
        except _UnparsableError:
            return str(quote(text))

    return encode_array


def _array(text: str, token: re.Pattern[str], encode: Encoder) -> str:
    """Translate an array literal token by token: its braces and delimiters stand where JSON's do."""
    dimensions = _DIMENSIONS.match(text)
    position = dimensions.end() if dimensions else 0
    parts: list[str] = []
    depth = 0
    while position < len(text):
        found = token.match(text, position)
        if found is None or (depth == 0 and (parts or found[2] != "{")):
            raise _UnparsableError
        position = found.end()
        quoted, brace, bare, _delimiter = found.groups()
        if brace is not None:
            depth += 1 if brace == "{" else -1
            parts.append("[" if brace == "{" else "]")
        elif quoted is not None:
            parts.append(encode(_ESCAPED.sub(r"\1", quoted)))
        elif bare is not None:
            parts.append("null" if bare == "NULL" else encode(bare))
        else:
            parts.append(", ")
    if depth or not parts:
        raise _UnparsableError
    return "".join(parts)


def _row_encoder(fields: tuple[tuple[str, PgType], ...]) -> Encoder:
    encoders = [_encoder(pg_type) for _name, pg_type in fields]
    names = [quote(name) for name, _pg_type in fields]
    order = sorted(range(len(fields)), key=lambda index: jsonb_key_order(fields[index][0]))

    def encode_row(text: str) -> str:
        try:
            values = _row(text)
        except _UnparsableError:
            return str(quote(text))
        if len(values) != len(encoders):
            return "{}" if not encoders else str(quote(text))
        encoded = [
            "null" if value is None else encode(value) for value, encode in zip(values, encoders, strict=True)
        ]
        return _object((names[index], encoded[index]) for index in order)

    return encode_row


def _row(text: str) -> list[str | None]:
    """Split a row literal into its fields; an empty one is NULL, an empty string is quoted."""
    if not (text.startswith("(") and text.endswith(")")):
        raise _UnparsableError
    values: list[str | None] = []
    position, end = 1, len(text) - 1
    while True:
        found = _ROW_FIELD.match(text, position, end)
        if found is None:
            raise _UnparsableError
        quoted, bare = found.groups()
        values.append(_ROW_ESCAPED.sub(_unescaped, quoted) if quoted is not None else bare or None)
        position = found.end()
        if position == end:
            return values
        if text[position] != ",":
            raise _UnparsableError
        position += 1


def _unescaped(found: re.Match[str]) -> str:
    return found[1] if found[1] is not None else '"'


_PLAIN: dict[str, Encoder] = {
    "integer": str,
    "number": _number,
    "bool": _bool,
    "json": _json,
    "jsonb": str,
    "timestamp": _timestamp,
    "timestamptz": _timestamptz,
}
