"""What the hubs of one host share: an event that comes to many of them is read, written and compressed once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from legacy_ws.frames import deflated_frame
from legacy_ws.protocol.dialect import Arrival
from monitoring.events import Event
from monitoring.newest import OfNewest


class Arrivals:
    """``arrived`` and ``deflated`` are what a hub is given in the place of its own."""

    def __init__(self, now: Callable[[], datetime], *, most: int = 1_000) -> None:
        """Remember ``most`` events and as many compressed messages."""
        self.arrived: Callable[[Event], Arrival] = OfNewest[Event, Arrival](
            lambda event: Arrival(event, now()), most
        )
        self.deflated: Callable[[bytes], bytes] = OfNewest[bytes, bytes](deflated_frame, most)
