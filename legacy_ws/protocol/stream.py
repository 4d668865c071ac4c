"""``/ws/stream``: seed 004's topics and its five types of message. The bearer token is checked at the handshake.

The seed fixes the types, the topics and the fields of its events. The rest is ours: positions in every message, and
``cursor`` in a subscription, so that a client resumes without loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from legacy_ws.errors import MalformedMessage, shown
from legacy_ws.protocol import json_object as obj
from legacy_ws.protocol.dialect import Answer, Arrival, AskReplay, Dialect, Session, Telling, everybody
from legacy_ws.protocol.records import Codec, Message, encode
from monitoring.cursor import Cursor
from monitoring.events import Event, Kind, category_of, device_of, metric_type_of
from monitoring.interest import devices_named
from monitoring.service import Gap
from monitoring.topics import Topic, selects

HEARTBEAT_SECONDS = 15.0
_COLLECTED = frozenset({Kind.METRIC_COLLECTED, Kind.CONTAINERS_COLLECTED})
"""What is data; everything else is an event."""
_MOST_TOPICS = 1_000


@dataclass(frozen=True, slots=True)
class _Told(Message):
    """What ``data`` and ``event`` have in common; ``topics`` are the narrow ones that it belongs to."""

    topics: tuple[str, ...]
    timestamp: datetime
    data: Mapping[str, Any]
    id: str
    stream: str
    epoch: int
    seq: int


@dataclass(frozen=True, slots=True)
class Data(_Told):
    """Server: what was collected; ``data`` has ``event_type``, ``device_id`` and the fields that were measured."""

    TYPE: ClassVar[str] = "data"


@dataclass(frozen=True, slots=True)
class EventMessage(_Told):
    """Server: something that happened; ``data`` has ``event_type``, ``device_id`` and the event's fields."""

    TYPE: ClassVar[str] = "event"


@dataclass(frozen=True, slots=True)
class Subscription(Message):
    """Client: ``subscribe`` or ``unsubscribe``. Server: ``subscribed`` or ``unsubscribed``, with every topic that is left.

    ``cursor`` resumes: the topics then take the place of those before. It is answered with ``heads`` and ``gaps``.
    """

    TYPE: ClassVar[str] = "subscription"
    action: str
    topics: tuple[str, ...]
    timestamp: datetime | None = None
    cursor: Mapping[str, Any] | None = None
    heads: Mapping[str, Any] | None = None
    gaps: tuple[Any, ...] | None = None
    waiting: str | None = None


@dataclass(frozen=True, slots=True)
class Heartbeat(Message):
    """Both sides: a sign of life; a client's is answered."""

    TYPE: ClassVar[str] = "heartbeat"
    timestamp: datetime | None = None


@dataclass(frozen=True, slots=True)
class ErrorMessage(Message):
    """Server: what it did not understand; the connection goes on."""

    TYPE: ClassVar[str] = "error"
    error: str
    timestamp: datetime


SERVER = Codec(Data, EventMessage, Subscription, Heartbeat, ErrorMessage)
"""What a server sends."""
CLIENT = Codec(Subscription, Heartbeat)
"""What a client sends."""


@dataclass(frozen=True, slots=True)
class Audience:
    """The topics of a client; ``resumes`` is one that named its cursor and so knows its place."""

    topics: frozenset[Topic] = frozenset()
    resumes: bool = False


def write_event(event: Event, _: datetime) -> bytes:
    """Write an event as ``data`` or ``event``: the same for every subscriber."""
    device, category, metric_type = (
        device_of(event.stream),
        category_of(event.stream),
        metric_type_of(event.stream),
    )
    told = Data if event.kind in _COLLECTED else EventMessage
    return encode(
        told(
            topics=(f"devices.{device}", f"categories.{category}", f"metrics.{metric_type}"),
            timestamp=event.occurred_at,
            data={**event.payload, "event_type": event.kind, "device_id": device},
            id=str(event.id),
            stream=event.stream,
            epoch=event.epoch,
            seq=event.seq,
        )
    )


