"""What came from the replication stream and waits to be delivered: bounded, in batches, nothing dropped."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from embedded.wal import Transaction

_MOST_TRANSACTIONS: Final = 256
_MOST_BYTES: Final = 8 * 1024 * 1024
_TRANSACTIONS_AT_ONCE: Final = 64
_BYTES_AT_ONCE: Final = 4 * 1024 * 1024


class Backlog:
    """A queue between one task that puts and one that takes; full, it holds back whoever puts."""

    def __init__(self) -> None:
        self._waiting: deque[Transaction] = deque()
        self._size = 0
        self._filled = asyncio.Event()
        self._room = asyncio.Event()

    async def put(self, transaction: Transaction) -> None:
        """Append it once there is room; alone it may have any size."""
        while self._waiting and (
            len(self._waiting) >= _MOST_TRANSACTIONS or self._size + transaction.size > _MOST_BYTES
        ):
            self._room.clear()
            await self._room.wait()
        self._waiting.append(transaction)
        self._size += transaction.size
        self._filled.set()

    async def first(self) -> Transaction:
        """Return what `take` will begin with, as soon as there is anything."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        return self._waiting[0]

    def take(self) -> list[Transaction]:
        """Return, in order, what gathered, but not more than can be worked on at once. Empty if nothing waits."""
        taken: list[Transaction] = []
        size = 0
        while self._waiting and len(taken) < _TRANSACTIONS_AT_ONCE and size < _BYTES_AT_ONCE:
            transaction = self._waiting.popleft()
            size += transaction.size
            taken.append(transaction)
        self._size -= size
        self._room.set()
        return taken
