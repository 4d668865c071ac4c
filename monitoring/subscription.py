"""A subscription: an async iterator with an owner, a bounded buffer, and a visible state.

Most readers iterate. The router reads several subscriptions at once and must never wait for a slow consumer: it is
woken (``listen``), takes what there is (``take``) and hands on what there is room for (``room``, ``push``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")

_BUFFER = 2048
"""Items a consumer may be behind before its feed waits for it."""


class Subscription(Generic[T]):
    """Items of one feed, for one consumer.

    The feed is a coroutine that this object runs and cancels: it calls ``put`` for each item and waits while the
    buffer is full, so a slow consumer slows only its own feed. ``live`` says whether the feed is at this moment
    connected and up to date, and its backend knows what the client has. Iteration ends when ``close`` is called and raises what the feed raised; cancelling a
    reader loses no item. The feed begins with the object, so make it inside a running event loop.
    """

    def __init__(self, feed: Callable[[Subscription[T]], Awaitable[None]], *, buffer: int = _BUFFER) -> None:
        self._items: deque[T] = deque()
        self._buffer = buffer
        self._wake = asyncio.Event()  # there are items, or the feed ended
        self._room = asyncio.Event()
        self._room.set()
        self._live = asyncio.Event()
        self._on_items: Callable[[], None] | None = None
        self._on_change: Callable[[], None] | None = None
        self._on_room: Callable[[], None] | None = None
        self._closing = False
        self._task = asyncio.ensure_future(
            feed(self)
        )  # owned: ended by close(), its error raised by iteration
        self._task.add_done_callback(self._ended)

    def _ended(self, _: asyncio.Future[None]) -> None:
        self._live.clear()
        self._wake.set()
        self._changed()

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change()

    @property
    def live(self) -> bool:
        """Whether the feed is connected and up to date."""
        return self._live.is_set() and not self._task.done()

    @live.setter
    def live(self, live: bool) -> None:
        """Set by the feed when its connection becomes live, or stops being so."""
        if live is self._live.is_set():
            return
        if live:
            self._live.set()
        else:
            self._live.clear()
        self._changed()

    @property
    def ended(self) -> bool:
        """Whether the feed has ended; items that it left can still be taken."""
        return self._task.done()

    @property
    def failure(self) -> BaseException | None:
        """What the feed ended with, if it ended with an error."""
        return self._task.exception() if self._task.done() and not self._task.cancelled() else None

    @property
    def waiting(self) -> int:
        """How many items wait to be taken."""
        return len(self._items)

    @property
    def room(self) -> int:
        """How many items can be added before the consumer counts as behind; never negative."""
        return max(0, self._buffer - len(self._items))

    async def wait_live(self) -> None:
        """Wait until the feed is live; raises what ended the feed, if it ends first.

        Somebody must read meanwhile if there is much to catch up with: the feed waits for a reader first.
        """
        waiter = asyncio.ensure_future(self._live.wait())
        try:
            await asyncio.wait({waiter, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
        if self._task.done():
            self._task.result()

    async def put(self, item: T) -> None:
        """Hand an item to the consumer; waits while the consumer is behind."""
        while len(self._items) >= self._buffer:
            self._room.clear()
            await self._room.wait()
        self.push(item)

    def push(self, item: T) -> None:
        """Hand an item to the consumer at once; the caller looks at ``room`` before."""
        self._items.append(item)
        if len(self._items) == 1:  # a consumer that has not come for what is there has been told already
            self._wake.set()
            if self._on_items is not None:
                self._on_items()

    def take(self, limit: int) -> list[T]:
        """Return at most ``limit`` items that wait, without waiting for any."""
        items = [self._items.popleft() for _ in range(min(limit, len(self._items)))]
        if items:
            self._freed()
        return items

    def _freed(self) -> None:
        self._room.set()
        if self._on_room is not None:
            self._on_room()

    def listen(self, items: Callable[[], None], change: Callable[[], None]) -> None:
        """Have ``items`` called when some wait where none did, ``change`` when ``live`` changes or the feed ends."""
        self._on_items, self._on_change = items, change

    def when_room(self, wake: Callable[[], None]) -> None:
        """Have ``wake`` called, for the feed, each time the consumer has taken something."""
        self._on_room = wake

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._task.done():
                if not self._task.cancelled():
                    self._task.result()
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        item = self._items.popleft()
        self._freed()
        return item

    def add_done_callback(self, forget: Callable[[Subscription[T]], object]) -> None:
        """Call ``forget(self)`` once the feed has ended, however it ended."""
        self._task.add_done_callback(lambda _: forget(self))

    async def close(self) -> None:
        """Stop the feed and end the iteration after what is buffered; safe to call twice."""
        if not self._closing:  # a second cancellation would end the feed in the middle of its cleaning up
            self._closing = True
            self._task.cancel()
        await asyncio.wait({self._task})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
