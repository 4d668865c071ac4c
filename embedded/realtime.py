"""The Realtime server: WebSocket connections over the pure protocol, fed from PostgreSQL's replication stream.

A shell: it reads frames into sessions, does what they answer, and pumps transactions into the feed. Mount
`RealtimeServer.handle` at /realtime/v1/websocket and /socket/websocket, and keep `run` running.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, Final, cast

import asyncpg
import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from embedded.errors import SlotLost, WalError
from embedded.phoenix import frames
from embedded.phoenix.errors import BadSubscription, TokenRefused
from embedded.phoenix.session import Action, Send, Session, Subscribe, Unsubscribe
from embedded.realtime_access import Database
from embedded.realtime_feed import Feed, Subscription
from embedded.realtime_outbox import MAX_BUFFER_BYTES, Flusher, Outbox
from embedded.realtime_tokens import TokenVerifier
from embedded.wal.client import WalClient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from embedded.keys import Keys
    from embedded.phoenix.channel import Channel, Token
    from embedded.phoenix.frames import Vsn
    from embedded.wal import Transaction

_log = logging.getLogger(__name__)

IDLE_SECONDS: Final = 66.0
"""A connection that sends nothing for so long, not even a ping, is closed with 1000."""
_LONGEST_TIMER_SECONDS: Final = 3600.0
_RESTART_SECONDS: Final = 1.0
_WAITING_TRANSACTIONS: Final = 256
_TRANSACTIONS_AT_ONCE: Final = 64


class RealtimeServer:
    """Serves Supabase Realtime's protocol for one database.

    `dsn` (asyncpg's form) needs a user that may become every API role; `socket_dir` and `port` say where the
    replication stream is. `run` owns the stream: without it, joins with postgres_changes wait.
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
        idle_seconds: float = IDLE_SECONDS,
        buffer_limit_bytes: int = MAX_BUFFER_BYTES,
    ) -> None:
        self._database_name = database
        self._publication = publication
        self._slot = slot
        self._socket_dir = socket_dir
        self._port = port
        self._idle_seconds = idle_seconds
        self._buffer_limit_bytes = buffer_limit_bytes
        self._verify = TokenVerifier(keys)
        self._database = Database(dsn, publication)
        self._feed = Feed(self._database)
        self._flusher = Flusher()
        self._live = asyncio.Event()
        self._connections: set[_Connection] = set()
        self._dropped = 0
        self._failed = 0
        self._lsn = 0
        self._fault: str | None = None

    # -- the feed

    async def run(self) -> None:
        """Deliver changes until cancelled; goes on from the replication slot whenever PostgreSQL comes back."""
        try:
            while True:
                try:
                    await self._pump()
                except* WalError as group:
                    self._fault = "; ".join(str(error) for error in group.exceptions)
                    _log.error("The change feed stopped and is started again: %s", self._fault)
                self._live.clear()
                await asyncio.sleep(_RESTART_SECONDS)
        finally:
            self._live.clear()
            await self._database.close()

    async def _pump(self) -> None:
        client = WalClient(
            self._socket_dir,
            self._port,
            database=self._database_name,
            publication=self._publication,
            slot=self._slot,
            on_live=self._on_live,
            on_slot_lost=self._on_slot_lost,
        )
        # full, it holds back the stream; nothing is dropped
        waiting: asyncio.Queue[Transaction] = asyncio.Queue(_WAITING_TRANSACTIONS)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read(client, waiting))
            tasks.create_task(self._deliver(client, waiting))

    async def _read(self, client: WalClient, waiting: asyncio.Queue[Transaction]) -> None:
        stream = cast("AsyncGenerator[Transaction]", client.transactions())
        async with contextlib.aclosing(stream) as transactions:
            async for transaction in transactions:
                await waiting.put(transaction)

    async def _deliver(self, client: WalClient, waiting: asyncio.Queue[Transaction]) -> None:
        """Deliver what gathered while the last batch was worked on, so that load makes batches, not delay."""
        while True:
            batch = [await waiting.get()]
            while len(batch) < _TRANSACTIONS_AT_ONCE and not waiting.empty():
                batch.append(waiting.get_nowait())
            last = batch[-1].commit_lsn
            try:
                await self._feed.deliver(batch)
            except Exception:  # noqa: BLE001  # the top of the feed's task, logged here once
                # Going on beats stopping for everybody; those who may have missed something are sent away,
                # so that they come back and read it.
                self._failed += len(batch)
                _log.exception("%d transactions up to %x could not be delivered.", len(batch), last)
                self._send_away(WSCloseCode.INTERNAL_ERROR, "a transaction could not be delivered")
            self._lsn = last
            self._flusher.then(client.acknowledge, last)
            await asyncio.sleep(0)  # a full backlog must not keep frames from being written

    def _on_live(self, live: bool) -> None:  # noqa: FBT001  # WalClient's callback
        if live:
            self._fault = None
            self._live.set()
        else:
            self._live.clear()

    def _on_slot_lost(self, error: SlotLost) -> None:
        self._fault = str(error)
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
        vsn = frames.parse_vsn(request.query.get("vsn"))
        if vsn is None:
            return web.Response(status=403)
        apikey = request.headers.get("x-api-key", request.query.get("apikey"))
        if apikey is None:
            return _refusal("API key is missing")
        try:
            token = self._verify(apikey, time.time())
        except TokenRefused as error:
            return _refusal(error.text)
        socket = web.WebSocketResponse(
            autoping=False,  # pings count against idleness, so they must be seen
            compress=False,
            max_msg_size=frames.MAX_FRAME_BYTES,
        )
        if not socket.can_prepare(request).ok:
            return web.Response(status=400, text="WebSocket upgrade expected")
        await socket.prepare(request)
        await self._serve(request, socket, vsn, token)
        return socket

    async def _serve(
        self, request: web.Request, socket: web.WebSocketResponse, vsn: Vsn, token: Token
    ) -> None:
        transport = cast("asyncio.WriteTransport | None", request.transport)  # a socket's, always
        if transport is None:
            return  # gone already
        async with asyncio.TaskGroup() as tasks:
            connection = _Connection(self, socket, transport, Session(vsn, token, self._verify), tasks)
            self._connections.add(connection)
            try:
                await connection.receive(self._idle_seconds)
            finally:
                self._connections.discard(connection)
                connection.end()

    async def close(self) -> None:
        """Close all connections with 1001; call it when the application shuts down."""
        await asyncio.gather(
            *(
                c.socket.close(code=WSCloseCode.GOING_AWAY, message=b"shutting down")
                for c in self._connections
            )
        )

    def health(self) -> dict[str, Any]:
        """Return whether changes flow (`live`), why not (`fault`), and counts since the start."""
        return {
            "live": self._live.is_set(),
            "fault": self._fault,
            "connections": len(self._connections),
            "channels": sum(len(c.session.channels) for c in self._connections),
            "subscriptions": len(self._feed),
            "commit_lsn": self._lsn,
            "transactions": self._feed.transactions,
            "changes": self._feed.changes,
            "frames": self._feed.frames,
            "failed_transactions": self._failed,
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
        token = channel.token
        bindings = channel.config.changes.bindings
        try:
            resolved = await self._database.resolve(bindings, token.role)
        except asyncpg.PostgresError as error:
            _log.warning("Checking the subscription of %s failed: %s", channel.topic, error)
            raise BadSubscription(f"Unable to subscribe to changes: {error}") from error
        await self._live.wait()
        return Subscription(outbox, vsn, channel.topic, channel.config.legacy, token, resolved)

    def start(self, subscription: Subscription) -> None:
        """Let the subscription have every change that is committed from now on."""
        self._feed.add(subscription)

    def stop(self, subscription: Subscription) -> None:
        """Let the subscription have nothing more."""
        self._feed.remove(subscription)


class _Connection:
    """One open WebSocket: does what its session says."""

    def __init__(
        self,
        server: RealtimeServer,
        socket: web.WebSocketResponse,
        transport: asyncio.WriteTransport,
        session: Session,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.socket = socket
        self.session = session
        self._server = server
        self._outbox = server.outbox(transport)
        self._tasks = tasks
        self._joining: dict[Channel, asyncio.Task[None]] = {}
        self._subscriptions: dict[Channel, Subscription] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def receive(self, idle_seconds: float) -> None:
        """Handle frames until the connection ends."""
        while True:
            try:
                message = await self.socket.receive(timeout=idle_seconds)
            except TimeoutError:
                self._outbox.close()
                await self.socket.close(code=WSCloseCode.OK)
                return
            match message.type:
                case WSMsgType.TEXT:
                    self._do(self.session.receive(message.data, time.time()))
                case WSMsgType.PING:
                    await self.socket.pong(message.data)
                case WSMsgType.PONG | WSMsgType.BINARY:
                    pass
                case _:
                    return

    def send_away(self, code: int, reason: str) -> None:
        """Close the connection if it has subscriptions, so that its client comes back and reads what it missed."""
        if self._subscriptions:
            self._outbox.close()
            self._tasks.create_task(self.socket.close(code=code, message=reason.encode()))

    def end(self) -> None:
        """Give up what the connection has; it is closed."""
        self._do(self.session.end())
        self._outbox.close()
        if self._timer is not None:
            self._timer.cancel()

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send(text):
                    self._outbox.write(frames.text_frame(text))
                case Subscribe(channel):
                    self._cancel(channel)
                    self._joining[channel] = self._tasks.create_task(self._subscribe(channel))
                case Unsubscribe(channel):
                    self._cancel(channel)
                    self._stop(channel)
        if actions:
            self._arm()

    async def _subscribe(self, channel: Channel) -> None:
        try:
            subscription = await self._server.subscribe(channel, self.session.vsn, self._outbox)
        except BadSubscription as error:
            self._stop(channel)
            actions = self.session.refused(channel, str(error))
        else:
            self._stop(channel)
            self._subscriptions[channel] = subscription
            self._server.start(subscription)
            actions = self.session.subscribed(channel)
        del self._joining[channel]
        self._do(actions)

    def _cancel(self, channel: Channel) -> None:
        task = self._joining.pop(channel, None)
        if task is not None:
            task.cancel()

    def _stop(self, channel: Channel) -> None:
        subscription = self._subscriptions.pop(channel, None)
        if subscription is not None:
            self._server.stop(subscription)

    def _arm(self) -> None:
        """Wake up when the next token expires."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        expiry = self.session.next_expiry
        if expiry is not None:
            delay = min(max(0.0, expiry - time.time()), _LONGEST_TIMER_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        self._do(self.session.expire(time.time()))
        self._arm()


def _refusal(text: str) -> web.Response:
    return web.Response(
        status=401, body=orjson.dumps({"error": text}), content_type="application/json", charset="utf-8"
    )
