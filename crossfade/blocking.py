"""The client library for scripts without an event loop: the same, as ordinary iteration.

::

    with connect_blocking() as service:
        for event in service.subscribe("devices.*"):
            print(event.occurred_at, event.stream, event.payload)

One background thread runs the event loop of `crossfade.client`; events cross over in batches.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from crossfade.client import Client, Events, OnMove, advance, connect
from crossfade.errors import UsageError
from monitoring.cursor import Cursor
from monitoring.events import Event, Position, StreamId
from monitoring.service import Backend, Gap, Health, Snapshot

T = TypeVar("T")


def connect_blocking(
    where: str | Path | None = None,
    *,
    client_id: str | None = None,
    token: str | Callable[[], str] | None = None,
    backend: Backend | None = None,
    on_move: OnMove | None = None,
) -> BlockingClient:
    """Return a client; enter it with ``with`` to connect. See `crossfade.connect`; ``on_move`` is called in its thread."""
    return BlockingClient(connect(where, client_id=client_id, token=token, backend=backend, on_move=on_move))


class BlockingClient:
    """A `Client` in a thread of its own. Not for use inside an event loop."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="crossfade-client", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._wait(self._client.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._wait(self._client.__aexit__(None, None, None))
        finally:
            self._end()

    @property
    def backend(self) -> Backend:
        """Where the events come from at this moment."""
        return self._client.backend

    def subscribe(self, *topics: str, since: Cursor | None = None) -> BlockingEvents:
        """Follow topics; see `Client.subscribe`."""

        async def begin() -> Events:
            return self._client.subscribe(*topics, since=since)

        return BlockingEvents(self._wait(begin()), self)

    def snapshot(self, *topics: str) -> Snapshot:
        """Return the newest state; see `Client.snapshot`."""
        return self._wait(self._client.snapshot(*topics))

    def health(self) -> Health:
        """Return how the connection is doing."""
        return self._wait(self._client.health())

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run in the loop and wait; an interrupt from the keyboard cancels the work."""
        if not self._thread.is_alive():  # nobody would ever run it
            work.close()
            raise UsageError("not connected: use it inside `with connect_blocking() as service:`")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class BlockingEvents(Iterator[Event | Gap]):
    """Events as they happen; iterate."""

    def __init__(self, events: Events, client: BlockingClient) -> None:
        self._events = events
        self._client = client
        self._batch: list[Event | Gap] = []
        self._positions: dict[StreamId, Position] = {}

    @property
    def cursor(self) -> Cursor:
        """What has been handed out: go on from it with ``subscribe(..., since=...)``; see `Events.cursor`."""
        return Cursor({**self._events.start, **self._positions})

    def wait_live(self) -> None:
        """Wait until the feed is connected and up to date; raises what ended it."""
        self._client._wait(self._events.wait_live())  # noqa: SLF001 - one thing in two classes

    def __next__(self) -> Event | Gap:
        if not self._batch:
            self._batch = self._client._wait(self._next_batch())  # noqa: SLF001 - see above
            if not self._batch:
                raise StopIteration
            self._batch.reverse()
        item = self._batch.pop()
        advance(self._positions, item)
        return item

    async def _next_batch(self) -> list[Event | Gap]:
        try:
            return await self._events.batch()
        except StopAsyncIteration:  # it cannot cross a future
            return []

    def close(self) -> None:
        """End it; safe to call twice."""
        self._client._wait(self._events.close())  # noqa: SLF001 - see above
