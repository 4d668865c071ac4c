"""An event loop whose clock jumps to the next timer instead of waiting for it: minutes of timeouts in milliseconds."""

from __future__ import annotations

import asyncio
import selectors


class _JumpingSelector(selectors.DefaultSelector):
    """Waits for nothing; hands the time that was asked for to the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("every task waits for something that no timer will bring")
        if not ready and timeout is not None and timeout > 0:
            self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Only for tests without sockets, subprocesses and threads: those take real time."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def runner() -> asyncio.Runner:
    """Return a runner on virtual time; tasks go on from one ``run`` to the next."""
    return asyncio.Runner(loop_factory=VirtualTimeLoop)
