"""The hub: who is connected in which dialect, what each is told, and the history they are served from.

No sockets: what is to be sent waits in each client's outbox. A message is written once for all clients of a dialect that
subscribed to the same, and not at all when there are none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import orjson

from legacy_ws import stats
from legacy_ws.arrivals import Arrivals
from legacy_ws.errors import MalformedMessage
from legacy_ws.frames import Framing, text_frame
from legacy_ws.outbox import MOST_ANSWERS, Flusher, Group, Outbox, Pipe
from legacy_ws.protocol.dialect import (
    Announce,
    Answer,
    Arrival,
    AskExport,
    AskFigures,
    AskLogs,
    AskReplay,
    AskSnapshot,
    Dialect,
    EndLogs,
    Figures,
    Telling,
)
from legacy_ws.protocol.link import LinkFigures
from legacy_ws.ring import MAX_BYTES, MAX_EVENTS, Replay, Ring, Taken
from monitoring.cursor import Cursor
from monitoring.events import Event
from monitoring.interest import Watchers

_RECENT = 50
"""Events in ``recent_events``."""
_WAITING = "the history is not there yet"


class Audience:
    """Clients that subscribed to the same."""

    def __init__(
        self, group: Callable[[Callable[[Outbox], None]], Group], slow: Callable[[Client], None]
    ) -> None:
        """``slow`` is called with a client whose queue ran full."""
        self.clients: dict[Outbox, Client] = {}
        self._groups: dict[Framing, Group] = {}
        self._group = group
        self._slow = slow

    def add(self, client: Client) -> None:
        """Tell a client, too, from now on."""
        outbox = client.outbox
        self.clients[outbox] = client
        group = self._groups.get(outbox.frame)
        if group is None:
            group = self._groups[outbox.frame] = self._group(lambda behind: self._slow(self.clients[behind]))
        group.join(outbox)

    def remove(self, client: Client) -> None:
        """Tell a client no more; safe to call twice."""
        outbox = client.outbox
        group = self._groups.get(outbox.frame)
        if group is not None:
            group.leave(outbox)
            if not group:
                del self._groups[outbox.frame]
        self.clients.pop(outbox, None)

    def tell(self, message: bytes) -> None:
        """Tell all of them a message, framed once for all who read it alike."""
        for frame, group in list(self._groups.items()):
            group.tell(frame(message))


class Room:
    """The clients of one dialect, by what they subscribed to."""

    def __init__(self, dialect: Dialect, audience: Callable[[], Audience], watchers: Watchers) -> None:
        self.dialect = dialect
        self._watchers = watchers
        self.audiences: dict[Hashable, Audience] = {}
        self._audience = audience

    def __len__(self) -> int:
        return sum(len(audience.clients) for audience in self.audiences.values())

    @property
    def clients(self) -> Iterator[Client]:
        """Everybody."""
        return (client for audience in self.audiences.values() for client in audience.clients.values())

    def subscriptions(self) -> Counter[str]:
        """Return how many clients subscribed to what."""
        counts: Counter[str] = Counter()
        for subscription, audience in self.audiences.items():
            for word in self.dialect.subscriptions(subscription):
                counts[word] += len(audience.clients)
        return counts

    def add(self, client: Client) -> None:
        """Put a client where its audience is."""
        client.audience = client.session.audience
        audience = self.audiences.get(client.audience)
        if audience is None:
            audience = self.audiences[client.audience] = self._audience()
            self._watchers.came(self.dialect.watched(client.audience))
        audience.add(client)

    def remove(self, client: Client) -> None:
        """Forget a client; safe to call twice."""
        audience = self.audiences.get(client.audience)
        if audience is not None:
            audience.remove(client)
            if not audience.clients:
                del self.audiences[client.audience]
                self._watchers.went(self.dialect.watched(client.audience))


class Client:
    """One connection: its session and its outbox."""

    def __init__(self, room: Room, outbox: Outbox) -> None:
        self.room = room
        self.session = room.dialect.session()
        self.audience: Hashable = self.session.audience
        self.outbox = outbox


class Hub:
    """The clients of one server and the ring they are served from. Used from one event loop.

    With ``await_history`` whoever asks for history waits until ``filled`` is called. What needs I/O is handed to
    ``on_export``, ``on_logs``, and, by a host whose ring is not all of the history, ``on_history``. Hubs that are told
    the same events make what they are told of it once, in ``shared``.
    """

    def __init__(
        self,
        dialects: Iterable[Dialect],
        *,
        now: Callable[[], datetime],
        max_events: int = MAX_EVENTS,
        max_bytes: int = MAX_BYTES,
        max_queue: int = 1_000,
        clock_started: datetime,
        await_history: bool = False,
        shared: Arrivals | None = None,
    ) -> None:
        self._now = now
        self._shared = shared or Arrivals(now, most=1)
        self._max_queue = max_queue
        self.ring: Ring[Arrival] = Ring(max_events, max_bytes)
        self.measured = stats.Measurements(clock_started)
        self.links = 0
        """Links connected now."""
        self.link_figures: dict[object, LinkFigures] = {}
        """What each of them told of itself."""
        self.on_health: Callable[[], Mapping[str, object]] = dict
        """What a host tells beside, in ``websocket_health``."""
        self.flusher = Flusher()
        self.watchers = Watchers()
        """Who watches which device by name; whoever goes from one topic to another has gone for a moment."""
        self.rooms: Mapping[str, Room] = {
            dialect.name: Room(dialect, self._audience, self.watchers) for dialect in dialects
        }
        self.on_export: Callable[[Client, AskExport], None] | None = None
        self.on_logs: Callable[[Client, AskLogs | EndLogs], None] | None = None
        self.on_history: Callable[[Client, AskReplay | AskSnapshot], None] | None = None
        self._filled = not await_history
        self._held: dict[Client, list[AskReplay | AskSnapshot]] = {}

    def _audience(self) -> Audience:
        group = partial(Group, self.flusher, self.measured.traffic, max_queue=self._max_queue)
        return Audience(group, self.give_up)

    # Clients

    @property
    def clients(self) -> int:
        """Clients connected now."""
        return sum(map(len, self.rooms.values()))

    def needs_token(self, dialect: str) -> bool:
        """Tell whether a dialect's peers have to show a token."""
        return self.rooms[dialect].dialect.needs_token

    def attach(self, dialect: str, pipe: Pipe) -> Client:
        """Take a new client and queue what it is sent first."""
        room = self.rooms[dialect]
        traffic = self.measured.traffic
        deflated = self._shared.deflated
        client = Client(
            room, Outbox(pipe, self.flusher, traffic, max_queue=self._max_queue, deflated=deflated)
        )
        room.add(client)
        traffic.connections += 1
        self._answer(client, client.session.opened(self._now()))
        return client

    def detach(self, client: Client) -> None:
        """Forget a client; safe to call twice."""
        client.room.remove(client)
        self._held.pop(client, None)
        self.flusher.crowded.discard(client.outbox)
        self.flusher.progressed.set()

    def received(self, client: Client, data: str | bytes) -> None:
        """Answer a message. What needs history waits until the server has it."""
        self.measured.traffic.messages_received += 1
        if isinstance(data, bytes):
            self.refuse(client, "binary message; this server understands JSON text")
            return
        try:
            self._answer(client, client.session.received(data, self._now()))
        except MalformedMessage as error:
            self.refuse(client, error.reason)

    def refuse(self, client: Client, reason: str) -> None:
        """Answer with the dialect's error message."""
        self.measured.traffic.malformed_messages += 1
        client.outbox.answer(client.session.refused(reason, self._now()))

    def _answer(self, client: Client, answers: Iterable[Answer]) -> None:
        for answer in answers:
            self._follow(client, answer)
        self._settle(client)

    @staticmethod
    def _settle(client: Client) -> None:
        if client.audience != client.session.audience:
            client.room.remove(client)
            client.room.add(client)

    def _follow(self, client: Client, answer: Answer) -> None:
        match answer:
            case bytes():
                client.outbox.answer(answer)
            case AskFigures(write):
                client.outbox.answer(write(self.figures()))
            case AskReplay() | AskSnapshot():
                ((self.on_history or self._serve) if self._filled else self._hold)(client, answer)
            case Announce(telling):
                self.tell(client.room, telling)
            case AskExport():
                if self.on_export is not None:
                    self.on_export(client, answer)
            case AskLogs() | EndLogs():
                if self.on_logs is not None:
                    self.on_logs(client, answer)

    def _serve(self, client: Client, ask: AskReplay | AskSnapshot) -> None:
        match ask:
            case AskReplay(topics, since):
                self.replay(client, ask, self.ring.replay(topics, since))
            case AskSnapshot(topics, write_snapshot):
                answer = write_snapshot(self.ring.latest(topics), self.ring.heads(topics))
                client.outbox.answer(answer)

    def replay(self, client: Client, ask: AskReplay, replay: Replay[Arrival]) -> None:
        """Answer with a replay; it takes the place of whatever was queued."""
        frames = (partial(_frame, kept.message, ask.event) for kept in replay.events)
        client.outbox.restart(ask.granted(replay.heads, replay.gaps), frames)
        self._settle(client)

    def _hold(self, client: Client, ask: AskReplay | AskSnapshot) -> None:
        # A server that has just started knows no heads; answered now, "from now on" would become "from the beginning"
        # as soon as the link refills the ring.
        held = self._held.setdefault(client, [])
        if isinstance(ask, AskReplay):
            held[:] = [other for other in held if not isinstance(other, AskReplay)]
        if len(held) >= MOST_ANSWERS:
            self.refuse(client, f"at most {MOST_ANSWERS} requests may wait for the server's history")
            return
        held.append(ask)
        client.outbox.answer(ask.waiting(_WAITING))

    # Events

    def take(self, events: Iterable[Event], *, history: bool = False, tell: bool = True) -> int:
        """Keep and broadcast events, in order; returns how many were new.

        ``history`` restores what an earlier server had broadcast: only those get it who know their place. Without
        ``tell`` nobody does; they are part of a replay.
        """
        taken = 0
        for event in events:
            match self.ring.judge(event):
                case Taken.NEW:
                    taken += self._take(event, history=history, tell=tell)
                case Taken.DUPLICATE:
                    self.measured.traffic.duplicate_events += 1
                case Taken.STALE:
                    self.measured.traffic.stale_events += 1
        return taken

    def _take(self, event: Event, *, history: bool, tell: bool) -> bool:
        traffic = self.measured.traffic
        arrival = self._shared.arrived(event)
        try:
            size = payload_bytes(arrival)
        except orjson.JSONEncodeError:
            # Too deeply nested to stand inside a message: its seq stays out, and is told as a gap. Raised, it would cut
            # the link, which would bring it again.
            traffic.rejected_events += 1
            return False
        self.ring.take(event, arrival, size)
        self.measured.saw(event, size)
        if history:
            traffic.events_restored += 1
        else:
            traffic.events_taken += 1
        for room in self.rooms.values():
            telling = room.dialect.take(arrival, news=not history)
            if telling is not None and tell:
                self.tell(room, telling)
        return True

    def tell(self, room: Room, telling: Telling) -> None:
        """Tell a room's audiences something; a client whose queue is full is given up."""
        for subscription, audience in list(room.audiences.items()):
            message = telling(subscription)
            if message is not None:
                audience.tell(message)

    def give_up(self, client: Client) -> None:
        """Tell a client nothing more, because it is too slow; safe to call twice."""
        if not client.outbox.too_slow.is_set():
            client.outbox.too_slow.set()
            self.measured.traffic.slow_clients_closed += 1
            self.detach(client)

    def tick(self, room: Room) -> None:
        """Tell a room what its dialect tells by the clock."""
        self.measured.per_second(self._now())
        if room.audiences:
            for telling in room.dialect.tick(self._now()):
                self.tell(room, telling)

    def filled(self, heads: Cursor | None = None) -> None:
        """Note that there is all that is retained, and where its streams stand; answers what waited for that.

        Also called when no link came in time: then the answers are of what there is.
        """
        if heads is not None:
            self.ring.adopt(heads)
        first, self._filled = not self._filled, True
        held, self._held = self._held, {}
        for client, asks in held.items():
            self._answer(client, asks)
        for room in self.rooms.values() if first else ():
            for telling in room.dialect.filled(self._now()):
                self.tell(room, telling)

    # State

    async def caught_up(self) -> None:
        """Wait until no client is behind by half a queue or more."""
        await self._until(lambda: not self.flusher.crowded)

    async def drained(self) -> None:
        """Wait until every client's messages are written."""
        await self._until(lambda: not any(client.outbox.waiting for client in self._clients()))

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            self.flusher.progressed.clear()
            await self.flusher.progressed.wait()

    def health(self) -> dict[str, Any]:
        """Return how the server is doing, for ``GET /health`` and ``GET /metrics``."""
        return dict(stats.health(self.measured, self._gauges(), self._now()))

    def figures(self) -> Figures:
        """Return the seed's figures."""
        recent = [kept.message for kept in self.ring.recent(_RECENT)]
        health = {**self.health(), **self.on_health()}
        return stats.figures(self.measured, self.clients, health, recent, self._now())

    def events(self, ask: AskExport) -> Sequence[Event]:
        """Return what an export is to hold: every retained event of the topics, in order within each stream."""
        return [kept.event for kept in self.ring.replay(ask.topics, Cursor()).events]

    def _clients(self) -> Iterator[Client]:
        return (client for room in self.rooms.values() for client in room.clients)

    def _gauges(self) -> stats.Gauges:
        waiting = [client.outbox.waiting for client in self._clients()]
        told = self.link_figures.values()
        return stats.Gauges(
            clients=self.clients,
            links=self.links,
            streams=len(self.ring.streams),
            retained_events=len(self.ring),
            retained_bytes=self.ring.size,
            evicted_events=self.ring.evicted,
            filled=self._filled,
            waiting_messages=sum(waiting),
            longest_queue=max(waiting, default=0),
            link_retries=sum(link.retries for link in told),
            link_breaker_opened=sum(link.breaker_opened for link in told),
            clients_by_dialect={name: len(room) for name, room in self.rooms.items()},
            subscriptions={
                name: dict(counts) for name, room in self.rooms.items() if (counts := room.subscriptions())
            },
        )


def payload_bytes(arrival: Arrival) -> int:
    """Return the size of a payload's JSON; raises orjson.JSONEncodeError when a message could not hold it.

    The brackets are as deep as any message puts a payload, so that what is taken can be told by every dialect.
    """
    if arrival.size_bytes is None:
        arrival.size_bytes = len(orjson.dumps([[[[arrival.event.payload]]]])) - 8
    return arrival.size_bytes


def _frame(arrival: Arrival, write: Callable[[Event, datetime], bytes]) -> bytes:
    return text_frame(arrival.written(write))
