"""Container logs to clients of Supabase, by broadcast, while there is interest: rows of ``cf_log_interest``.

A log is followed once for all of its viewers. Each new viewer is sent the last lines (`log_snapshot`, with the viewer's
id); everybody is sent what comes (`log_lines`). Broadcasts are not replayed: a viewer that was away asks again, and knows
by the lines' places what it has.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson

from adapters.interest import Asking, InterestPart
from monitoring.logs import LogLine, LogPlace, LogSource, LogsUnavailable, Tail, format_stamp

MOST_LINES = 1_000
_MOST_CHARACTERS = 50_000
"""Of lines in one message: hosted Supabase takes 256 kB on its smallest plan, and JSON may make more of them."""
_LINE_OVERHEAD = 80
_GATHER_SECONDS = 0.25
"""Between two messages about one log: each is counted for each viewer."""
_AGAIN_SECONDS = 10.0
"""When a log that could not be read is tried again."""

_INTEREST = """
select viewer, device, container, lines from public.cf_log_interest
where device = any($1) and expires_at > clock_timestamp()
"""
_SEND = "select realtime.send($1::text::jsonb, $2, $3, true)"

_Key = tuple[str, str]


@dataclass(slots=True)
class _Followed:
    """One log: its last lines, and who was sent them."""

    place: LogPlace | None = None
    tail: Tail = field(default_factory=lambda: Tail(MOST_LINES))
    begun: bool = False
    served: set[UUID] = field(default_factory=set)
    task: asyncio.Task[None] | None = None
    again_at: float = 0.0


class LogBroadcast(InterestPart):
    """Serves the logs of some devices, over the connection of an `InterestListener`."""

    channel = "cf_log_interest"

    def __init__(self, sources: Mapping[str, LogSource]) -> None:
        """``sources`` are by device; some may come and go."""
        self._sources = sources
        self._followed: dict[_Key, _Followed] = {}

    @property
    def followed(self) -> int:
        """Logs that are followed now."""
        return len(self._followed)

    def cut(self) -> None:
        """Note that the connection has gone: its tasks end with it, and the next one goes on at their places."""
        for one in self._followed.values():
            one.task = None

    async def look(self, asking: Asking, group: asyncio.TaskGroup) -> None:
        """Read who is interested; begin what is new, end what is not wanted any more, serve who came."""
        rows = await asking.fetch(_INTEREST, list(self._sources))
        viewers: dict[_Key, dict[UUID, int]] = {}
        for row in rows:
            viewers.setdefault((row["device"], row["container"]), {})[row["viewer"]] = row["lines"]
        for key in self._followed.keys() - viewers.keys():
            ended = self._followed.pop(key)
            if ended.task is not None:
                ended.task.cancel()
        now = asyncio.get_running_loop().time()
        for key, wanted in viewers.items():
            one = self._followed.setdefault(key, _Followed())
            if (one.task is None or one.task.done()) and now >= one.again_at:
                one.task = group.create_task(self._follow(asking, key, one, wanted))
            elif one.begun:
                await self._serve(asking, key, one, wanted)
            one.served &= wanted.keys()

    async def _follow(self, asking: Asking, key: _Key, one: _Followed, viewers: Mapping[UUID, int]) -> None:
        device, container = key
        after = one.place.cursor if one.place is not None else None
        try:
            async with contextlib.aclosing(
                self._sources[device].follow(device, container, MOST_LINES, after)
            ) as batches:
                async for lines in batches:
                    await self._take(asking, key, one, lines)
                    if not one.begun:
                        one.begun = True
                        await self._serve(asking, key, one, viewers)
                    await asyncio.sleep(_GATHER_SECONDS)
        except LogsUnavailable as error:
            one.again_at = asyncio.get_running_loop().time() + _AGAIN_SECONDS
            one.begun, one.place, one.tail, one.served = False, None, Tail(MOST_LINES), set()
            await self._send(asking, key, "log_failed", {"reason": error.reason})

    async def _take(self, asking: Asking, key: _Key, one: _Followed, lines: Sequence[LogLine]) -> None:
        if one.begun:
            for part in _parts(lines):
                await self._send(asking, key, "log_lines", {"lines": part})
        # Noted only when it was sent: what a database that went away did not take is sent by the next session.
        if one.place is None:
            one.place = LogPlace(lines[0].container if lines else "")
            if lines:
                one.place.begin(lines[0].stamp)
        for line in lines:
            one.place.passed(line)
        one.tail.extend(lines)

    async def _serve(self, asking: Asking, key: _Key, one: _Followed, viewers: Mapping[UUID, int]) -> None:
        """Send the last lines to who has not had them."""
        for viewer, count in viewers.items():
            if viewer in one.served:
                continue
            one.served.add(viewer)
            parts = list(_parts(one.tail.last(count))) or [[]]
            for number, part in enumerate(parts, 1):
                value = {"viewer": str(viewer), "lines": part, "more": number < len(parts)}
                await self._send(asking, key, "log_snapshot", value)

    async def _send(self, asking: Asking, key: _Key, event: str, value: Mapping[str, Any]) -> None:
        message = orjson.dumps({"device": key[0], "container": key[1], **value}).decode()
        await asking.execute(_SEND, message, event, f"logs:{key[0]}/{key[1]}")


def _parts(lines: Sequence[LogLine]) -> Iterator[list[list[Any]]]:
    """Split lines into what one message holds; each is [container, time, position, text, mark]."""
    part: list[list[Any]] = []
    size = 0
    for line in lines:
        if part and size + len(line.text) > _MOST_CHARACTERS:
            yield part
            part, size = [], 0
        part.append([line.container, format_stamp(line.stamp), line.position, line.text, line.mark])
        size += len(line.text) + _LINE_OVERHEAD
    if part:
        yield part
