"""The Realtime server: WebSocket connections over the pure protocol, fed from PostgreSQL's replication stream.

A shell: it reads frames into sessions, does what they answer, and pumps transactions into the feed. Mount
`RealtimeServer.handle` at /realtime/v1/websocket and /socket/websocket, and keep `run` running.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

import asyncpg
import orjson
from aiohttp import WSCloseCode, web

from embedded.errors import MigrationError, SlotLost, WalError
from embedded.habits import NONE, Habits
from embedded.patience import Mentions, most_upgraded
from embedded.phoenix import elixir, frames
from embedded.phoenix.errors import BadSubscription, TokenRefused
from embedded.phoenix.limits import Rate
from embedded.phoenix.session import TOO_MANY_JOINS, Session
from embedded.realtime_access import Database
from embedded.realtime_backlog import Backlog
from embedded.realtime_broadcast import BroadcastHub
from embedded.realtime_connection import Connection
from embedded.realtime_feed import Feed, Subscription
from embedded.realtime_messages import PUBLICATION, Messages
from embedded.realtime_outbox import MAX_BUFFER_BYTES, Flusher, Outbox
from embedded.realtime_policies import DatabasePolicies
from embedded.realtime_presence import PresenceRooms
from embedded.realtime_tokens import TokenVerifier
from embedded.wal.client import WalClient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

    from embedded.keys import Keys
    from embedded.phoenix.channel import Channel, Token
    from embedded.phoenix.frames import Vsn
    from embedded.realtime_broadcast import ChannelPolicies, History
    from embedded.wal import Transaction

_log = logging.getLogger(__name__)

IDLE_SECONDS: Final = 66.0
"""A connection that sends nothing for so long, not even a ping, is closed with 1000."""
_RESTART_SECONDS: Final = 1.0
_BUSY_SECONDS: Final = 0.01
"""Whoever polls finds the next change so soon after the last without a pause in between."""


class RealtimeServer:
    """Serves Supabase Realtime's protocol for one database.

    `dsn` (asyncpg's form) needs a user that may become every API role; `socket_dir` and `port` say where the
    replication stream is. `run` owns the stream: without it, joins with postgres_changes wait. `policies` say who may
    enter private rooms, `history` has the messages that can be replayed: those of `realtime.messages`, if not given. So many
    connections may be open as `most_connections` says, by default 10,000 or what the limit of open files leaves; one more is
    refused as the real server refuses it.
    """

    def __init__(
        self,
        *,
        keys: Keys,
        dsn: str,
        socket_dir: Path,
        port: int,
        database: str = "postgres",
        publication: str = "supabase_realtime",
        slot: str = "supabase_realtime_embedded",
        habits: Habits = NONE,
        policies: ChannelPolicies | None = None,
        history: History | None = None,
        idle_seconds: float = IDLE_SECONDS,
        buffer_limit_bytes: int = MAX_BUFFER_BYTES,
        most_connections: int | None = None,
    ) -> None:
        self._database_name = database
        self._publication = publication
        self._slot = slot
        self._socket_dir = socket_dir
        self._port = port
        self._idle_seconds = idle_seconds
        self._buffer_limit_bytes = buffer_limit_bytes
        self.habits: Final = habits
        self._limits = habits.limits
        most = most_upgraded() if most_connections is None else most_connections
        self._most = most if self._limits.clients is None else min(most, self._limits.clients)
        self._places = 0  # taken, by connections and by handshakes that were admitted
        self._refused = 0
        self._refusals = Mentions()
        self._polled_at = 0.0
        self._joins = Rate(self._limits.joins_per_second)
        self._flusher = Flusher()
        self.hub: Final = BroadcastHub(self._flusher, Rate(self._limits.events_per_second))
        """Publish here what everybody in a room is to get."""
        self.presence: Final = PresenceRooms(self.hub)
        self._verify = TokenVerifier(keys)
        self._database = Database(dsn, publication)
        self._messages = Messages(self.hub, self._database, self._flusher)
        self.policies: Final = DatabasePolicies(self._database) if policies is None else policies
        self.history: Final = self._messages if history is None else history
        self._feed = Feed(self._database, self._flusher, Rate(self._limits.events_per_second))
        self._live = asyncio.Event()
        self._connections: set[Connection] = set()
        self._dropped = 0
        self._failed = 0
        self._lsn = 0
        self._halved = False
        self._started_at: datetime | None = None
        self._fault: str | None = None
        self._slots_lost = 0
        self._last_slot_lost: str | None = None

    # -- the feed

    async def run(self) -> None:
        """Deliver changes until cancelled; goes on from the replication slot whenever PostgreSQL comes back."""
        try:
            while True:
                try:
                    await self._pump()
                except* (WalError, MigrationError, asyncpg.PostgresError) as group:
                    self._fault = "; ".join(str(error) for error in group.exceptions)
                    _log.error("The change feed stopped and is started again: %s", self._fault)
                self._live.clear()
                if self._halved:
                    # the new stream begins with the whole transaction again, and nobody is to get its start twice
                    self._halved = False
                    self._send_away(
                        WSCloseCode.SERVICE_RESTART, "a transaction was interrupted, read it again"
                    )
                await asyncio.sleep(_RESTART_SECONDS)
        finally:
            self._live.clear()
            await self._database.close()

    async def _pump(self) -> None:
        await self._messages.prepare()
        client = WalClient(
            self._socket_dir,
            self._port,
            database=self._database_name,
            publication=self._publication,
            more_publications=(PUBLICATION,),
            slot=self._slot,
            on_live=self._on_live,
            on_slot_lost=self._on_slot_lost,
        )
        waiting = Backlog()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read(client, waiting))
            tasks.create_task(self._deliver(client, waiting))
            tasks.create_task(self._messages.maintain())

    async def _read(self, client: WalClient, waiting: Backlog) -> None:
        stream = cast("AsyncGenerator[Transaction]", client.transactions())
        async with contextlib.aclosing(stream) as transactions:
            async for transaction in transactions:
                await waiting.put(transaction)

    async def _deliver(self, client: WalClient, waiting: Backlog) -> None:
        """Deliver what gathered while the last batch was worked on, so that load makes batches, not delay."""
        while True:
            first = await waiting.first()
            if self.habits.poll_seconds is not None:
                await self._poll(self.habits.poll_seconds, first)
            batch = waiting.take()
            whole = [transaction.commit_lsn for transaction in batch if transaction.last]
            self._halved = True
            try:
                await self._feed.deliver(await self._messages.take(self._remembered(batch)))
            except Exception:  # noqa: BLE001  # the top of the feed's task, logged here once
                # Going on beats stopping for everybody; those who may have missed something are sent away,
                # so that they come back and read it.
                self._failed += len(batch)
                last = batch[-1].commit_lsn
                _log.exception("%d transactions up to %x could not be delivered.", len(batch), last)
                self._send_away(WSCloseCode.INTERNAL_ERROR, "a transaction could not be delivered")
            self._halved = not batch[-1].last
            self._polled_at = asyncio.get_running_loop().time()
            if whole:
                self._lsn = whole[-1]
                self._flusher.then(client.acknowledge, whole[-1])
            await asyncio.sleep(0)  # a full backlog must not keep frames from being written

    def _remembered(self, batch: Sequence[Transaction]) -> Sequence[Transaction]:
        """Return what is to be delivered: all of it, unless the habit is to go on from the moment of a new start."""
        since = self._started_at
        return batch if since is None else [each for each in batch if each.commit_timestamp >= since]

    async def _poll(self, seconds: float, transaction: Transaction) -> None:
        """Wait until the real server would ask for changes next; messages of `realtime.send` it is sent at once."""
        waited = asyncio.get_running_loop().time() - self._polled_at
        if waited > _BUSY_SECONDS and any(c.relation.schema != "realtime" for c in transaction.changes):
            await asyncio.sleep(seconds - waited % seconds)

    def _on_live(self, live: bool) -> None:  # noqa: FBT001  # WalClient's callback
        if live:
            self._fault = None
            if self.habits.lossy_fault:
                self._started_at = datetime.now(UTC)
            self._live.set()
        else:
            self._live.clear()
            if self.habits.silent_after_fault:
                self._feed.forget()

    def _on_slot_lost(self, error: SlotLost) -> None:
        self._slots_lost += 1
        self._last_slot_lost = str(error)
        _log.error("%s", error)
        self._send_away(WSCloseCode.SERVICE_RESTART, "changes were missed, read the tables again")

    def _send_away(self, code: int, reason: str) -> None:
        for connection in self._connections:
            connection.send_away(code, reason)

    # -- connections

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one WebSocket from its handshake to its end.

        Refusals are those of the real server, without its delay of two seconds.
        """
        if request.method != "GET":
            return web.Response(status=400)
        vsn = frames.parse_vsn(request.query.get("vsn"))
        if vsn is None:
            return web.Response(status=403)
        token = self._admitted(request)
        if isinstance(token, web.Response):
            await asyncio.sleep(self.habits.connect_penalty_seconds)
            return token
        socket = web.WebSocketResponse(
            autoping=False,  # pings count against idleness, so they must be seen
            compress=False,
            max_msg_size=frames.MAX_FRAME_BYTES,
        )
        if not socket.can_prepare(request).ok:
            header = elixir.inspect(request.headers.getall("Connection", []))
            return web.Response(status=400, text=f"'connection' header must contain 'upgrade', got {header}")
        self._places += 1
        try:
            await socket.prepare(request)
            await self._serve(request, socket, vsn, token)
        finally:
            self._places -= 1
        return socket

    def _admitted(self, request: web.Request) -> Token | web.Response:
        """Return the token that the request comes with, or why there is no place for it."""
        apikey = request.headers.get("x-api-key", request.query.get("apikey"))
        if apikey is None:
            return _refusal("API key is missing")
        try:
            token = self._verify(apikey, time.time())
        except TokenRefused as error:
            return _refusal(error.text)
        if self._places >= self._most:
            self._say_full()
            return _refusal("Too many connected users", 429)
        if self._joins.exceeded(time.time()):
            return _refusal(TOO_MANY_JOINS, 429)
        return token

    def _say_full(self) -> None:
        self._refused += 1
        if (refused := self._refusals.one_more(asyncio.get_running_loop().time())) is not None:
            _log.warning(
                "%d WebSockets are open, and no more may be: %d were refused since this was said last.",
                self._places,
                refused,
            )

    async def _serve(
        self, request: web.Request, socket: web.WebSocketResponse, vsn: Vsn, token: Token
    ) -> None:
        transport = cast("asyncio.WriteTransport | None", request.transport)  # a socket's, always
        if transport is None:
            return  # gone already
        async with asyncio.TaskGroup() as tasks:
            session = Session(
                vsn,
                token,
                self._verify,
                limits=self._limits,
                joins=self._joins,
                early_reply=self.habits.live_after_seconds is not None,
            )
            connection = Connection(self, socket, transport, session, tasks)
            self._connections.add(connection)
            try:
                await connection.receive(self._idle_seconds)
            finally:
                self._connections.discard(connection)
                connection.end()

    async def close(self) -> None:
        """Close all connections with 1001; call it when the application shuts down."""
        await asyncio.gather(
            *(connection.close(WSCloseCode.GOING_AWAY, "shutting down") for connection in self._connections)
        )

    def health(self) -> dict[str, Any]:
        """Return whether changes flow (`live`), why not (`fault`), and counts since the start.

        A lost slot is replaced at once, so changes flow again; that some were missed stays said (`last_slot_lost`).
        """
        return {
            "live": self._live.is_set(),
            "fault": self._fault,
            "connections": len(self._connections),
            "connections_limit": self._most,
            "connections_refused": self._refused,
            "channels": sum(len(c.session.channels) for c in self._connections),
            "subscriptions": len(self._feed),
            "slots_lost": self._slots_lost,
            "last_slot_lost": self._last_slot_lost,
            "commit_lsn": self._lsn,
            "transactions": self._feed.transactions,
            "changes": self._feed.changes,
            "frames": self._feed.frames,
            "changes_passed_over": self._feed.passed_over,
            "failed_transactions": self._failed,
            "rooms": len(self.hub),
            "present": len(self.presence),
            "database_messages": self._messages.delivered,
            "broadcasts": self.hub.messages,
            "broadcast_frames": self.hub.frames,
            "slow_clients_dropped": self._dropped,
            "database_retries": self._database.failures,
        }

    # -- what connections need

    def outbox(self, transport: asyncio.WriteTransport) -> Outbox:
        """Return the outbox of a new connection."""

        def overflow(waiting: int) -> None:
            self._dropped += 1
            peer = transport.get_extra_info("peername")
            _log.warning(
                "The client at %s was dropped: %d bytes wait for it, the limit is %d. It reads too slowly.",
                peer,
                waiting,
                self._buffer_limit_bytes,
            )
            transport.abort()

        return Outbox(transport, self._flusher, overflow, limit=self._buffer_limit_bytes)

    async def subscribe(self, channel: Channel, vsn: Vsn, outbox: Outbox) -> Subscription:
        """Return a subscription that is not live yet, once the feed is; raises BadSubscription."""
        if self.habits.live_after_seconds is not None and not self._feed:
            await asyncio.sleep(self.habits.live_after_seconds)
        token = channel.token
        bindings = channel.config.changes.bindings
        try:
            resolved = await self._database.resolve(bindings, token.role)
        except asyncpg.PostgresError as error:
            _log.warning("Checking the subscription of %s failed: %s", channel.topic, error)
            raise BadSubscription(f"Unable to subscribe to changes: {error}") from error
        await self._live.wait()
        return Subscription(outbox, vsn, channel.topic, channel.config.legacy, token, resolved)

    async def replicating(self) -> None:
        """Return once messages from the database flow."""
        await self._live.wait()

    def start(self, subscription: Subscription) -> None:
        """Let the subscription have every change that is committed from now on."""
        self._feed.add(subscription)

    def stop(self, subscription: Subscription) -> None:
        """Let the subscription have nothing more."""
        self._feed.remove(subscription)


def _refusal(text: str, status: int = 401) -> web.Response:
    return web.Response(
        status=status, body=orjson.dumps({"error": text}), content_type="application/json", charset="utf-8"
    )
