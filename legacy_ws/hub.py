"""The hub: who is connected, what each wants, and what each is still to be sent.

No sockets: the server reads each client's ``outgoing`` and writes it. Every message is serialised once, whoever gets
it. A client's live events wait in a bounded queue; a client that lets it run full is given up as too slow, because
the alternatives are to keep everybody waiting or to leave out events unnoticed. It comes back and resumes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime

import orjson

from legacy_ws import stats
from legacy_ws.protocol import dashboard
from legacy_ws.ring import Replay, Ring, Taken
from monitoring.cursor import Cursor
from monitoring.events import Event
from monitoring.topics import Topic, selects

_ANSWERS = 16
"""Answers that may wait for one client before its next request is read."""
_RECENT = 50
"""Events in ``recent_events``."""


class Client:
    """One dashboard connection: its topics and its queues. Answers go first, then the replay, then live events."""

    def __init__(self, *, max_queue: int, progress: asyncio.Event) -> None:
        self.topics: frozenset[Topic] | None = None
        """What a subscriber asked for; None for a plain client, which gets every new event."""
        self.too_slow = asyncio.Event()
        """Set once, when the client's queue ran full."""
        self._max_queue = max_queue
        self._progress = progress  # the hub's: set whenever something was handed out
        self._answers: deque[bytes] = deque()
        self._replay: deque[bytes] = deque()
        self._live: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def waiting(self) -> int:
        """Messages that wait to be sent."""
        return len(self._answers) + len(self._replay) + len(self._live)

    @property
    def half_full(self) -> bool:
        """Whether a burst should pause for this client, which is behind but not yet too slow."""
        return len(self._live) * 2 > self._max_queue

    def answer(self, message: bytes) -> None:
        """Queue the answer to a request."""
        self._answers.append(message)
        if len(self._answers) >= _ANSWERS:
            self._room.clear()
        self._wake.set()

    async def room(self) -> None:
        """Wait until fewer answers wait; the next request is read only then."""
        await self._room.wait()

    def restart(self, answer: bytes, replay: Replay) -> None:
        """Answer a subscription: the replay takes the place of what was queued, which it includes."""
        self.answer(answer)
        self._replay = deque(kept.message for kept in replay.events)
        self._live.clear()

    def offer(self, message: bytes) -> None:
        """Queue a live event; beyond the bound the client is too slow and gets no more."""
        if len(self._live) >= self._max_queue:
            self.too_slow.set()
            return
        self._live.append(message)
        self._wake.set()

    async def outgoing(self) -> bytes:
        """Return the next message to send, waiting for it."""
        while True:
            for queue in (self._answers, self._replay, self._live):
                if queue:
                    message = queue.popleft()
                    if queue is self._answers:
                        self._room.set()
                    self._progress.set()
                    return message
            self._wake.clear()
            await self._wake.wait()


