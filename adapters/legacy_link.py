"""The forwarder of the path "legacy": from the owner's spool to the legacy server, over its ``/link``.

On every connect the server states its heads; the link sends what the spool has retained after them, marking what an
earlier server had acknowledged as history, and then follows the spool. A server that is away delays only this path.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from websockets.asyncio.client import ClientConnection, connect

from adapters.backoff import Backoff
from adapters.legacy_dialect import CONNECTION_ERRORS, Misbehaved, explain
from adapters.link_logs import LinkLogs
from adapters.outbox import Outbox
from adapters.resilience import Attempt, Breaker, BreakerState, Circuit
from legacy_ws.protocol import link
from monitoring.cursor import Cursor
from monitoring.errors import Refused
from monitoring.events import BEGINNING, Event
from monitoring.interest import DeviceNames
from monitoring.logs import LogSource

log = logging.getLogger(__name__)  # in an application that pushes, too: nothing may get into its output

_PATH: Final = "legacy"
_WINDOW = 8
"""Frames that may be on their way unacknowledged."""
_ACK_SECONDS = 30.0
_OPEN_SECONDS = 10.0
_PING_SECONDS = 5.0
_CLOSE_SECONDS = 1.0
_RETRY_CAP_SECONDS = 5.0
"""Shorter than the clients': there is one link, and everyone waits for what it brings."""


@dataclass(frozen=True, slots=True)
class LinkState:
    """How the link is doing; counts are since it was made."""

    connected: bool
    detail: str
    sent_events: int
    refilled_events: int
    unsendable_events: int
    connects: int
    breaker: BreakerState = field(default_factory=BreakerState)


