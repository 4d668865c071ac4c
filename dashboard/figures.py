"""Numbers and times as people read them. An unknown value is an en dash, never a zero."""

from __future__ import annotations

from datetime import datetime, timedelta

UNKNOWN = "\N{EN DASH}"

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_STEP = 1000
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def percent(value: float | None) -> str:
    """Return a percentage, 0 to 100, with one decimal below 10 and above only where it says something."""
    if value is None:
        return UNKNOWN
    return f"{value:.1f} %"


def count(value: int | None) -> str:
    """Return a count with thin thousands."""
    return UNKNOWN if value is None else f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def size(value: float | None) -> str:
    """Return bytes in decimal units, three digits."""
    if value is None:
        return UNKNOWN
    unit = scale(value)
    scaled = value / _STEP ** _UNITS.index(unit)
    return f"{scaled:.0f} {unit}" if unit == "B" or scaled >= 99.95 else f"{scaled:.1f} {unit}"  # noqa: PLR2004 - three digits


def rate(value: float | None) -> str:
    """Return bytes a second in decimal units."""
    return UNKNOWN if value is None else f"{size(value)}/s"


def scale(value: float) -> str:
    """Return the unit in which a number of bytes has one to three digits before the point."""
    power = 0
    while abs(value) >= _STEP - 0.5 and power < len(_UNITS) - 1:
        value /= _STEP
        power += 1
    return _UNITS[power]


def per_unit(unit: str) -> int:
    """Return the bytes of a unit that `scale` chose."""
    return int(_STEP ** _UNITS.index(unit))


def plain(value: float | None, digits: int = 2) -> str:
    """Return a number with fixed decimals."""
    return UNKNOWN if value is None else f"{value:.{digits}f}"


def short(value: float) -> str:
    """Return a number of any size with up to four digits; from a thousand on it is whole."""
    return f"{value:.4g}" if abs(value) < _STEP else f"{value:.0f}"


def milliseconds(seconds: float | None) -> str:
    """Return a short duration: milliseconds, or seconds from one on."""
    if seconds is None:
        return UNKNOWN
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"  # noqa: PLR2004 - two digits


def span(seconds: float | None) -> str:
    """Return a duration in its one or two largest units: ``14 s``, ``3 min``, ``2 h 05 min``, ``4 d 3 h``."""
    if seconds is None:
        return UNKNOWN
    whole = max(int(seconds), 0)
    if whole < 2 * _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def age(at: datetime | None, now: datetime) -> str:
    """Return how long ago something was; the future, by a clock that is ahead, is now."""
    return UNKNOWN if at is None else span(max(now - at, timedelta()).total_seconds())


def clock(at: datetime) -> str:
    """Return the time of day in this machine's zone."""
    return at.astimezone().strftime("%H:%M:%S")
