"""Are two contents the same? Bytes first, then field by field, to the first difference that no rule lets pass. Pure.

A *content* is the JSON of what an event says, in whatever order its keys came, or a digest of it where the text was let
go. Numbers are compared by value, since `jsonb` returns 1e2 as 100; but true is not 1, and a text is not a number. The
order of keys means nothing, the order of lists does, unless a rule says otherwise. Times are compared as times.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import orjson

from monitoring.events import format_time
from monitoring.fingerprint import canonical_json
from validation.observation import Difference
from validation.rules import NO_RULES, Act, Rules

if TYPE_CHECKING:
    from monitoring.events import Event

MAX_VALUE_CHARACTERS = 128
"""Longer values are cut in reports."""

_ABSENT = object()
_TIME = "occurred_at"
_AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_LARGE_INTEGER = b"0" * 19
_DEEPEST = 200
"""Objects nested deeper than this are compared as text: no peer may exhaust our stack."""

Digest = int
Content = bytes | Digest
"""What an event says: its JSON, or 64 bits of it. An accidental pair of equal digests is one in 2**64."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What comparing two contents found: the first difference, and the paths at which rules let differences pass."""

    difference: Difference | None = None
    passed: tuple[str, ...] = ()


EQUAL = Comparison()
_DIGESTS_DIFFER = Comparison(Difference("content", "a digest", "another; the contents are not kept so long"))


def encode(event: Event) -> bytes:
    """Return the content of an event; its position is no part of it."""
    said = {"id": event.id, "kind": event.kind, _TIME: event.occurred_at, "payload": event.payload}
    try:
        # A copy: orjson's own result keeps the kilobytes that it was written in, and thousands of these are held.
        return bytes(memoryview(orjson.dumps(said)))
    except orjson.JSONEncodeError:  # an integer of more than 64 bits
        plain = {**said, "id": str(event.id), _TIME: format_time(event.occurred_at)}
        return json.dumps(plain, separators=(",", ":"), default=_plain).encode()


def decode(content: bytes) -> Any:
    """Return the value of a content; integers keep all their digits."""
    if _LARGE_INTEGER in content.translate(_AS_ZEROS):  # five times as fast as a regular expression
        return json.loads(content)
    return orjson.loads(content)


def digest(content: Content, rules: Rules = NO_RULES) -> Digest:
    """Return 64 bits of a content that equal contents have alike.

    What has a rule to ignore or to tolerate is left out of it, since that cannot be told from digests.
    """
    if isinstance(content, int):
        return content
    value = decode(content)
    if isinstance(value, dict) and isinstance(value.get(_TIME), str):
        value[_TIME] = _time(value[_TIME])
    if rules:
        value = _reduced("", value, rules)
    return int.from_bytes(blake2b(canonical_json(value), digest_size=8).digest())


def compare(expected: Content, actual: Content, rules: Rules = NO_RULES) -> Comparison:
    """Compare two contents, bytes first."""
    if expected == actual:
        return EQUAL
    if isinstance(expected, int) or isinstance(actual, int):
        return EQUAL if digest(expected, rules) == digest(actual, rules) else _DIGESTS_DIFFER
    one, other = decode(expected), decode(actual)
    if one == other and (not _has_booleans(expected, actual) or _same_text(one, other)):
        return EQUAL
    passed: list[str] = []
    differences = _differences("", one, other, rules, passed, 0)
    first = next(differences, None)
    return Comparison(first, tuple(passed)) if first or passed else EQUAL


def differences(
    expected: bytes, actual: bytes, rules: Rules = NO_RULES
) -> tuple[tuple[Difference, ...], tuple[str, ...]]:
    """Return every difference of two contents, and the paths at which rules let one pass."""
    if compare(expected, actual, rules) is EQUAL:
        return (), ()
    passed: list[str] = []
    found = tuple(_differences("", decode(expected), decode(actual), rules, passed, 0))
    return found, tuple(passed)


def show(value: object) -> str:
    """Return a JSON value as text of at most `MAX_VALUE_CHARACTERS`."""
    if value is _ABSENT:
        return "(absent)"
    return cut(json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str))


def cut(text: str) -> str:
    """Return text cut to `MAX_VALUE_CHARACTERS`, with an ellipsis in place of what is gone."""
    return text if len(text) <= MAX_VALUE_CHARACTERS else text[: MAX_VALUE_CHARACTERS - 1] + "…"


