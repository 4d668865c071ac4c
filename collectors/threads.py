"""Blocking readers on daemon threads.

A reading that hangs in the kernel (a dead mount, a frozen daemon) cannot be cancelled. The standard executors would wait
for it when the process ends, and would queue the next reading behind it; these threads do neither.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from collectors.collector import CollectorError

T = TypeVar("T")


class ReaderBusy(CollectorError):  # noqa: N818 - named for what it is
    """Every thread of this reader still hangs in an earlier reading."""

    def __init__(self, name: str, limit: int) -> None:
        super().__init__(
            f"{name}: {limit} earlier readings have not come back; does a mount or a daemon hang?"
        )


class Reader:
    """Runs blocking calls, at most ``limit`` at a time, each on a daemon thread of its own."""

    def __init__(self, name: str, *, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._room = asyncio.Semaphore(limit)
        self.abandoned = 0
        """Calls whose caller was cancelled and whose thread has not come back."""

    async def call(self, function: Callable[[], T]) -> T:
        """Return or raise what the function does, waiting for room first.

        Cancelling abandons the thread, which keeps its place until it comes back. Raises ReaderBusy when only
        abandoned threads are left.
        """
        if self.abandoned >= self._limit:
            raise ReaderBusy(self._name, self._limit)
        await self._room.acquire()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(set_outcome: Callable[[], None]) -> None:
            self._room.release()
            if future.cancelled():
                self.abandoned -= 1
            else:
                set_outcome()

        def body() -> None:
            outcome: Callable[[], None]
            try:
                outcome = partial(future.set_result, function())
            except BaseException as error:  # noqa: BLE001 - handed to whoever awaits
                outcome = partial(future.set_exception, error)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, outcome)

        threading.Thread(target=body, name=self._name, daemon=True).start()
        try:
            return await future
        except asyncio.CancelledError:
            if future.cancelled():
                self.abandoned += 1
            raise
