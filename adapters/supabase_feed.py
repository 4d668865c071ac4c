"""One live connection to Supabase Realtime: the official client, one channel, from joined to ended.

The official client gives up for good after five tries and says nothing of a feed that died on the server
(``reference/loss-baseline.md``). So it is used for one connection only, without its own reconnection; who holds a
`Feed` decides when it has failed and makes a new one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

from realtime import AsyncRealtimeClient, RealtimePostgresChangesListenEvent, RealtimeSubscribeStates
from websockets.exceptions import InvalidStatus, WebSocketException

from monitoring.errors import InvalidEvent, Refused, Unreachable
from monitoring.events import Event, from_json
from monitoring.topics import Field, Topic

BACKEND = "Supabase Realtime"
CONNECT_SECONDS = 10.0
LIVE_SECONDS = 15.0
"""How long a joined channel may take until the server says that its changes flow (2.4 s were seen, cold)."""
BUFFER = 20_000
"""Events that may wait between the socket and the reader; more are dropped, counted, and read back from history."""

_TRANSIENT = (
    "RateLimitReached",
    "Initializing",
    "Restarting",
    "UnableToConnect",
    "Too many",
    "Database",
    "restart",
)
"""Words of Realtime's errors (ERROR_CODES of its source) that say "not now" rather than "not you"."""

_COLUMNS = {Field.DEVICE: "device", Field.CATEGORY: "category", Field.METRIC_TYPE: "metric_type"}


class Feed:
    """The events of one connection, as they arrive: unordered against history, possibly double, possibly with holes."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._changed = asyncio.Event()
        self.dropped = 0
        """Events dropped because the reader was too far behind."""
        self.unreadable = 0
        """Rows that were not events of ours."""
        self.ended: str | None = None
        """Why the connection is of no more use; None while it is."""

    def take(self) -> list[Event]:
        """Return what has arrived since the last call."""
        events = list(self._events)
        self._events.clear()
        self._changed.clear()
        return events

    async def wait(self, seconds: float) -> bool:
        """Wait until something arrived or the connection ended; False when nothing did in that time."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def arrived(self, payload: Any) -> None:
        """Take one row change from the client; called from its receive loop, so it must not wait."""
        data = payload.get("data") or {}
        try:
            event = from_json(data.get("record"))
        except InvalidEvent:
            self.unreadable += 1
        else:
            if len(self._events) < BUFFER:
                self._events.append(event)
            else:
                self.dropped += 1
        self._changed.set()

    def end(self, reason: str) -> None:
        """Note that the connection is of no more use; the first reason counts."""
        if self.ended is None:
            self.ended = reason
        self._changed.set()


@asynccontextmanager
async def connected(
    url: str, key: str, topics: Collection[Topic], access_token: Callable[[], str] | None
) -> AsyncIterator[tuple[Feed, AsyncRealtimeClient]]:
    """Open a feed of the topics that is live: the server has said that changes flow.

    Raises Unreachable, or Refused when the project does not accept the key, the token or the subscription.
    """
    client = AsyncRealtimeClient(
        f"{url.rstrip('/')}/realtime/v1", token=key, auto_reconnect=False, timeout=10
    )
    feed = Feed()
    live = asyncio.Event()
    failure: list[Unreachable | Refused] = []

    def on_state(state: RealtimeSubscribeStates, error: Exception | None) -> None:
        if state is not RealtimeSubscribeStates.SUBSCRIBED:
            failure.append(_failure(state, error))
            feed.end(failure[-1].reason)
            live.set()

    def on_system(payload: Any) -> None:
        if payload.extension == "postgres_changes":
            live.set()

    try:
        if access_token is not None:
            await client.set_auth(access_token())
        async with _translating(url):
            async with asyncio.timeout(CONNECT_SECONDS):
                await client.connect()
            channel = client.channel("crossfade")
            channel.on_system(on_system)
            for filter_ in filters(topics):
                channel.on_postgres_changes(
                    RealtimePostgresChangesListenEvent.Insert,
                    feed.arrived,
                    table="cf_events",
                    schema="public",
                    filter=filter_,
                )
            await channel.subscribe(on_state)
            async with asyncio.timeout(LIVE_SECONDS):
                await live.wait()
        if failure:
            raise failure[0]
        yield feed, client
    finally:
        await _close(client)


def filters(topics: Collection[Topic]) -> Sequence[str | None]:
    """Return one Realtime filter a topic; None alone when some topic selects everything."""
    if any(topic.value is None for topic in topics):
        return [None]
    return sorted(f"{_COLUMNS[topic.field]}=eq.{_quoted(topic.value or '')}" for topic in topics)


def _quoted(value: str) -> str:
    """Return the value as Realtime's filter syntax wants it: quoted when it holds a separator."""
    if any(character in value for character in ',()"\\ '):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return value


def _failure(state: RealtimeSubscribeStates, error: Exception | None) -> Unreachable | Refused:
    """Return our error for a channel that did not become, or did not stay, subscribed."""
    reason = f"the channel went {state.value}" + (f": {error}" if error else "")
    told = state is RealtimeSubscribeStates.CHANNEL_ERROR and not isinstance(
        error, WebSocketException | OSError
    )
    if told and not any(word in reason for word in _TRANSIENT):
        return Refused(
            BACKEND, reason, "check that supabase/migrations are applied and that the token may read"
        )
    return Unreachable(BACKEND, reason)


@asynccontextmanager
async def _translating(url: str) -> AsyncIterator[None]:
    """Turn the client's errors into ours."""
    try:
        yield
    except InvalidStatus as error:
        status = error.response.status_code
        body = (error.response.body or b"").decode("utf-8", "replace")[:200]
        if status in (401, 403):
            raise Refused(BACKEND, f"HTTP {status} {body}", "check SUPABASE_KEY") from error
        raise Unreachable(BACKEND, f"{url}: HTTP {status} {body}") from error
    except TimeoutError as error:
        raise Unreachable(BACKEND, f"{url}: no answer in time") from error
    except (OSError, WebSocketException) as error:
        raise Unreachable(BACKEND, f"{url}: {error}") from error


async def _close(client: AsyncRealtimeClient) -> None:
    """Close the client and everything it started; it does not do all of it itself."""
    tasks = [task for task in (client._listen_task, client._heartbeat_task) if task]  # noqa: SLF001 - no public way to await them
    for channel in client.get_channels():
        channel.rejoin_timer.reset()
        channel.join_push.destroy()
    try:
        async with asyncio.timeout(2):
            await client.close()
    except (TimeoutError, OSError, WebSocketException):
        pass  # it is being thrown away
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
