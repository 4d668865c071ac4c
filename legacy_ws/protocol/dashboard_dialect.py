"""What a connection to ``/ws`` does with the messages of `dashboard`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, ClassVar, assert_never

import orjson

from legacy_ws.errors import MalformedMessage
from legacy_ws.protocol import dashboard
from legacy_ws.protocol import json_object as obj
from legacy_ws.protocol.dialect import (
    Announce,
    Answer,
    Arrival,
    AskExport,
    AskFigures,
    AskReplay,
    AskSnapshot,
    Dialect,
    Exported,
    Figures,
    Session,
    Telling,
    everybody,
)
from monitoring.cursor import Cursor
from monitoring.events import Event
from monitoring.interest import devices_named
from monitoring.service import Gap
from monitoring.topics import Topic, selects

_LONGEST_TEST_BYTES = 4096
"""What one client may have told to all others."""


class DashboardSession(Session):
    """One dashboard connection. A plain client gets every new event, a subscriber those of its topics."""

    def __init__(self) -> None:
        self._topics: frozenset[Topic] | None = None

    @property
    def audience(self) -> frozenset[Topic] | None:
        """The topics of a subscriber; None for a plain client."""
        return self._topics

    def opened(self, now: datetime) -> Iterable[Answer]:  # noqa: ARG002 - the figures have their own time
        """Ask for ``initial_stats``."""
        return (AskFigures(lambda figures: dashboard.encode(dashboard.InitialStats(_stats(figures)))),)

    def received(self, text: str, now: datetime) -> Iterable[Answer]:
        """Answer a request."""
        match request := dashboard.decode_client(text):
            case dashboard.StatsRequest():
                return (AskFigures(lambda figures: dashboard.encode(dashboard.StatsAnswer(_stats(figures)))),)
            case dashboard.Ping():
                return (dashboard.encode(dashboard.Pong()),)
            case dashboard.Subscribe(topics, cursor):
                return (self._subscribe(topics, cursor),)
            case dashboard.SnapshotRequest(topics):
                return (AskSnapshot(topics, _snapshot, _waiting),)
            case dashboard.ExportRequest(topics):
                return (
                    AskExport(
                        topics,
                        lambda exported: _export_complete(exported, now),
                        failed=lambda reason: self.refused(reason, now),
                    ),
                )
            case dashboard.TestEventRequest(metadata):
                return (_test_event(metadata, now),)
            case _:
                assert_never(request)

    def refused(self, reason: str, now: datetime) -> bytes:
        """Return an ``error``."""
        return dashboard.encode(dashboard.ErrorMessage(reason, now))

    def _subscribe(self, topics: frozenset[Topic], cursor: Cursor | None) -> AskReplay:
        def granted(heads: Cursor, gaps: tuple[Gap, ...]) -> bytes:
            self._topics = topics
            return dashboard.encode(dashboard.Subscribed(heads, gaps))

        return AskReplay(topics, cursor, granted, dashboard.write_event, _waiting)


class DashboardDialect(Dialect):
    """Seed 001's dashboards."""

    name: ClassVar[str] = "dashboard"
    path: ClassVar[str] = "/ws"

    def session(self) -> Session:
        """Return the session of a new connection."""
        return DashboardSession()

    def subscriptions(self, audience: frozenset[Topic] | None) -> Iterable[str]:
        """Return the topics."""
        return obj.topics_json(audience) if audience else ()

    def watched(self, audience: frozenset[Topic] | None) -> frozenset[str]:
        """Return the devices of the topics."""
        return devices_named(audience or ())

    def take(self, arrival: Arrival, *, news: bool) -> Telling | None:
        """Tell new events to everybody who wants them; restored ones only to subscribers, who know their place."""

        def tell(audience: frozenset[Topic] | None) -> bytes | None:
            wanted = news if audience is None else selects(audience, arrival.event.stream)
            return arrival.written(dashboard.write_event) if wanted else None

        return tell


def _stats(figures: Figures) -> dashboard.Stats:
    return dashboard.Stats(
        stats={**{name: {} for name in dashboard.SECTIONS}, **figures.sections},
        session_metrics=figures.session_metrics,
        semaphore_metrics=figures.semaphore_metrics,
        websocket_health=figures.websocket_health,
        recent_events=tuple(orjson.Fragment(one.written(dashboard.write_event)) for one in figures.recent),
        timestamp=figures.at,
    )


def _snapshot(state: tuple[Event, ...], heads: Cursor) -> bytes:
    return dashboard.encode(dashboard.SnapshotAnswer(state, heads))


def _waiting(reason: str) -> bytes:
    return dashboard.encode(dashboard.Waiting(reason))


def _export_complete(exported: Exported, now: datetime) -> bytes:
    return dashboard.encode(
        dashboard.ExportComplete(exported.name, exported.path, exported.events, exported.size_bytes, now)
    )


def _test_event(metadata: Mapping[str, Any], now: datetime) -> Announce:
    try:
        message = dashboard.encode(dashboard.TestEvent(metadata, now))
    except orjson.JSONEncodeError:
        raise MalformedMessage("metadata is nested too deeply for a message") from None
    if len(message) > _LONGEST_TEST_BYTES:
        raise MalformedMessage(f"a test_event has at most {_LONGEST_TEST_BYTES} bytes")
    return Announce(everybody(lambda: message))
