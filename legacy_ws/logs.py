"""Container logs on demand: read while somebody is subscribed, once for all of them, and not at all otherwise."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from legacy_ws.frames import Framing
from legacy_ws.hub import Client
from legacy_ws.protocol.containers import MOST_LINES
from legacy_ws.protocol.dialect import AskLogs, LogTail
from legacy_ws.protocol.records import milliseconds
from monitoring.logs import LogLine, LogSource, LogsUnavailable, Tail

log = structlog.get_logger("legacy_ws")

GATHER_SECONDS = 0.25
"""New lines are sent so long after the first of them; seed 002 promises half a second."""
MOST_PER_CLIENT = 20
"""Containers that one client may follow at once."""


_Key = tuple[str, str]


@dataclass(slots=True)
class _Follower:
    """One container that is read, its last lines, and who listens."""

    task: asyncio.Task[None] | None = None
    begun: bool = False
    last: Tail = field(default_factory=lambda: Tail(MOST_LINES))
    fresh: list[LogLine] = field(default_factory=list)
    listeners: dict[tuple[Client, str], AskLogs] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None


class LogDesk:
    """Follows the containers that somebody subscribed to. Its tasks belong to ``group``."""

    def __init__(self, source: LogSource, group: asyncio.TaskGroup, slow: Callable[[Client], None]) -> None:
        """``slow`` is called with a client whose queue ran full."""
        self._source = source
        self._group = group
        self._slow = slow
        self._followers: dict[_Key, _Follower] = {}
        self._subscriptions: dict[Client, dict[str, _Key]] = {}

    @property
    def followed(self) -> int:
        """Containers that are read now."""
        return len(self._followers)

    def subscribe(self, client: Client, ask: AskLogs) -> None:
        """Answer with the last lines, at once or when they are read, and send new ones until ``unsubscribe``."""
        self.unsubscribe(client, ask.container)
        mine = self._subscriptions.setdefault(client, {})
        if len(mine) >= MOST_PER_CLIENT:
            reason = (
                f"at most {MOST_PER_CLIENT} containers may be followed at once; unsubscribe from one first"
            )
            client.outbox.answer(ask.failed(reason))
            return
        key = mine[ask.container] = (ask.device, ask.full_name)
        follower = self._followers.get(key)
        if follower is None:
            follower = self._followers[key] = _Follower()
            follower.task = self._group.create_task(self._follow(key, follower))
        if follower.begun:
            self._send(follower)  # what the others have yet to hear is in the snapshot of the new one
            _answer(client, ask, follower)
        follower.listeners[client, ask.container] = ask

    def unsubscribe(self, client: Client, container: str) -> None:
        """Send no more lines; the last listener who goes ends the reading."""
        key = self._subscriptions.get(client, {}).pop(container, None)
        follower = self._followers.get(key) if key else None
        if key is None or follower is None:
            return
        follower.listeners.pop((client, container), None)
        if not follower.listeners:
            self._end(key, follower)

    def forget(self, client: Client) -> None:
        """Let go of a client that left."""
        for container in list(self._subscriptions.get(client, ())):
            self.unsubscribe(client, container)
        self._subscriptions.pop(client, None)

    async def _follow(self, key: _Key, follower: _Follower) -> None:
        reason = "its log has ended"
        try:
            async with contextlib.aclosing(self._source.follow(*key, MOST_LINES)) as batches:
                async for lines in batches:
                    self._take(follower, lines)
        except LogsUnavailable as error:
            reason = error.reason
        except Exception:
            # A source that errs ends its own reading; raised, it would end every task of the server.
            log.exception("logs_failed", device=key[0], container=key[1])
            reason = "reading it failed"
        if self._followers.get(key) is not follower:
            return  # nobody listens any more
        self._send(follower)
        words = "no more logs" if follower.begun else "no logs"
        log.info("logs_ended", device=key[0], container=key[1], reason=reason)
        for (client, container), ask in list(follower.listeners.items()):
            self.unsubscribe(client, container)
            # Offered like the lines it follows: an answer would overtake them.
            message = ask.failed(f"{words} of {container[:100]!r}: {reason}")
            if not client.outbox.offer(client.outbox.frame(message)):
                self._slow(client)

    def _take(self, follower: _Follower, lines: Sequence[LogLine]) -> None:
        follower.last.extend(lines)
        if not follower.begun:
            follower.begun = True
            for (client, _), ask in follower.listeners.items():
                _answer(client, ask, follower)
            return
        follower.fresh.extend(lines)
        if len(follower.fresh) >= MOST_LINES:
            self._send(follower)
        elif follower.fresh and follower.timer is None:
            loop = asyncio.get_running_loop()
            follower.timer = loop.call_later(GATHER_SECONDS, self._send, follower)

    def _send(self, follower: _Follower) -> None:
        """Send what gathered; a message is written once for all who call the container the same."""
        if follower.timer is not None:
            follower.timer.cancel()
            follower.timer = None
        fresh, follower.fresh = follower.fresh, []
        if not fresh:
            return
        frames: dict[tuple[Callable[[LogTail], bytes], str, Framing], bytes] = {}
        for (client, container), ask in list(follower.listeners.items()):
            key = (ask.more, container, client.outbox.frame)
            frame = frames.get(key)
            if frame is None:
                frame = frames[key] = client.outbox.frame(ask.more(_tail(container, fresh)))
            if not client.outbox.offer(frame):
                self._slow(client)

    def _end(self, key: _Key, follower: _Follower) -> None:
        del self._followers[key]
        if follower.timer is not None:
            follower.timer.cancel()
        if follower.task is not None and follower.task is not asyncio.current_task():
            follower.task.cancel()


def _answer(client: Client, ask: AskLogs, follower: _Follower) -> None:
    last = follower.last.last(ask.lines)
    client.outbox.answer(ask.snapshot(_tail(ask.container, last)))


def _tail(container: str, lines: Sequence[LogLine]) -> LogTail:
    told = tuple(f"{milliseconds(line.at)} {line.shown}" for line in lines)
    return LogTail(container, told, lines[-1].at if lines else None)
