"""What feeds with and without identity say of an event, and what a client was told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from monitoring.events import Event
from monitoring.fingerprint import Likeness
from monitoring.service import Capabilities, Item

IDENTIFIED = Capabilities()
NAMELESS = Capabilities(identity=False, resume=False)
TIMELESS = Likeness(resolution=None)


def nameless(one: Event, seq: int = 1) -> Event:
    """Return what a server without ids says of an event."""
    return replace(one, epoch=0, seq=seq)


def says(items: Iterable[Item]) -> list[object]:
    """Return what the events say, and the gaps."""
    return [item.payload["n"] if isinstance(item, Event) else item for item in items]
