"""The client library: one connection to a monitoring stream, whichever backend it comes from.

::

    async with connect() as service:
        async for event in service.subscribe("devices.*"):
            print(event.occurred_at, event.stream, event.payload)

Each event comes once and in order per stream, over reconnects, restarts and moves between backends. What is gone for
good comes as a `Gap` in its place. `crossfade watch` and the dashboard are clients like any other.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from crossfade.errors import UsageError
from monitoring.cursor import Cursor
from monitoring.events import Event, Position, StreamId
from monitoring.service import Backend, Gap, Health, Item, MonitoringService, MoveAbandoned, Moved, Snapshot
from monitoring.topics import parse_topics

if TYPE_CHECKING:
    from crossfade.elsewhere import Elsewhere
    from crossfade.wiring import Wiring
    from monitoring.router import Router
    from monitoring.subscription import Subscription

OnMove = Callable[[Moved | MoveAbandoned], None]


def connect(
    where: str | Path | None = None,
    *,
    client_id: str | None = None,
    token: str | Callable[[], str] | None = None,
    backend: Backend | None = None,
    on_move: OnMove | None = None,
) -> Client:
    """Return a client; enter it with ``async with`` to connect.

    ``where`` is the data directory of a ``crossfade up`` on this machine (by default ``CROSSFADE_DATA_DIR``, else
    ``.crossfade``), or the address of a query service elsewhere, ``http://HOST:8000``, which needs a ``token``, or what
    returns one that is valid now.
    ``client_id`` is what the flags know this client by; by default one that stays the same for this user and place.
    ``backend`` keeps to one backend whatever the flags say. ``on_move`` is called for each move, and each that was
    given up.

    Raises UsageError for an address without a token or a token without an address.
    """
    if isinstance(where, str) and where.startswith(("http://", "https://")):
        if not token:
            raise UsageError(
                f"{where} needs a token: connect({where!r}, token=...); crossfade token makes one"
            )
        from crossfade.elsewhere import Elsewhere  # noqa: PLC0415 - see below

        place: Elsewhere | Wiring = Elsewhere(where, token)
    elif token is not None:
        raise UsageError(
            "a token is for the address of a query service: connect('http://HOST:8000', token=...)"
        )
    else:
        from crossfade.wiring import here  # noqa: PLC0415 - importing the library must not cost what the drivers cost

        place = here(Path(where) if where is not None else None)
    return Client(lambda: place.connect_router(client_id, backend=backend), on_move)


class Client:
    """A connection to a monitoring stream. Everything in it ends with the ``async with`` block."""

    def __init__(
        self, connect_router: Callable[[], AbstractAsyncContextManager[Router]], on_move: OnMove | None = None
    ) -> None:
        self._connect_router = connect_router
        self._on_move = on_move
        self._stack = contextlib.AsyncExitStack()
        self._router: Router | None = None

    async def __aenter__(self) -> Self:
        self._router = await self._stack.enter_async_context(self._connect_router())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        self._router = None

    @property
    def service(self) -> MonitoringService:
        """The port itself, for those who want moves among the items; raises UsageError before connecting."""
        return self._connected

    @property
    def _connected(self) -> Router:
        if self._router is None:
            raise UsageError("not connected: use it as `async with connect() as service:`")
        return self._router

    @property
    def backend(self) -> Backend:
        """Where the events come from at this moment."""
        return self._connected.backend

    def subscribe(self, *topics: str, since: Cursor | None = None) -> Events:
        """Follow topics: ``global`` (the default), ``devices.NAME``, ``categories.NAME``, ``metrics.NAME``; ``*`` is any.

        ``since`` is a cursor that an earlier `Events` stood at: everything after it is delivered, once. Without it
        delivery begins at the newest events of this moment. Raises InvalidTopic.
        """
        start: dict[StreamId, Position] = dict(since or {})
        subscription = self._connected.subscribe(parse_topics(topics), since, began=start.update)
        return Events(subscription, start, self._on_move)

    async def snapshot(self, *topics: str) -> Snapshot:
        """Return the newest event of each stream and kind, and the cursor to follow on from.

        Raises InvalidTopic, Unreachable or Refused.
        """
        return await self._connected.snapshot(parse_topics(topics))

    async def health(self) -> Health:
        """Return how the connection is doing."""
        return await self._connected.health()


class Events(AsyncIterator[Event | Gap]):
    """Events as they happen. Iterate; ends when its client does, or with ``close``. Raises Refused.

    A consumer that is slow is waited for: the backends keep what it has not taken.
    """

    def __init__(
        self,
        subscription: Subscription[Item],
        start: Mapping[StreamId, Position],
        on_move: OnMove | None,
    ) -> None:
        self._subscription = subscription
        self._on_move = on_move
        self._start = start
        self._positions: dict[StreamId, Position] = {}

    @property
    def start(self) -> Cursor:
        """Where it began: ``since``, else the newest events of that moment; empty until those are known."""
        return Cursor(self._start)

    @property
    def cursor(self) -> Cursor:
        """What has been handed out: keep it (``to_json``), and go on from it with ``subscribe(..., since=...)``.

        A stream of which nothing came yet stands where the subscription began.
        """
        return Cursor({**self._start, **self._positions})

    @property
    def live(self) -> bool:
        """Whether the feed is connected and up to date at this moment."""
        return self._subscription.live

    async def wait_live(self) -> None:
        """Wait until the feed is connected and up to date; raises what ended it.

        After a long absence read meanwhile (``since`` far back): the feed waits for its reader first.
        """
        await self._subscription.wait_live()

    async def __anext__(self) -> Event | Gap:
        while True:
            taken = self._took(await anext(self._subscription))
            if taken is not None:
                return taken

    async def batch(self, limit: int = 500) -> list[Event | Gap]:
        """Wait for at least one item and return what is there, at most ``limit``; raises StopAsyncIteration at the end."""
        first = await anext(self)
        rest = (self._took(item) for item in self._subscription.take(limit - 1))
        return [first, *(item for item in rest if item is not None)]

    def _took(self, item: Item) -> Event | Gap | None:
        if isinstance(item, Event | Gap):
            advance(self._positions, item)
            return item
        if self._on_move is not None:
            self._on_move(item)
        return None

    async def close(self) -> None:
        """End it; safe to call twice."""
        await self._subscription.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def advance(positions: dict[StreamId, Position], item: Event | Gap) -> None:
    """Note in a cursor's positions that an item was handed out."""
    if isinstance(item, Event):
        positions[item.stream] = item.position
    elif item.to_seq is not None:  # the end of the epoch is not known: the next event shows it
        positions[item.stream] = Position(item.epoch, item.to_seq)
