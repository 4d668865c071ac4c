"""How long history is kept, as people write it, and how they are told that it was kept for less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from crossfade.durations import format_seconds, parse_duration
from crossfade.errors import UsageError
from monitoring.events import Draft, StreamId

LEVELS: Mapping[str, int] = {
    "events": 60,
    "raw": 86_400,
    "1m": 86_400,
    "10m": 86_400,
    "1h": 86_400,
    "1d": 86_400,
}
"""What is kept -> the least seconds it can be kept for: history goes by whole days."""

STORAGE_TRIMMED = "storage_trimmed"
"""The kind of event that tells that history was dropped before its time."""


def parse_keep(text: str) -> Mapping[str, str]:
    """Return level -> interval, as PostgreSQL reads it, of ``raw=2d,1h=400d``; raises ValueError."""
    keep: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        level, _, time = (each.strip() for each in part.partition("="))
        if level not in LEVELS:
            raise ValueError(f"there is no level {level!r}: choose of {', '.join(LEVELS)}")
        try:
            seconds = parse_duration(time).total_seconds()
        except UsageError as error:
            raise ValueError(f"{level}: {error}") from error
        if seconds < LEVELS[level]:
            raise ValueError(f"{level} is kept for at least {format_seconds(LEVELS[level])}, not {time}")
        keep[level] = f"{seconds:.0f} seconds"
    return keep


def shown(storage: Mapping[str, Any]) -> str:
    """Return in a few words how full the store is, and whether history had to go before its time."""
    used, limit = int(storage["used_bytes"]), int(storage["limit_bytes"])
    text = f"{_bytes(used)} of {_bytes(limit)} stored"
    if storage.get("trims"):
        text += (
            f", {storage['trims']} partitions dropped to stay within it (the newest: {storage['trimmed']})"
        )
    return text


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 100e6 else f"{count / 1e6:.1f} MB"  # noqa: PLR2004 - where it reads best


class Trims:
    """Tells each time that the store gave up history because it was full."""

    def __init__(self, stream: StreamId) -> None:
        self._stream = stream
        self._trims: int | None = None

    def told(self, storage: Mapping[str, Any] | None, at: datetime) -> Sequence[Draft]:
        """Return the event to be told, if something went since the last call; what went before the first is old."""
        if storage is None:
            return []
        before, self._trims = self._trims, int(storage["trims"])
        if before is None or self._trims <= before:
            return []
        payload = {
            "partitions": self._trims - before,
            "newest": storage["trimmed"],
            "used_bytes": storage["used_bytes"],
            "limit_bytes": storage["limit_bytes"],
            "detail": f"the store is full: {shown(storage)}. Raise CROSSFADE_STORAGE_LIMIT_BYTES or keep less",
        }
        return [Draft(self._stream, STORAGE_TRIMMED, at, payload)]