class StreamSession(Session):
    """One connection. It is sent nothing but heartbeats until it subscribes."""

    def __init__(self) -> None:
        self._audience = Audience()

    @property
    def audience(self) -> Audience:
        """The topics it subscribed to."""
        return self._audience

    def opened(self, now: datetime) -> Iterable[Answer]:  # noqa: ARG002 - the interface's
        """Return nothing: the client speaks first."""
        return ()

    def received(self, text: str, now: datetime) -> Iterable[Answer]:
        """Answer a subscription or a heartbeat."""
        match CLIENT.read(text):
            case Heartbeat():
                return (encode(Heartbeat(now)),)
            case Subscription(action="subscribe", topics=texts, cursor=None):
                topics = self._audience.topics | _topics(texts)
                if len(topics) > _MOST_TOPICS:
                    raise MalformedMessage(f"at most {_MOST_TOPICS} topics, with those before {len(topics)}")
                return (self._now("subscribed", Audience(topics, self._audience.resumes), now),)
            case Subscription(action="subscribe", topics=texts, cursor=cursor):
                return (self._resume(_topics(texts), obj.take_cursor({"cursor": cursor}, "cursor"), now),)
            case Subscription(action="unsubscribe", topics=texts):
                left = self._audience.topics - _topics(texts)
                return (self._now("unsubscribed", Audience(left, self._audience.resumes), now),)
            case Subscription(action=action):
                raise MalformedMessage(f"action must be subscribe or unsubscribe, got {shown(action)}")
        return ()

    def refused(self, reason: str, now: datetime) -> bytes:
        """Return an ``error``."""
        return encode(ErrorMessage(reason, now))

    def _now(self, action: str, audience: Audience, now: datetime) -> bytes:
        self._audience = audience
        return encode(Subscription(action, _names(audience.topics), now))

    def _resume(self, topics: frozenset[Topic], cursor: Cursor, now: datetime) -> Answer:
        def granted(heads: Cursor, gaps: tuple[Gap, ...]) -> bytes:
            self._audience = Audience(topics, resumes=True)
            gone = tuple(obj.gap_json(gap) for gap in gaps)
            return encode(Subscription("subscribed", _names(topics), now, heads=heads.to_json(), gaps=gone))

        def waiting(reason: str) -> bytes:
            return encode(Subscription("waiting", _names(topics), now, waiting=reason))

        return AskReplay(topics, cursor, granted, write_event, waiting)


class StreamDialect(Dialect):
    """Topics over a connection that showed a token."""

    name: ClassVar[str] = "stream"
    path: ClassVar[str] = "/ws/stream"
    needs_token: ClassVar[bool] = True
    tick_seconds = HEARTBEAT_SECONDS

    def session(self) -> Session:
        """Return the session of a new connection."""
        return StreamSession()

    def subscriptions(self, audience: Audience) -> Iterable[str]:
        """Return the topics."""
        return _names(audience.topics)

    def watched(self, audience: Audience) -> frozenset[str]:
        """Return the devices of the topics."""
        return devices_named(audience.topics)

    def take(self, arrival: Arrival, *, news: bool) -> Telling | None:
        """Tell every event to whoever subscribed to one of its topics."""

        def tell(audience: Audience) -> bytes | None:
            if (news or audience.resumes) and selects(audience.topics, arrival.event.stream):
                return arrival.written(write_event)
            return None

        return tell

    def tick(self, now: datetime) -> Iterable[Telling]:
        """Tell everybody a heartbeat."""
        return (everybody(lambda: encode(Heartbeat(now))),)


def _topics(texts: tuple[str, ...]) -> frozenset[Topic]:
    if not texts:
        raise MalformedMessage("topics is empty; name some, or global for everything")
    return obj.topics_named(texts)


def _names(topics: Iterable[Topic]) -> tuple[str, ...]:
    return tuple(obj.topics_json(topics))
