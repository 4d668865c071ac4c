"""Comparing a column's value with a filter the way PostgreSQL would.

Values and literals are texts as PostgreSQL prints them (UTC, ISO dates), so most comparisons can be done here
exactly: integers, numeric, floats, booleans, text in a bytewise collation, uuids, dates and timestamps. What
cannot (regular expressions beyond the simplest, other types and collations) is left to SQL: the condition then
has no `test`, and its `sql` is evaluated on the values of a whole transaction at once.

Logic is three-valued: None is SQL's NULL, which never matches, negated or not.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from embedded.phoenix.bindings import like_pattern

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedded.phoenix.filters import Filter

_INTEGERS: Final = {"int2": 15, "int4": 31, "int8": 63}
_TEXTS: Final = frozenset(("text", "varchar", "name"))
_TEXT_COMPATIBLE: Final = _TEXTS | {"bpchar", "citext"}
_AS_TEXT: Final = frozenset(("uuid", "bytea", "time"))  # printed so that bytewise order is their order
_DATES: Final = frozenset(("date", "timestamp", "timestamptz"))
_PATTERNS: Final = frozenset(("like", "ilike", "match", "imatch"))
_SQL_OPERATORS: Final = {
    "eq": "=",
    "neq": "<>",
    "lt": "<",
    "lte": "<=",
    "gt": ">",
    "gte": ">=",
    "isdistinct": "is distinct from",
    "like": "like",
    "ilike": "ilike",
    "match": "~",
    "imatch": "~*",
}
_ORDERINGS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "eq": lambda a, b: bool(a == b),
    "neq": lambda a, b: bool(a != b),
    "lt": lambda a, b: bool(a < b),
    "lte": lambda a, b: bool(a <= b),
    "gt": lambda a, b: bool(a > b),
    "gte": lambda a, b: bool(a >= b),
}
# a regular expression that means the same to PostgreSQL and to Python: literals, dots, stars, outer anchors
_SIMPLE_REGEX: Final = re.compile(r"\^?(?:[A-Za-z0-9_ \-/:,@]|\.\*?)*\$?")
_DATE: Final = re.compile(r"(\d{4,})-(.*?)( BC)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ColumnType:
    """What has to be known of a column to compare it.

    `sql` is the type as it is written in a cast; `plain` says that it is a base type or an enum, no domain;
    `bytewise` that its collation orders by code points; `deterministic` that equal means the same bytes.
    """

    name: str
    sql: str
    plain: bool = True
    enum: bool = False
    bytewise: bool = True
    deterministic: bool = True

    @property
    def text_compatible(self) -> bool:
        """Say whether LIKE and regular expressions apply."""
        return self.name in _TEXT_COMPATIBLE


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Condition:
    """One compiled filter. `test` answers for a value, unless it is None: then `sql` does.

    `sql` is a boolean expression over `u.v` (the value, text), with `$2` standing for `argument`; of NULL it is
    true only if `matches_null`. Compared by identity: whoever compiles keeps one for equal filters.
    Where equality decides, `members` are the values that match, under `key`: whoever has many conditions finds those
    that a value satisfies by looking it up.
    """

    column: str
    test: Callable[[str | None], bool | None] | None
    sql: str
    argument: str | list[str]
    matches_null: bool
    key: Callable[[str], Any] | None = None
    members: frozenset[Any] | None = None


def is_canonical(column: ColumnType, literal: str) -> bool:
    """Say whether the literal is certainly a value of the type, printed as PostgreSQL prints it."""
    if column.plain and column.name in _TEXTS:
        return "\0" not in literal
    if column.plain and column.name in _INTEGERS:
        limit = 1 << _INTEGERS[column.name]
        return bool(re.fullmatch(r"0|-?[1-9][0-9]{0,18}", literal)) and -limit <= int(literal) < limit
    return False


def compile_filter(wanted: Filter, column: ColumnType) -> Condition:
    """Return the condition for a filter whose literals are canonical (see `is_canonical`) and checked."""
    test = _test(wanted, column)
    if test is not None and wanted.negated:
        test = _negation(test)
    argument = list(wanted.values) if wanted.operator == "in" else wanted.values[0]
    matches_null = wanted.operator == "isdistinct" and not wanted.negated
    key = _key(column, equality=True)
    members = None
    if wanted.operator in ("eq", "in") and not wanted.negated and key is not None:
        members = frozenset(map(key, wanted.values))
    return Condition(wanted.column, test, _sql(wanted, column), argument, matches_null, key, members)


def _negation(test: Callable[[str | None], bool | None]) -> Callable[[str | None], bool | None]:
    def negated(value: str | None) -> bool | None:
        result = test(value)
        return None if result is None else not result

    return negated


def _test(wanted: Filter, column: ColumnType) -> Callable[[str | None], bool | None] | None:
    operator = wanted.operator
    if operator == "is":
        return _is(wanted.values[0].lower())
    if operator in _PATTERNS:
        return _pattern(operator, wanted.values[0], column)
    equality = operator in ("eq", "neq", "in", "isdistinct")
    key = _key(column, equality=equality)
    if key is None:
        return None
    if operator == "in":
        members = frozenset(map(key, wanted.values))
        return lambda value: None if value is None else key(value) in members
    literal = key(wanted.values[0])
    if operator == "isdistinct":
        return lambda value: value is None or key(value) != literal
    compare = _ORDERINGS[operator]
    return lambda value: None if value is None else compare(key(value), literal)


def _is(wanted: str) -> Callable[[str | None], bool | None]:
    text = {"true": "t", "false": "f"}.get(wanted)  # null and unknown are both NULL
    return lambda value: value == text


def _pattern(operator: str, pattern: str, column: ColumnType) -> Callable[[str | None], bool | None] | None:
    if not (column.plain and column.name in _TEXTS and column.deterministic):
        return None
    if operator == "like":
        if re.search(r"(?<!\\)(?:\\\\)*\\$", pattern):
            return None  # PostgreSQL raises an error for a lone escape at the end
        regex = like_pattern(pattern)
        return lambda value: None if value is None else regex.fullmatch(value) is not None
    if operator == "match" and _SIMPLE_REGEX.fullmatch(pattern):
        search = re.compile(re.sub(r"\$$", r"\\Z", pattern), re.DOTALL).search
        return lambda value: None if value is None else search(value) is not None
    return None  # case folding beyond ASCII is the database's own


def _key(column: ColumnType, *, equality: bool) -> Callable[[str], Any] | None:
    """Return the function whose values compare as the type does, or None if there is no exact one."""
    name = column.name
    result: Callable[[str], Any] | None = None
    if not column.plain:
        result = None
    elif name in _INTEGERS or name == "oid":
        result = int
    elif name == "numeric":
        result = _numeric_key
    elif name in ("float4", "float8"):
        result = _float_key
    elif name in _DATES:
        result = str if equality else _date_key
    elif name == "bool":
        result = _bool_key
    elif name in _AS_TEXT:
        result = str
    elif name in _TEXTS:
        result = str if (column.deterministic if equality else column.bytewise) else None
    elif column.enum and equality:
        result = str
    return result


def _bool_key(text: str) -> bool:
    return text.startswith(
        "t"
    )  # a value of the stream is t or f, a literal that PostgreSQL has cast true or false


def _numeric_key(text: str) -> tuple[bool, Decimal]:
    number = Decimal(text)
    return (True, Decimal(0)) if number.is_nan() else (False, number)  # NaN equals itself, above all


def _float_key(text: str) -> tuple[bool, float]:
    number = float(text)
    return (True, 0.0) if math.isnan(number) else (False, number)


def _date_key(text: str) -> tuple[float, str]:
    if text in ("infinity", "-infinity"):
        return (float(text), "")
    found = _DATE.fullmatch(text)
    if found is None:
        raise ValueError(f"not a date as PostgreSQL prints it: {text!r}")
    year, rest, before_christ = found.groups()
    return (-int(year) if before_christ else int(year), rest)


def _sql(wanted: Filter, column: ColumnType) -> str:
    value = f"(u.v)::{column.sql}"
    if wanted.operator == "is":
        literal = wanted.values[0].lower()
        expression = f"{value} is {literal}" if literal in ("null", "true", "false", "unknown") else "null"
    elif wanted.operator == "in":
        expression = f"{value} = any(($2::text[])::{column.sql}[])"
    elif wanted.operator in _PATTERNS:
        expression = f"{value} {_SQL_OPERATORS[wanted.operator]} $2::text"
    else:
        expression = f"{value} {_SQL_OPERATORS[wanted.operator]} ($2::text)::{column.sql}"
    return f"not ({expression})" if wanted.negated else expression
