"""Numbers of clients' JSON that pass through as the real server writes them.

It reads numbers into Erlang's: integers of any size, and floats that it writes as `1.0e5`, the shorter of the two
notations. orjson would make floats of large integers and write `100000.0`; payloads with such numbers, which are
few, are read a second time here and keep their digits.
"""

from __future__ import annotations

import json
from typing import Any, Final

import orjson

# where the shorter notation of a float is the scientific one
_LONG: Final = 1e15
_ROUND: Final = 1000.0
_SHORT: Final = 0.001
_LARGEST_PLAIN: Final = 2.0**53
_LONGEST_INTEGER: Final = 18


def exact(data: str | bytes, value: Any = None) -> Any | None:
    """Return the value of JSON text with numbers as `orjson.Fragment` where they need it, None if none do.

    `value` is what orjson makes of the part that matters, if that is at hand.
    """
    if value is None:
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError:
            return None
    if not _suspect(value):
        return None
    try:
        return json.loads(data, parse_float=_float, parse_int=_integer)
    except (ValueError, RecursionError):
        return None  # too deep or too long for this decoder; the other one's numbers will do


def _suspect(value: Any) -> bool:
    """Say whether there is a number in it that orjson writes otherwise."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            left.extend(item.values())
        elif isinstance(item, list):
            left.extend(item)
        elif isinstance(item, float):
            size = abs(item)
            if size >= _LONG or 0 < size < _SHORT or (size >= _ROUND and item % 100 == 0):
                return True
    return False


def erlang_float(value: float) -> str:
    """Return a finite float as `erlang:float_to_binary(F, [short])` does (OTP 25 and later)."""
    digits, _, exponent_text = f"{value!r}e0".partition("e")
    exponent = int(exponent_text.partition("e")[0])
    sign = "-" if digits.startswith("-") else ""
    whole, _, fraction = digits.removeprefix("-").partition(".")
    fraction = "" if fraction == "0" else fraction
    significant = (whole + fraction).lstrip("0")
    if not significant:
        return f"{sign}0.0"
    # the value is 0.significant times ten to the power of `point`
    point = exponent + (len(significant) - len(fraction) if whole == "0" else len(whole))
    significant = significant.rstrip("0")
    scientific = f"{significant[0]}.{significant[1:] or '0'}e{point - 1}"
    if abs(value) >= _LARGEST_PLAIN:
        return sign + scientific
    plain = _plain(significant, point)
    return sign + (plain if len(plain) <= len(scientific) else scientific)


def _plain(significant: str, point: int) -> str:
    if point <= 0:
        return "0." + "0" * -point + significant
    if point >= len(significant):
        return significant + "0" * (point - len(significant)) + ".0"
    return f"{significant[:point]}.{significant[point:]}"


def _float(text: str) -> orjson.Fragment:
    return orjson.Fragment(erlang_float(float(text)))


def _integer(text: str) -> int | orjson.Fragment:
    return int(text) if len(text) <= _LONGEST_INTEGER else orjson.Fragment(text)
