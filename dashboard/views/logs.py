"""Lines of a container's log as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from monitoring.logs import LogLine

_RULE = "─" * 12


def text(lines: Iterable[LogLine], search: str = "") -> str:
    """Return lines with their time of day, those alone that have the text; marks stand between rules."""
    wanted = search.casefold()
    return "\n".join(_line(each) for each in lines if each.mark or wanted in each.text.casefold())


def count(lines: Sequence[LogLine], search: str) -> str:
    """Return how many lines are shown, of how many."""
    written = [each for each in lines if each.mark is None]
    if not search:
        return f"{len(written)} lines"
    found = sum(search.casefold() in each.text.casefold() for each in written)
    return f"{found} of {len(written)} lines"


def _line(each: LogLine) -> str:
    clock = f"{each.at.astimezone():%H:%M:%S}.{each.at.microsecond // 1000:03}"
    return f"{_RULE} {clock} {each.text} {_RULE}" if each.mark else f"{clock}  {each.text}"
