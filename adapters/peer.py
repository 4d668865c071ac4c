"""The client's end of connections to one WebSocket server: opened, kept alive, given up, and opened again.

What is said over a connection is the caller's (`adapters.legacy_websocket`, `adapters.foreign_websocket`); here are the
deadlines, the reconnects and what is known of the server's health.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import structlog
from websockets.asyncio.client import ClientConnection, connect

from adapters.backoff import Backoff
from adapters.legacy_dialect import CONNECTION_ERRORS, Silent, explain, shown
from adapters.resilience import Attempt, Breaker, Circuit
from monitoring.errors import Refused, Unreachable
from monitoring.service import Backend, Health, Item, Status
from monitoring.subscription import Subscription

log = structlog.get_logger("adapters.peer")

_MAX_MESSAGE_BYTES = (
    16 * 1024 * 1024
)  # initial_stats and snapshots are larger than anything a client may send
_MAX_FRAMES = 16
"""Messages of one connection that are read ahead; beyond that the server's sending waits for our consumer."""
_CLOSE_SECONDS = 1.0
_HELD_SECONDS = 5.0
"""A connection that was live for so long was a good one: the next reconnect is quick again."""


def utc_now() -> datetime:
    """Return the time of now."""
    return datetime.now(UTC)


class Connected:
    """One connection that is up, of one subscription."""

    def __init__(self, peer: Peer, socket: ClientConnection, attempt: Attempt, backoff: Backoff) -> None:
        self.socket = socket
        self._peer = peer
        self._attempt = attempt
        self._backoff = backoff
        self._live_since: float | None = None

    def answered(self) -> None:
        """Note that the server speaks as it should: from here on an error is an outage, never a refusal."""
        self._peer.worked = True
        self._peer.breaker.succeeded(self._attempt)

    def note(self, *, live: bool, detail: str) -> None:
        """Note how the connection is doing."""
        self._peer.note(detail)
        now = asyncio.get_running_loop().time()
        if not live:
            self._live_since = None
        elif self._live_since is None:
            self._live_since = now
        elif self._backoff.attempts and now - self._live_since > _HELD_SECONDS:
            self._backoff.reset()


class Peer:
    """The server at ``url``. A connection that is silent for ``silence_seconds`` is given up.

    ``random`` (in [0, 1)) spreads the reconnects. With ``deflate`` compression is offered: ours frames a message
    once for all who take it; of another's server nobody knows what it costs.
    """

    def __init__(
        self,
        url: str,
        *,
        open_seconds: float,
        silence_seconds: float,
        random: Callable[[], float] | None,
        now: Callable[[], datetime],
        deflate: bool = False,
    ) -> None:
        self.url = url
        self._compression = "deflate" if deflate else None
        self.open_seconds = open_seconds
        self.silence_seconds = silence_seconds
        self.breaker = Breaker(random=random)
        self.counters: Counter[str] = Counter()
        self.worked = False
        """Whether the server has ever answered as it should."""
        self.detail = "not connected yet"
        self._random = random
        self._now = now
        self._subscriptions: set[Subscription[Item]] = set()
        self._closed = False
        self._status = Status.CONNECTING
        self._since = now()

    async def keep(self, out: Subscription[Item], converse: Callable[[Connected], Awaitable[None]]) -> None:
        """Keep one subscription connected until it is cancelled; raises Refused when waiting will not help.

        ``converse`` runs over each connection and ends only with one of CONNECTION_ERRORS.
        """
        backoff = Backoff(random=self._random)
        self._subscriptions.add(out)
        try:
            while True:
                try:
                    async with self.breaker.attempt() as attempt, self.connection() as socket:
                        await converse(Connected(self, socket, attempt, backoff))
                except CONNECTION_ERRORS as error:
                    self._failed(error)
                finally:
                    out.live = False
                if self.breaker.state.circuit is Circuit.CLOSED:  # else the breaker says when
                    await asyncio.sleep(backoff.next())
                self.counters["reconnects"] += 1
        finally:
            self._subscriptions.discard(out)

    def _failed(self, error: Exception) -> None:
        answer = explain(self.url, error)
        if isinstance(answer, Refused) and not self.worked:
            self.note(str(answer))
            raise answer from error
        if str(answer) != self.detail:  # a server that stays away is said once
            log.warning("connection_lost", url=shown(self.url), reason=str(answer))
        self.note(str(answer))

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[ClientConnection]:
        """Open a connection for the block."""
        async with connect(
            self.url,
            compression=self._compression,
            proxy=None,  # an old server is next door; a proxy of the environment would not know it
            max_size=_MAX_MESSAGE_BYTES,
            max_queue=_MAX_FRAMES,
            open_timeout=self.open_seconds,
            ping_interval=None,  # see receive
            close_timeout=_CLOSE_SECONDS,
        ) as connection:
            yield connection

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[ClientConnection]:
        """Open a connection for one question; raises Unreachable at once while the breaker admits nobody."""
        if not self.breaker.admits:
            raise Unreachable(Backend.LEGACY, self.detail)
        async with self.breaker.attempt() as attempt, self.connection() as connection:
            self.breaker.succeeded(attempt)
            yield connection

    async def receive(
        self, socket: ClientConnection, *, wait_seconds: float | None = None, frame: bytes | None = None
    ) -> bytes | None:
        """Return the next message, None when none came in time and the server still shows a sign of life.

        A quiet server is sent ``frame``, whose answer is a message like any other, or a ping. It is asked only while
        we wait: a consumer that takes its time is not the server's fault. Raises Silent.
        """
        half = self.silence_seconds / 2
        try:
            async with asyncio.timeout(half if wait_seconds is None else wait_seconds):
                return await socket.recv(decode=False)
        except TimeoutError:
            pass
        try:
            async with asyncio.timeout(half):
                if frame is None:
                    await (await socket.ping())
                    return None
                await socket.send(frame, text=True)
                return await socket.recv(decode=False)
        except TimeoutError:
            raise Silent(f"no sign of life for {self.silence_seconds:g} s") from None

    def note(self, detail: str) -> None:
        """Note what is to be said of the server."""
        status = self._status_now()
        if status is not self._status:
            self._since = self._now()
        self._status, self.detail = status, detail

    def closed(self) -> None:
        """Note that nobody wants the server any more."""
        self._closed = True
        self.note("closed")

    def health(self, more: Mapping[str, int]) -> Health:
        """Return how the server is doing; ``more`` is added to the counters."""
        counters = Counter(self.counters)
        counters.update(more)
        counters.update(self.breaker.state.gauges)
        return Health(Backend.LEGACY, self._status, self._since, self.detail, counters)

    def _status_now(self) -> Status:
        if self._closed:
            return Status.CLOSED
        if self._subscriptions and all(subscription.live for subscription in self._subscriptions):
            return Status.LIVE
        return Status.RECONNECTING if self.worked else Status.CONNECTING
