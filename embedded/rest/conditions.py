"""Parses conditions: `column=operator.value` and the trees in `and=(...)` and `or=(...)`.

Pure. Operators: https://docs.postgrest.org/en/stable/references/api/tables_views.html#operators
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal, cast

from embedded.rest.errors import bad_parameter, not_supported
from embedded.rest.model import Condition, Field, Filter, Logic
from embedded.rest.scanner import Scanner

if TYPE_CHECKING:
    from embedded.rest.model import Quantifier

QUANTIFIED: Final = frozenset({"eq", "gt", "gte", "lt", "lte", "like", "ilike", "match", "imatch"})
FULL_TEXT: Final = frozenset({"fts", "plfts", "phfts", "wfts"})
RANGE_AND_SET: Final = frozenset({"cs", "cd", "ov", "sl", "sr", "nxl", "nxr", "adj"})
OPERATORS: Final = QUANTIFIED | FULL_TEXT | RANGE_AND_SET | {"neq", "isdistinct", "is", "in"}
IS_VALUES: Final = frozenset({"null", "not_null", "true", "false", "unknown"})

_MAX_DEPTH: Final = 32
_OPERATION: Final = re.compile(r"(?P<not>not\.)?(?P<operator>[a-z]+)(?:\((?P<extra>[^()]*)\))?\.")
_EXPECTED_OPERATOR: Final = "operator (eq, gt, ...)"


def parse_filter(key: str, value: str) -> Filter:
    """Return the filter of one query parameter, `key` being the field and `value` operator and operand."""
    names = Scanner("filter", key)
    field = names.field()
    if names.peek("."):
        raise not_supported("Filtering on an embedded resource")
    names.finish()
    scanner = Scanner("filter", value)
    found = _operation(scanner, field)
    if found.operator == "in":
        values = _list(scanner)
        scanner.finish()
        return _with_list(found, values)
    return _with_value(found, scanner.text[scanner.position :], scanner)


def is_filter(value: str) -> bool:
    """Return whether a parameter's value has the form of a filter, rather than of a function's argument."""
    match = _OPERATION.match(value)
    return match is not None and match["operator"] in OPERATORS


def parse_logic(key: str, value: str) -> Logic:
    """Return the tree of `and`, `or`, `not.and` or `not.or`."""
    negated = key.startswith("not.")
    scanner = Scanner("logic tree", value)
    children = _children(scanner, 1)
    scanner.finish()
    return Logic(_logic_operator(key.removeprefix("not.")), children, negated=negated)


def _logic_operator(word: str) -> Literal["and", "or"]:
    return "and" if word == "and" else "or"


def _children(scanner: Scanner, depth: int) -> tuple[Condition, ...]:
    if depth > _MAX_DEPTH:
        raise scanner.wrong(f"at most {_MAX_DEPTH} levels")
    scanner.expect("(")
    children = [_condition(scanner, depth)]
    while scanner.accept(","):
        children.append(_condition(scanner, depth))
    scanner.expect(")")
    return tuple(children)


def _condition(scanner: Scanner, depth: int) -> Condition:
    scanner.take_while(str.isspace)
    start = scanner.position
    negated = scanner.accept("not.")
    for word in ("and", "or"):
        if scanner.peek(f"{word}("):
            scanner.expect(word)
            logic = Logic(_logic_operator(word), _children(scanner, depth + 1), negated=negated)
            scanner.take_while(str.isspace)
            return logic
    scanner.position = start
    field = scanner.field()
    scanner.expect(".")
    found = _operation(scanner, field)
    if found.operator == "in":
        return _with_list(found, _list(scanner))
    return _with_value(found, _tree_value(scanner), scanner)


def _operation(scanner: Scanner, field: Field) -> Filter:
    """Read `not.`, the operator and what its parentheses hold, up to and with the dot."""
    match = _OPERATION.match(scanner.text, scanner.position)
    if match is None or match["operator"] not in OPERATORS:
        raise scanner.wrong(_EXPECTED_OPERATOR)
    operator, extra = match["operator"], match["extra"]
    if (
        extra is not None
        and operator not in FULL_TEXT
        and not (operator in QUANTIFIED and extra in {"any", "all"})
    ):
        raise scanner.wrong(_EXPECTED_OPERATOR)
    scanner.position = match.end()
    return Filter(
        field,
        operator,
        negated=match["not"] is not None,
        quantifier=cast("Quantifier", extra) if extra is not None and operator in QUANTIFIED else None,
        language=extra if operator in FULL_TEXT else None,
    )


def _with_list(found: Filter, values: tuple[str, ...]) -> Filter:
    return Filter(found.field, found.operator, values=values, negated=found.negated)


def _with_value(found: Filter, value: str, scanner: Scanner) -> Filter:
    if found.operator == "is":
        value = value.lower()
        if value not in IS_VALUES:
            raise bad_parameter(
                scanner.parameter,
                scanner.text,
                scanner.position,
                "isVal: (null, not_null, true, false, unknown)",
            )
    return Filter(
        found.field,
        found.operator,
        value,
        negated=found.negated,
        quantifier=found.quantifier,
        language=found.language,
    )


def _list(scanner: Scanner) -> tuple[str, ...]:
    """Read `(a,"b,c",d)`; `()` is the empty list."""
    scanner.expect("(")
    if scanner.accept(")"):
        return ()
    values = [_element(scanner)]
    while scanner.accept(","):
        values.append(_element(scanner))
    scanner.expect(")")
    return tuple(values)


def _element(scanner: Scanner) -> str:
    """Read a value up to `,` or `)`; quotes count only when they enclose all of it."""
    if scanner.peek('"'):
        start = scanner.position
        value = scanner.quoted()
        if scanner.at_end or scanner.peek(",") or scanner.peek(")"):
            return value
        scanner.position = start
    return scanner.take_while(lambda char: char not in ",)")


def _tree_value(scanner: Scanner) -> str:
    """Read an operand inside a tree: an element, or an array `{...}` with commas in it."""
    if scanner.peek("{"):
        start = scanner.position
        end = scanner.text.find("}", start)
        if end >= 0 and scanner.text[end + 1 : end + 2] in {"", ",", ")"}:
            scanner.position = end + 1
            return scanner.text[start : end + 1]
    return _element(scanner)
