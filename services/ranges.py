"""Streams, ranges of time and intervals that requests ask for, read strictly. Raises Problem with the place of a mistake."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import Query

from monitoring.errors import InvalidEvent
from monitoring.events import stream_id
from services.problems import invalid

_INTERVAL = re.compile(r"([1-9][0-9]{0,6})([smhd])\Z", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
LONGEST = timedelta(days=366 * 10)
"""What history can have."""

StreamQuery = Annotated[str, Query(max_length=300, description="DEVICE/CATEGORY", examples=["web-1/system"])]
FieldQuery = Annotated[
    str, Query(max_length=500, description="as `fields` names it", examples=["memory.used_bytes"])
]
FromQuery = Annotated[datetime | None, Query(alias="from", description="RFC 3339, with a time zone")]
ToQuery = Annotated[datetime | None, Query(alias="to", description="RFC 3339, exclusive; now when left out")]
IntervalQuery = Annotated[
    str | None,
    Query(
        max_length=8,
        description="a number and s, m, h or d: `60s`, `5m`, `1h`; when left out about a fortieth of the range",
        examples=["5m"],
    ),
]


def stream_of(text: str, where: str = "query stream") -> str:
    """Return a stream's name; raises Problem for one that no stream can have."""
    device, _, category = text.partition("/")
    try:
        return stream_id(device, category)
    except InvalidEvent as error:
        raise invalid(where, error.reason) from error


def device_of(text: str | None, where: str = "query device") -> str | None:
    """Return a device's name, None for none; raises Problem for one that no device can have."""
    if text is not None:
        try:
            stream_id(text, "any")
        except InvalidEvent as error:
            raise invalid(where, error.reason) from error
    return text


def text_of(text: str | None, where: str) -> str | None:
    """Return a text that the database can look for; raises Problem."""
    if text is not None and ("\0" in text or any("\ud800" <= each <= "\udfff" for each in text)):
        raise invalid(where, "the character U+0000, and half of a pair of surrogates, cannot be looked for")
    return text


def aware(at: datetime | None, where: str) -> datetime | None:
    """Return a moment in UTC that the database can hold; raises Problem."""
    if at is None:
        return None
    if at.tzinfo is None:
        raise invalid(where, "it has no time zone; end it with Z or +00:00")
    try:
        moment = at.astimezone(UTC)
    except (OverflowError, ValueError):
        raise invalid(where, "is too far away") from None
    if not _EARLIEST <= moment <= _LATEST:
        raise invalid(where, "is not between 1970 and 2200")
    return moment


def range_of(
    start: datetime | None, end: datetime | None, *, reach: timedelta = timedelta(hours=1)
) -> tuple[datetime, datetime]:
    """Return a range that ends now and is as long as ``reach`` where nothing else is said; raises Problem."""
    until = aware(end, "query to") or datetime.now(UTC)
    since = aware(start, "query from") or until - reach
    if since >= until:
        raise invalid("query from", "it is not before `to`")
    if until - since > LONGEST:
        raise invalid("query from", "the range is longer than ten years; ask for less")
    return since, until


def interval_of(text: str | None, since: datetime, until: datetime, *, most: int) -> timedelta:
    """Return the length of each interval of a range, of which there are ``most`` at most; raises Problem."""
    if text is None:
        about = (until - since).total_seconds() / 40
        steps = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400)
        return timedelta(
            seconds=next((each for each in steps if each >= about), 86400 * (about // 86400 + 1))
        )
    found = _INTERVAL.match(text)
    if found is None:
        raise invalid("query interval", "is a number and s, m, h or d, for example 5m")
    interval = timedelta(seconds=int(found[1]) * _UNITS[found[2]])
    if (until - since) / interval > most:
        least = (until - since).total_seconds() / most
        raise invalid(
            "query interval", f"makes more than {most} intervals of that range; take {least:,.0f}s or longer"
        )
    if interval > LONGEST:
        raise invalid("query interval", "is longer than ten years")
    return interval
