"""One live connection to Supabase Realtime: the official client, from connected to ended.

The official client gives up for good after five tries and says nothing of a feed that died on the server
(``reference/loss-baseline.md``). So it is used for one connection only, without its own reconnection; who holds the
`Feed` decides when it has failed and makes a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from realtime import (
    AsyncRealtimeChannel,
    AsyncRealtimeClient,
    RealtimePostgresChangesListenEvent,
    RealtimeSubscribeStates,
)
from realtime.types import RealtimeChannelOptions
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException

from adapters.access_token import refresh_after
from adapters.supabase_channels import BEAT_CHANNEL, channels, filters
from adapters.supabase_errors import REALTIME, Mode, of_channel, of_handshake
from adapters.supabase_feed import Feed
from monitoring.errors import MonitoringError, Refused, Unreachable

log = structlog.get_logger(__name__)

CONNECT_SECONDS = 10.0
JOIN_SECONDS = 15.0
"""The server answers a join that it refuses after 5 s, and the others of the connection wait for it."""
LIVE_SECONDS = 15.0
"""How long a joined channel may take until the server says that its changes flow (2.4 s were seen, cold)."""
_REPLICATION_SECONDS = 5.0
"""The same of broadcasts. Older servers do not say it: then the feed counts as live, and the heads tell if it is not."""
_CLOSE_SECONDS = 2.0

_CHANGES_CHANNEL = "crossfade"
_EVENTS, _BEAT = "events", "beat"

AccessToken = Callable[[], str]
"""Returns a token that is valid now; it is asked again before the last one ends, and must not block."""


@dataclass(frozen=True, slots=True)
class Project:
    """Where a project is, and as whom it is read. ``key`` is public or secret; without a token it stands for the reader."""

    url: str
    key: str
    access_token: AccessToken | None = None

    def token(self) -> str | None:
        """Return the token to use now, None when there is none; raises Unreachable when it cannot be had."""
        if self.access_token is None:
            return None
        try:
            return self.access_token()
        except MonitoringError:
            raise
        except Exception as error:
            raise Unreachable(
                REALTIME, f"there is no access token: {str(error) or type(error).__name__}"
            ) from error


@asynccontextmanager
async def connected(project: Project, feed: Feed) -> AsyncIterator[None]:
    """Keep a connection that fills the feed, for the length of the block; the feed says when it has ended.

    It is live at the beginning of the block: the server has said that events flow. Raises Unreachable (RateLimited
    among them), or Refused when the project does not accept the key, the token or the subscription.
    """
    async with _client(project, feed.end, lambda client, joined: _go_live(client, feed, joined)):
        yield


@asynccontextmanager
async def hearing(
    project: Project,
    topic: str,
    hears: Mapping[str, Callable[[Any], None]],
    end: Callable[[Unreachable | Refused], None],
) -> AsyncIterator[None]:
    """Hear the broadcasts of a private channel, by their event, for the length of the block; ``end`` is told of its end.

    Raises Unreachable (RateLimited among them) or Refused.
    """

    async def join(client: AsyncRealtimeClient, joined: list[AsyncRealtimeChannel]) -> None:
        channel = client.channel(topic, _private())
        joined.append(channel)
        for event, hear in hears.items():
            channel.on_broadcast(event, hear)
        refused: list[Unreachable | Refused] = []
        answered = asyncio.Event()

        def on_state(state: RealtimeSubscribeStates, error: Exception | None) -> None:
            if state is not RealtimeSubscribeStates.SUBSCRIBED:
                refused.append(of_channel(state, error))
                end(refused[-1])
            answered.set()

        async with asyncio.timeout(JOIN_SECONDS):
            await channel.subscribe(on_state)
            await answered.wait()
        if refused:
            raise refused[0]

    async with _client(project, end, join):
        yield


@asynccontextmanager
async def _client(
    project: Project,
    end: Callable[[Unreachable], None],
    join: Callable[[AsyncRealtimeClient, list[AsyncRealtimeChannel]], Awaitable[None]],
) -> AsyncIterator[None]:
    """Keep a client connected, with what ``join`` has joined, for the length of the block."""
    client = AsyncRealtimeClient(
        f"{project.url.rstrip('/')}/realtime/v1", token=project.key, auto_reconnect=False, timeout=10
    )
    joined: list[AsyncRealtimeChannel] = []
    keeper: asyncio.Task[None] | None = None
    try:
        token = project.token()
        if token is not None:
            await client.set_auth(token)
        async with _translating(project.url):
            async with asyncio.timeout(CONNECT_SECONDS):
                await client.connect()
            _watch(client, end)
            await join(client, joined)
        keeper = asyncio.create_task(_keep_token(client, project, token))  # owned: ended below
        yield
    finally:
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait({keeper})
        await _close(client, joined)


async def _go_live(client: AsyncRealtimeClient, feed: Feed, joined: list[AsyncRealtimeChannel]) -> None:
    """Join what brings the feed's events, and wait until they flow; raises the feed's failure."""
    flowing = asyncio.Event()

    def on_state(state: RealtimeSubscribeStates, error: Exception | None) -> None:
        if state is not RealtimeSubscribeStates.SUBSCRIBED:
            feed.end(of_channel(state, error))
            flowing.set()

    def on_system(payload: Any) -> None:
        if payload.extension in {"postgres_changes", "system"}:
            flowing.set()

    match feed.mode:
        case Mode.CHANGES:
            joined += _changes_channels(client, feed)
        case Mode.BROADCAST:
            joined += _broadcast_channels(client, feed)
    joined[0].on_system(on_system)
    async with asyncio.timeout(JOIN_SECONDS):
        await asyncio.gather(*(channel.subscribe(on_state) for channel in joined))
    try:
        async with asyncio.timeout(LIVE_SECONDS if feed.mode is Mode.CHANGES else _REPLICATION_SECONDS):
            await flowing.wait()
    except TimeoutError:
        if feed.mode is Mode.CHANGES:
            raise
    if feed.failure is not None:
        raise feed.failure


def _changes_channels(client: AsyncRealtimeClient, feed: Feed) -> Sequence[AsyncRealtimeChannel]:
    """Return one channel with the feed's rows and the heartbeat's."""
    channel = client.channel(_CHANGES_CHANNEL)
    for filter_ in filters(feed.topics):
        channel.on_postgres_changes(
            RealtimePostgresChangesListenEvent.Insert,
            feed.row,
            table="cf_events",
            schema="public",
            filter=filter_,
        )
    channel.on_postgres_changes(
        RealtimePostgresChangesListenEvent.Update, feed.beat, table="cf_delivery", schema="public"
    )
    return [channel]


def _broadcast_channels(client: AsyncRealtimeClient, feed: Feed) -> Sequence[AsyncRealtimeChannel]:
    """Return the private channels of the heartbeat, which is also asked to say when messages flow, and of the events."""
    beat = client.channel(BEAT_CHANNEL, _private(replication_ready=True)).on_broadcast(_BEAT, feed.beat)
    return [
        beat,
        *(
            client.channel(name, _private()).on_broadcast(_EVENTS, feed.message)
            for name in channels(feed.topics)
        ),
    ]


def _private(*, replication_ready: bool = False) -> RealtimeChannelOptions:
    return {
        "config": {
            "broadcast": {"ack": False, "self": False, "replication_ready": replication_ready},
            "presence": {"key": "", "enabled": False},
            "private": True,
        }
    }


def _watch(client: AsyncRealtimeClient, end: Callable[[Unreachable], None]) -> None:
    """Call ``end`` when the client's receive loop ends for whatever reason: it does not always say so itself."""

    def ended(task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        end(Unreachable(REALTIME, f"the connection ended{f': {error}' if error else ''}"))

    task = client._listen_task  # noqa: SLF001 - there is no public way to see it end
    if task is not None:
        task.add_done_callback(ended)


async def _keep_token(client: AsyncRealtimeClient, project: Project, token: str | None) -> None:
    """Hand each new token to the server before the old one ends, so that the channels outlive it."""
    while token is not None:
        await asyncio.sleep(refresh_after(token, time.time()))
        try:
            newer = project.token()
        except MonitoringError as error:
            log.warning("supabase.token", reason=str(error))  # asked again; at its end the server closes
            continue
        if newer is not None and newer != token:
            token = newer
            await client.set_auth(token)


@asynccontextmanager
async def _translating(url: str) -> AsyncIterator[None]:
    """Turn the client's errors into ours."""
    try:
        yield
    except InvalidStatus as error:
        raise of_handshake(error, url) from error
    except TimeoutError as error:
        raise Unreachable(REALTIME, f"{url}: no answer in time") from error
    except (OSError, WebSocketException, InvalidHandshake, EOFError) as error:
        raise Unreachable(REALTIME, f"{url}: {str(error) or type(error).__name__}") from error


async def _close(client: AsyncRealtimeClient, joined: Sequence[AsyncRealtimeChannel]) -> None:
    """Close the client and end everything it started; it does not do all of it itself."""
    socket = client._ws_connection  # noqa: SLF001 - there is no public way to cut it
    tasks = [task for task in (client._listen_task, client._heartbeat_task) if task]  # noqa: SLF001 - as above
    for channel in joined:
        channel.rejoin_timer.reset()
        for push in (channel.join_push, *channel.messages_waiting_for_ack.values()):
            push.destroy()
        tasks += channel._background_tasks  # noqa: SLF001 - as above
    with contextlib.suppress(OSError, WebSocketException, TimeoutError):  # it is being thrown away
        async with asyncio.timeout(_CLOSE_SECONDS):
            await client.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if socket is not None:
        socket.transport.abort()  # of a peer that does not answer, nothing must be left
