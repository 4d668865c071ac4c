"""Are two events the same? Field by field, to the first difference.

Numbers are compared by value, since `jsonb` returns 1e2 as 100; but true is not 1, and a text is not a number. The
order of keys means nothing, the order of lists does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from monitoring.events import format_time
from validation.observation import Difference

if TYPE_CHECKING:
    from monitoring.events import Event

MAX_VALUE_CHARACTERS = 128
"""Longer values are cut in reports."""

_ABSENT = object()


def first_difference(expected: Event, actual: Event) -> Difference | None:
    """Return the first field in which two events of one identity differ; None when they are the same."""
    if expected.id != actual.id:
        return Difference("id", str(expected.id), str(actual.id))
    if expected.kind != actual.kind:
        return Difference("kind", expected.kind, actual.kind)
    if expected.occurred_at != actual.occurred_at:
        return Difference("occurred_at", format_time(expected.occurred_at), format_time(actual.occurred_at))
    if _equal(expected.payload, actual.payload):
        return None
    return _compare("payload", expected.payload, actual.payload)


def show(value: object) -> str:
    """Return a JSON value as text of at most `MAX_VALUE_CHARACTERS`."""
    if value is _ABSENT:
        return "(absent)"
    return cut(json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str))


def cut(text: str) -> str:
    """Return text cut to `MAX_VALUE_CHARACTERS`, with an ellipsis in place of what is gone."""
    return text if len(text) <= MAX_VALUE_CHARACTERS else text[: MAX_VALUE_CHARACTERS - 1] + "…"


def _equal(expected: Any, actual: Any) -> bool:
    """Tell quickly whether two values are equal and of equal types; if not, `_compare` has the last word."""
    kind = type(expected)
    if kind is not type(actual):
        return False
    if kind is dict:
        return len(expected) == len(actual) and all(
            name in actual and _equal(value, actual[name]) for name, value in expected.items()
        )
    if kind is list:
        return len(expected) == len(actual) and all(map(_equal, expected, actual))
    return bool(expected == actual)


def _compare(path: str, expected: Any, actual: Any) -> Difference | None:
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        for name in sorted(expected.keys() | actual.keys(), key=str):
            found = _compare(f"{path}.{name}", expected.get(name, _ABSENT), actual.get(name, _ABSENT))
            if found:
                return found
        return None
    if _is_list(expected) and _is_list(actual):
        for index in range(max(len(expected), len(actual))):
            found = _compare(
                f"{path}[{index}]",
                expected[index] if index < len(expected) else _ABSENT,
                actual[index] if index < len(actual) else _ABSENT,
            )
            if found:
                return found
        return None
    return None if _same(expected, actual) else Difference(path, show(expected), show(actual))


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _same(expected: Any, actual: Any) -> bool:
    if isinstance(expected, bool) or isinstance(actual, bool):
        return expected is actual
    return bool(expected == actual)
