"""The `filter` of a postgres_changes binding: `column=op.value`, several joined by commas as AND.

Parentheses and double quotes (with backslash escapes) protect commas; a value in double quotes loses them;
`not.` before the operator negates. Comparing is `matching`'s business, checking against the table the shell's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from embedded.phoenix import elixir
from embedded.phoenix.errors import BadSubscription

MAX_IN_VALUES: Final = 100
"""More values than this in one `in` are refused when the table is looked up."""

OPERATORS: Final = frozenset(
    ("eq", "neq", "lt", "lte", "gt", "gte", "in", "like", "ilike", "is", "match", "imatch", "isdistinct")
)


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition on a column. `values` is what follows the operator: one text, for `in` any number."""

    column: str
    operator: str
    values: tuple[str, ...]
    negated: bool = False

    def described(self) -> tuple[str, str, str, bool]:
        """Return the condition as it appears in error texts; an `in` list as PostgreSQL's array literal."""
        value = _array_literal(self.values) if self.operator == "in" else self.values[0]
        return (self.column, self.operator, value, self.negated)


def parse(text: str) -> tuple[Filter, ...]:
    """Return the conditions of a filter; the empty text is no condition.

    Raises BadSubscription with the real server's wording.
    """
    if not text:
        return ()
    segments = _split(text)
    if not all(segments):
        raise _failure("filter must not contain empty segments (check for extra commas)")
    return tuple(map(_parse_one, segments))


def _parse_one(segment: str) -> Filter:
    column, equals, rest = segment.partition("=")
    if not equals:
        raise _failure(elixir.inspect([segment]))
    parts = rest.split(".", 1)
    negated = parts[0] == "not" and len(parts) > 1
    if negated:
        parts = parts[1].split(".", 1)
    if parts[0] not in OPERATORS or len(parts) == 1:
        raise _failure(elixir.inspect(parts))
    operator, value = parts
    if operator != "in":
        return Filter(column, operator, (_unquoted(value),), negated)
    if not (value.startswith("(") and value.endswith(")")):
        raise _failure("`in` filter value must be wrapped by parentheses")
    inner = value[1:-1]
    values = tuple(_unquoted(item.strip()) for item in _split(inner)) if inner else ()
    return Filter(column, operator, values, negated)


def _failure(reason: str) -> BadSubscription:
    return BadSubscription(f"Error parsing `filter` params: {reason}")


def _split(text: str) -> list[str]:
    """Return the parts between top-level commas."""
    parts: list[str] = []
    start = depth = 0
    quoted = escaped = False
    for position, char in enumerate(text):
        if escaped:
            escaped = False
        elif quoted:
            escaped = char == "\\"
            quoted = char != '"'
        elif char == '"':
            quoted = True
        elif char == "(":
            depth += 1
        elif char == ")":
            depth = max(0, depth - 1)
        elif char == "," and not depth:
            parts.append(text[start:position])
            start = position + 1
    parts.append(text[start:])
    return parts


def _unquoted(text: str) -> str:
    """Return the text without its enclosing double quotes and their backslash escapes, if it has them."""
    minimum = 2
    if len(text) < minimum or not (text.startswith('"') and text.endswith('"')):
        return text
    result: list[str] = []
    escaped = False
    for char in text[1:-1]:
        if char == "\\" and not escaped:
            escaped = True
        else:
            result.append(char)
            escaped = False
    return "".join(result)


def _array_literal(values: tuple[str, ...]) -> str:
    def item(value: str) -> str:
        plain = value and value.lower() != "null" and not any(c in value for c in '{}," \\\t\n')
        return value if plain else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    return "{" + ",".join(map(item, values)) + "}"