def _plain(value: Any) -> Any:
    """Return what the standard library can write of a mapping or a sequence that is none of its own."""
    return dict(value) if isinstance(value, Mapping) else list(value)


def _has_booleans(*contents: bytes) -> bool:
    """Whether true may stand in one where 1 stands in another, which are equal in Python."""
    return any(b"true" in content or b"false" in content for content in contents)


def _same_text(expected: Any, actual: Any) -> bool:
    """Tell quickly that two values are the same but for the order of keys; if not, `_differences` has the last word."""
    try:
        return orjson.dumps(expected, option=orjson.OPT_SORT_KEYS) == orjson.dumps(
            actual, option=orjson.OPT_SORT_KEYS
        )
    except orjson.JSONEncodeError:
        return False


def _differences(  # noqa: C901 - one branch a kind of value
    path: str, expected: Any, actual: Any, rules: Rules, passed: list[str], depth: int
) -> Iterator[Difference]:
    """Yield what differs and no rule lets pass; note in ``passed`` what one did."""
    rule = rules.find(path) if rules else None
    if rule is not None and rule.act is Act.IGNORE:
        if not _identical(expected, actual):
            passed.append(path)
    elif depth > _DEEPEST:
        if not _same_text(expected, actual):
            yield Difference(path, show(expected), show(actual))
    elif isinstance(expected, Mapping) and isinstance(actual, Mapping):
        dot = f"{path}." if path else ""
        for name in sorted(expected.keys() | actual.keys(), key=str):
            before, after = expected.get(name, _ABSENT), actual.get(name, _ABSENT)
            yield from _differences(f"{dot}{name}", before, after, rules, passed, depth + 1)
    elif _is_list(expected) and _is_list(actual):
        if rule is not None and rule.act is Act.UNORDERED:
            expected, actual = _sorted(path, expected, actual, passed)
        for index, (before, after) in enumerate(zip_longest(expected, actual, fillvalue=_ABSENT)):
            yield from _differences(f"{path}[{index}]", before, after, rules, passed, depth + 1)
    elif _same_value(path, expected, actual):
        return
    elif rule is not None and _within(expected, actual, rule.act, rule.amount):
        passed.append(path)
    else:
        yield Difference(path, show(expected), show(actual))


def _sorted(
    path: str, expected: Sequence[Any], actual: Sequence[Any], passed: list[str]
) -> tuple[Sequence[Any], Sequence[Any]]:
    """Return two lists in one order; note when that alone makes them equal."""
    ordered = sorted(expected, key=canonical_json), sorted(actual, key=canonical_json)
    if _identical(*ordered) and not _identical(expected, actual):
        passed.append(path)
    return ordered


def _identical(expected: Any, actual: Any) -> bool:
    return next(_differences("", expected, actual, NO_RULES, [], 0), None) is None


def _within(expected: Any, actual: Any, act: Act, amount: float) -> bool:
    if not (_is_number(expected) and _is_number(actual)):
        return False
    allowed = amount if act is Act.TOLERANCE else amount * abs(expected)
    return act in {Act.TOLERANCE, Act.RELATIVE} and bool(abs(expected - actual) <= allowed)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _same_value(path: str, expected: Any, actual: Any) -> bool:
    if isinstance(expected, bool) or isinstance(actual, bool):
        return expected is actual
    if path == _TIME and isinstance(expected, str) and isinstance(actual, str):
        return _time(expected) == _time(actual)
    return bool(expected == actual)


def _time(text: str) -> str:
    """Return a time in one form, whatever its zone and precision; anything else as it is."""
    try:
        at = datetime.fromisoformat(text)
        return format_time(at) if at.tzinfo else text
    except (ValueError, OverflowError):
        return text


def _reduced(path: str, value: Any, rules: Rules) -> Any:
    """Return a value without what digests cannot compare, and with unordered lists in one order."""
    rule = rules.find(path)
    if rule is not None and rule.act is not Act.UNORDERED:
        return None
    if isinstance(value, Mapping):
        dot = f"{path}." if path else ""
        inside = {name: _reduced(f"{dot}{name}", each, rules) for name, each in value.items()}
        # An ignored field may also be absent on one side.
        return {name: each for name, each in inside.items() if each is not None or value[name] is None}
    if _is_list(value):
        reduced = [_reduced(f"{path}[{index}]", each, rules) for index, each in enumerate(value)]
        return sorted(reduced, key=canonical_json) if rule is not None else reduced
    return value
