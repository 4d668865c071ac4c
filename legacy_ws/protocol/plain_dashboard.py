"""The dialect of seed 001's ``/ws`` as other people's servers speak it: ``initial_stats`` and ``event``, no ids.

A stream is a script and a connection type: ``script_name`` is the device, ``connection_type`` the category and
``function_name`` the kind, as our own server writes them; names that cannot be addressed are made so. The payload is
the whole message but for its type and time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from legacy_ws.errors import MalformedMessage
from legacy_ws.protocol import json_object as obj
from legacy_ws.protocol.foreign import Complaint, ForeignDialect, Heartbeat, Memory, Observation, Said
from legacy_ws.protocol.json_dialect import addressable
from monitoring.events import StreamId, stream_id
from monitoring.fingerprint import Likeness
from monitoring.topics import Topic

_ENVELOPE: Final = frozenset({"type", "broadcast_time"})
_FIGURES: Final = ("session_metrics", "semaphore_metrics", "websocket_health")


@dataclass(frozen=True, slots=True)
class PlainDashboard(ForeignDialect):
    """Seed 001 without ids. ``server`` names the device of the server's own figures.

    ``device``, when given, is the device of every event: a server whose ``script_name`` is a file, not a machine.
    """

    server: str = "legacy"
    device: str | None = None

    def __post_init__(self) -> None:
        """Raise InvalidEvent for names that topics cannot address."""
        stream_id(self.device or self.server, self.server)

    @property
    def name(self) -> str:
        """Always ``plain-dashboard``."""
        return "plain-dashboard"

    @property
    def likeness(self) -> Likeness:
        """Everything counts: a message is made once and broadcast to all, its time with it."""
        return Likeness(resolution=timedelta(milliseconds=1))

    @property
    def heartbeat(self) -> Heartbeat:
        """WebSocket pings: the seed has no message for it."""
        return Heartbeat()

    @property
    def greets(self) -> bool:
        """Yes, with ``initial_stats``."""
        return True

    def hello(self) -> Sequence[bytes]:
        """Return nothing: the server speaks first."""
        return ()

    def subscribe(self, topics: Collection[Topic]) -> Sequence[bytes]:  # noqa: ARG002 - the server sends all of them
        """Return nothing: every client gets every event."""
        return ()

    def decode(self, frame: str | bytes) -> Sequence[Said]:
        """Return what a message says; ``stats``, ``export_complete``, ``test_event`` and others are no news."""
        message = obj.read(frame)
        match message.get("type"):
            case "event":
                return (self._event(message),)
            case "initial_stats":
                return (Memory(tuple(self._recent(message)), tuple(self._figures(message))),)
            case "error":
                return (Complaint(str(message.get("error", "no reason given"))[:200]),)
            case _:
                return ()

    def _event(self, message: Mapping[str, Any]) -> Observation:
        device = self.device or addressable(obj.take(message, "script_name", str))
        return Observation(
            stream=stream_id(device, addressable(obj.take(message, "connection_type", str))),
            kind=obj.take(message, "function_name", str) or "event",
            occurred_at=obj.take_time(message, "broadcast_time"),
            payload={key: value for key, value in message.items() if key not in _ENVELOPE},
        )

    def _recent(self, message: Mapping[str, Any]) -> Iterable[Observation]:
        """Yield the events of ``recent_events``, from after the last one that is in another form than ``event``."""
        values = message.get("recent_events")
        recent: list[Observation] = []
        for value in values if isinstance(values, list) else []:
            try:
                recent.append(self._event(value if isinstance(value, Mapping) else {}))
            except MalformedMessage:
                recent.clear()  # what it says there we cannot know, so nothing before it follows on
        return recent

    def _figures(self, message: Mapping[str, Any]) -> Iterable[Observation]:
        """Yield each section of figures that is not empty, as of the greeting's time."""
        at: datetime = obj.take_time(message, "timestamp")
        stats = message.get("stats")
        sections = {
            **(stats if isinstance(stats, Mapping) else {}),
            **{key: message.get(key) for key in _FIGURES},
        }
        for section, figures in sections.items():
            if isinstance(figures, Mapping) and figures:
                yield Observation(StreamId(f"{self.server}/{addressable(section)}"), "stats", at, figures)