class LegacyLink:
    """Keeps the legacy server at ``url`` (``ws://HOST:PORT/link``) fed from an outbox."""

    def __init__(
        self,
        outbox: Outbox,
        url: str,
        token: str,
        *,
        logs: Mapping[str, LogSource] | None = None,
        watched: Callable[[DeviceNames], None] | None = None,
        random: Callable[[], float] | None = None,
    ) -> None:
        """``logs`` are the sources of container logs, by device; read only while the server asks.

        ``watched`` is told which devices the server's clients watch by name, at each change; none without a connection.
        """
        self._logs = logs or {}
        self._watched = watched
        self._outbox = outbox
        self._url = url
        self._token = token
        self._backoff = Backoff(cap=_RETRY_CAP_SECONDS, random=random)
        self._breaker = Breaker(cap=_RETRY_CAP_SECONDS, random=random)
        self._connected = False
        self._detail = "not connected yet"
        self._sent = self._refilled = self._unsendable = self._connects = 0

    @property
    def state(self) -> LinkState:
        """How the link is doing at this moment."""
        return LinkState(
            self._connected,
            self._detail,
            self._sent,
            self._refilled,
            self._unsendable,
            self._connects,
            self._breaker.state,
        )

    async def run(self) -> None:
        """Forward for as long as the task lives. Raises only what the outbox raises, in an ExceptionGroup."""
        own = asyncio.current_task()
        while True:
            try:
                # A task of its own, cancelled and awaited with this one: up to Python 3.12 a TaskGroup whose child
                # fails as its parent is cancelled forgets the cancellation and spoils the parent's count of them.
                async with self._breaker.attempt() as attempt:
                    await asyncio.create_task(self._session(attempt))
            except* CONNECTION_ERRORS as errors:
                self._failed(_first(errors))
            finally:
                self._connected = False
                if self._watched is not None:
                    self._watched(frozenset())
            if own is not None and own.cancelling():
                raise asyncio.CancelledError
            if self._breaker.state.circuit is Circuit.CLOSED:  # else the breaker says when
                await asyncio.sleep(self._backoff.next())

    def _failed(self, error: BaseException) -> None:
        answer = explain(self._url, error)
        if str(answer) != self._detail:  # a server that stays away is said once
            level = logging.ERROR if isinstance(answer, Refused) else logging.WARNING
            log.log(level, "link: %s", answer)
        self._detail = str(answer)

    async def _session(self, attempt: Attempt) -> None:
        async with connect(
            self._url,
            additional_headers={"Authorization": f"Bearer {self._token}"},
            compression=None,
            proxy=None,
            max_size=link.MAX_FRAME_BYTES,
            open_timeout=_OPEN_SECONDS,
            ping_interval=_PING_SECONDS,
            ping_timeout=_PING_SECONDS,
            close_timeout=_CLOSE_SECONDS,
        ) as connection:
            async with asyncio.timeout(_OPEN_SECONDS):
                greeting = link.decode(await connection.recv(decode=False))
            if not isinstance(greeting, link.Heads):
                raise Misbehaved(f"expected the server's heads first, got {type(greeting).__name__.lower()}")
            self._connected, self._detail = True, "connected"
            self._breaker.succeeded(attempt)
            self._connects += 1
            log.info("link: connected")
            window = _Window()
            async with asyncio.TaskGroup() as group:
                logs = LinkLogs(self._logs, connection, group)
                await logs.offer()
                if self._watched is not None:
                    await connection.send(link.encode(link.AskWatched()), text=True)
                group.create_task(self._acknowledge(connection, window, logs))
                group.create_task(self._forward(connection, greeting.heads, window))

    async def _forward(self, connection: ClientConnection, heads: Cursor, window: _Window) -> None:
        """Send what is retained after the server's heads, then whatever is appended; ends only with an error."""
        after = 0  # the oldest retained
        known = self._outbox.acknowledged(_PATH)  # what an earlier server had
        filled = False
        while True:
            # Read before the events: what is then still to be read is not yet in these heads.
            own_heads = self._outbox.heads()
            rows = self._outbox.read(after, link.MAX_EVENTS)
            if rows:
                missing = [
                    (at, event) for at, event in rows if event.position > heads.get(event.stream, BEGINNING)
                ]
                for history in (True, False):
                    part = [(at, event) for at, event in missing if (at <= known) is history]
                    await self._send(connection, part, window, history=history, more=not filled)
                after = rows[-1][0]
                await asyncio.sleep(0)  # when the server has all of them, nothing above waits
            elif not filled:
                await window.enter(after)
                end = link.Events(after, heads=own_heads, figures=self._figures())
                await connection.send(link.encode(end), text=True)
                filled = True
            else:
                await self._outbox.appended(after)

    def _figures(self) -> link.LinkFigures:
        """Return what the server tells of this link in its metrics; it changes only while there is no connection."""
        breaker = self._breaker.state
        return link.LinkFigures(breaker.attempts - self._connects, breaker.opened)

    async def _send(
        self,
        connection: ClientConnection,
        rows: Sequence[tuple[int, Event]],
        window: _Window,
        *,
        history: bool,
        more: bool,
    ) -> None:
        encoded: list[tuple[int, bytes]] = []
        for position, event in rows:
            try:
                encoded.append((position, link.encode_event(event)))
            except link.Unsendable as error:
                self._unsendable += 1
                log.warning("link: an event cannot be sent: %s", error)
        for frame in link.pack(encoded, history=history, more=more):
            await window.enter(frame.position)
            await connection.send(frame.data, text=True)
            if history:
                self._refilled += frame.events
            else:
                self._sent += frame.events

    async def _acknowledge(self, connection: ClientConnection, window: _Window, logs: LinkLogs) -> None:
        """Tell the outbox what the server has taken, and read the logs it asks for; ends only with an error."""
        while True:
            match link.decode(await connection.recv(decode=False)):
                case link.Ack(position):
                    window.leave(position)
                    # Refilled history lies before what is acknowledged already.
                    if position > self._outbox.acknowledged(_PATH):
                        self._outbox.acknowledge(_PATH, position)
                    self._backoff.reset()  # it takes what we send: the connection is a good one
                case link.Watched(devices) if self._watched is not None:
                    self._watched(devices)
                case link.LinkError(error):
                    raise Misbehaved(f"the server refused a frame: {error}")
                case link.Heads() | link.Events() | link.AskWatched() | link.Watched() as other:
                    raise Misbehaved(f"expected an ack, got {type(other).__name__.lower()}")
                case other if not logs.take(other):
                    raise Misbehaved(f"expected an ack, got {type(other).__name__.lower()}")


class _Window:
    """The positions sent and not yet acknowledged, at most _WINDOW of them."""

    def __init__(self) -> None:
        self._sent: deque[int] = deque()
        self._moved = asyncio.Event()

    async def enter(self, position: int) -> None:
        """Wait for room, and note that a frame up to the position is about to be sent; raises Misbehaved."""
        try:
            async with asyncio.timeout(_ACK_SECONDS):
                while len(self._sent) >= _WINDOW:
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            raise Misbehaved(f"no acknowledgement for {_ACK_SECONDS:g} s") from None
        self._sent.append(position)

    def leave(self, position: int) -> None:
        """Take an acknowledgement, of one frame and all before it; raises Misbehaved for one of what was not sent."""
        if not self._sent or position > self._sent[-1]:
            raise Misbehaved(f"acknowledged position {position}, which was not sent")
        while self._sent[0] < position:
            self._sent.popleft()
        if (
            self._sent[0] == position
        ):  # only one: the frame that ends a refill has the position of the one before
            self._sent.popleft()
        self._moved.set()


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first plain error of a group."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