class Hub:
    """The clients of one server and the ring they are served from. Used from one event loop.

    With ``await_history`` whoever asks for history waits until ``filled`` is called.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime],
        max_events: int = 20_000,
        max_queue: int = 1_000,
        clock_started: datetime,
        await_history: bool = False,
    ) -> None:
        self._now = now
        self._max_queue = max_queue
        self.ring = Ring(max_events)
        self.measured = stats.Measurements(clock_started)
        self.links = 0
        """Links connected now."""
        self._clients: set[Client] = set()
        self._progress = asyncio.Event()
        self._filled = not await_history
        self._held: dict[Client, list[dashboard.Subscribe | dashboard.SnapshotRequest]] = {}

    # Clients

    def attach(self) -> Client:
        """Take a new client and queue its ``initial_stats``."""
        client = Client(max_queue=self._max_queue, progress=self._progress)
        self._clients.add(client)
        self.measured.traffic.connections += 1
        client.answer(dashboard.encode(dashboard.InitialStats(self._figures())))
        return client

    def detach(self, client: Client) -> None:
        """Forget a client; safe to call twice."""
        self._clients.discard(client)
        self._progress.set()
        self._held.pop(client, None)

    def handle(self, client: Client, request: dashboard.ClientMessage) -> None:
        """Answer a request. What needs history waits until the server has it."""
        match request:
            case dashboard.StatsRequest():
                client.answer(dashboard.encode(dashboard.StatsAnswer(self._figures())))
            case dashboard.Ping():
                client.answer(dashboard.encode(dashboard.Pong()))
            case dashboard.Subscribe() | dashboard.SnapshotRequest():
                if self._filled:
                    self._answer(client, request)
                else:
                    self._hold(client, request)

    def refuse(self, client: Client, reason: str) -> None:
        """Tell a client that a message of its was not understood."""
        self.measured.traffic.malformed_messages += 1
        client.answer(dashboard.encode(dashboard.ErrorMessage(reason, self._now())))

    def _answer(self, client: Client, request: dashboard.Subscribe | dashboard.SnapshotRequest) -> None:
        match request:
            case dashboard.Subscribe(topics, cursor):
                replay = self.ring.replay(topics, cursor)
                client.topics = topics
                client.restart(dashboard.encode(dashboard.Subscribed(replay.heads, replay.gaps)), replay)
            case dashboard.SnapshotRequest(topics):
                answer = dashboard.SnapshotAnswer(self.ring.latest(topics), self.ring.heads(topics))
                client.answer(dashboard.encode(answer))

    def _hold(self, client: Client, request: dashboard.Subscribe | dashboard.SnapshotRequest) -> None:
        # A server that has just started knows no heads; answered now, "from now on" would become "from the beginning"
        # as soon as the link refills the ring.
        held = self._held.setdefault(client, [])
        if isinstance(request, dashboard.Subscribe):
            held[:] = [other for other in held if not isinstance(other, dashboard.Subscribe)]
        if len(held) >= _ANSWERS:
            self.refuse(client, f"at most {_ANSWERS} requests may wait for the server's history")
            return
        held.append(request)
        client.answer(
            dashboard.encode(dashboard.Waiting("the collector's link has not brought the history yet"))
        )

    # Events

    def take(self, events: Iterable[Event], *, history: bool = False) -> int:
        """Keep and broadcast events, in order; returns how many were new.

        ``history`` restores what an earlier server had broadcast: only subscribers get it, who know their place.
        """
        taken = 0
        for event in events:
            match self.ring.judge(event):
                case Taken.NEW:
                    try:
                        self._broadcast(event, history=history)
                        taken += 1
                    except orjson.JSONEncodeError:
                        # Too deeply nested to stand inside a message: its seq stays out, and is told as a gap. Raised,
                        # it would cut the link, which would bring it again.
                        self.measured.traffic.rejected_events += 1
                case Taken.DUPLICATE:
                    self.measured.traffic.duplicate_events += 1
                case Taken.STALE:
                    self.measured.traffic.stale_events += 1
        return taken

    def _broadcast(self, event: Event, *, history: bool) -> None:
        message = dashboard.event_message(event, self._now())
        encoded = dashboard.encode(message)
        self.ring.take(event, encoded)
        self.measured.saw(message, event.occurred_at)
        if history:
            self.measured.traffic.events_restored += 1
        else:
            self.measured.traffic.events_taken += 1
        wanted: dict[frozenset[Topic] | None, bool] = {None: not history}
        for client in list(self._clients):
            wants = wanted.get(client.topics)
            if wants is None:
                wants = wanted[client.topics] = selects(client.topics or (), event.stream)
            if wants:
                client.offer(encoded)
                if client.too_slow.is_set():
                    self.measured.traffic.slow_clients_closed += 1
                    self.detach(client)

    def filled(self, heads: Cursor | None = None) -> None:
        """Note that a link has sent all it retains, and where its streams stand; answers what waited for that.

        Also called when no link came in time: then the answers are of what there is.
        """
        if heads is not None:
            self.ring.adopt(heads)
        self._filled = True
        held, self._held = self._held, {}
        for client, requests in held.items():
            for request in requests:
                self._answer(client, request)

    # State

    async def caught_up(self) -> None:
        """Wait until no client's queue is more than half full."""
        await self._until(lambda: not any(client.half_full for client in self._clients))

    async def drained(self) -> None:
        """Wait until every client has been handed all its messages."""
        await self._until(lambda: not any(client.waiting for client in self._clients))

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            self._progress.clear()
            await self._progress.wait()

    def health(self) -> dict[str, object]:
        """Return how the server is doing, for ``GET /health``."""
        return dict(stats.health(self.measured, self._gauges(), self._now()))

    def _gauges(self) -> stats.Gauges:
        return stats.Gauges(
            clients=len(self._clients),
            links=self.links,
            streams=len(self.ring.streams),
            retained_events=len(self.ring),
            evicted_events=self.ring.evicted,
            filled=self._filled,
        )

    def _figures(self) -> dashboard.Stats:
        recent = tuple(orjson.Fragment(kept.message) for kept in self.ring.recent(_RECENT))
        return stats.figures(self.measured, self._gauges(), recent, self._now())
