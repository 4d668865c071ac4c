"""An intake in memory: keeps events, or refuses them as it is told, and can be made to wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from monitoring.events import Draft
from monitoring.intake import Intake, Taken


class MemoryIntake(Intake):
    """``answer`` decides about each event; ``open`` holds up every answer while it is cleared."""

    def __init__(self) -> None:
        self.kept: list[Draft] = []
        self.batches: list[int] = []
        self.opened = 0
        self.fail: Exception | None = None
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Event()

    def __call__(self) -> Self:
        return self

    def answer(self, draft: Draft) -> Taken:
        return Taken()

    async def __aenter__(self) -> Self:
        self.opened += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    async def take(self, drafts: Sequence[Draft]) -> Sequence[Taken]:
        self.asked.set()
        self.open.wait()  # blocks the thread, as the real one by HTTP does
        if self.fail is not None:
            raise self.fail
        self.batches.append(len(drafts))
        outcomes = [self.answer(draft) for draft in drafts]
        self.kept += [draft for draft, taken in zip(drafts, outcomes, strict=True) if taken.refused is None]
        return outcomes


def eventually(condition: object, seconds: float = 10.0) -> None:
    """Wait for a condition, a function, to hold."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
