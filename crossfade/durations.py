"""Durations as people write them: ``30``, ``30s``, ``1.5m``, ``2h``, ``1h30m``, ``250ms``. Pure."""

from __future__ import annotations

import re
from datetime import timedelta

from crossfade.errors import UsageError

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_STEP = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?\Z", re.ASCII)
_WHOLE = re.compile(rf"(?:{_STEP.pattern})+\Z", re.ASCII)
_LONGEST_DAYS = 36_500


def parse_duration(text: str) -> timedelta:
    """Return the duration of a text; a bare number counts seconds. Raises UsageError; zero is refused."""
    written = text.strip().lower()
    if _NUMBER.match(written):
        seconds = float(written)
    elif _WHOLE.match(written):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _STEP.findall(written))
    else:
        raise UsageError(f"{text!r} is not a duration; write for example 30, 30s, 10m, 1h30m or 250ms")
    if not 0 < seconds <= _LONGEST_DAYS * 86400:
        raise UsageError(
            f"{text!r} is not a duration that can be waited for; write more than 0 and at most 36500d"
        )
    return timedelta(seconds=seconds)


def format_seconds(seconds: float) -> str:
    """Return a duration for people, two units at most: ``3s``, ``4m 10s``, ``2h 5m``, ``3d 1h``."""
    whole = max(0, int(seconds))
    days, hours, minutes, rest = whole // 86400, whole // 3600 % 24, whole // 60 % 60, whole % 60
    units = [(days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")]
    first = next((index for index, (count, _) in enumerate(units) if count), len(units) - 1)
    shown = [f"{count}{unit}" for count, unit in units[first : first + 2] if count]
    return " ".join(shown) or "0s"
