"""What feeds one connection of the gateway: a `MonitoringService` in the place of the legacy server's link and ring."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter, deque
from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import UTC, datetime

import structlog

from legacy_ws.connections import TRY_AGAIN_LATER, Connection, close, let_clients_read
from legacy_ws.errors import ExportFailed
from legacy_ws.exports import ExportDesk
from legacy_ws.hub import Client, Hub
from legacy_ws.outbox import MOST_ANSWERS
from legacy_ws.protocol.dialect import Arrival, AskExport, AskLogs, AskReplay, AskSnapshot, EndLogs
from legacy_ws.ring import Ring, Taken
from monitoring.cursor import Cursor
from monitoring.errors import MonitoringError, Unreachable
from monitoring.events import BEGINNING, Event, Position, StreamId
from monitoring.service import Gap, Item, MonitoringService, MoveAbandoned, Moved
from monitoring.subscription import Subscription
from monitoring.topics import GLOBAL, Topic, selects

log = structlog.get_logger("legacy_ws")

_EVERYTHING = (GLOBAL,)
_SNAPSHOT_SECONDS = 10.0
"""At most so long a new client waits for where things stand; then it is served what there is."""
_RETRY_SECONDS = 1.0
_REPLAY_SECONDS = 60.0
"""At most so long a client that asked for history waits; then its connection is closed, to be tried again."""
_RECALLED_EVENTS = 20_000
"""Events of one replay, as the legacy server retains; of more the oldest are told as gaps."""

_Ask = AskReplay | AskSnapshot | AskExport


class Feed:
    """What a service brings to the hub of one connection, and what the hub asks of the service.

    One task does both (``run``), so that nothing live is told between a replay and what follows on it.
    """

    def __init__(
        self, service: MonitoringService, hub: Hub, exports: ExportDesk, counts: Counter[str], *, at_once: int
    ) -> None:
        self.service = service
        self.hub = hub
        self._exports = exports
        self._counts = counts
        self._at_once = at_once
        self._begun = False
        self._asks: deque[tuple[Client, _Ask]] = deque()
        self._changed = asyncio.Event()
        self._quiet: Subscription[Item] | None = None
        """The subscription, while all that it has brought is handed on and nothing is asked."""
        self._broken: Exception | None = None
        hub.on_history = hub.on_export = self._ask
        hub.on_logs = _refuse_logs

    @property
    def clients(self) -> Iterator[Client]:
        """The one client, once it is attached."""
        return (client for room in self.hub.rooms.values() for client in room.clients)

    async def begin(self) -> None:
        """Show the hub where things stand; after some seconds without an answer the client begins with nothing."""
        with suppress(TimeoutError, MonitoringError):  # a refusal is met again, and told, by ``run``
            async with asyncio.timeout(_SNAPSHOT_SECONDS):
                await self._show()

    async def run(self, connection: Connection) -> None:
        """Feed the hub until cancelled; closes the connection when no backend will serve it."""
        try:
            await self._show()
            await self._follow(self._subscribe(_EVERYTHING, self.hub.ring.heads()))
        except (MonitoringError, TimeoutError) as error:
            log.warning(
                "gateway_client_closed", peer=connection.remote_address, reason=str(error) or "timeout"
            )
            await close(connection, TRY_AGAIN_LATER, "the backend does not answer; reconnect and resume")

    async def tick(self) -> None:
        """Tell what the dialect tells by the clock."""
        (room,) = self.hub.rooms.values()
        while room.dialect.tick_seconds is not None:
            await asyncio.sleep(room.dialect.tick_seconds)
            self.hub.tick(room)

    async def _show(self) -> None:
        """Give the hub the newest state, once, however long it takes until there is one."""
        while not self._begun:
            try:
                snapshot = await self.service.snapshot(_EVERYTHING)
            except Unreachable as error:
                log.info("gateway_waits", reason=error.reason)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            self._begun = True
            self.hub.take(sorted(snapshot.state, key=lambda event: event.position), history=True)
            self.hub.filled(snapshot.cursor)

    def _subscribe(self, topics: Collection[Topic], since: Cursor) -> Subscription[Item]:
        subscription = self.service.subscribe(topics, since)
        subscription.listen(lambda: self._came(subscription), self._changed.set)
        self._changed.set()
        return subscription

    def _came(self, subscription: Subscription[Item]) -> None:
        """Hand on at once what comes while nothing else is to be done: waking ``_follow`` costs more than all else."""
        if subscription is not self._quiet or self._changed.is_set() or self.hub.flusher.crowded:
            self._changed.set()
            return
        try:
            for item in subscription.take(self._at_once):
                self._take(item)
        except Exception as error:  # noqa: BLE001 - our own task raises it, not who brought the item
            self._broken = error
            self._changed.set()

    async def _follow(self, subscription: Subscription[Item]) -> None:
        """Hand on what comes, and answer what is asked; raises what ends the subscription."""
        try:
            while True:
                if not self._changed.is_set():
                    self._quiet = subscription
                    await self._changed.wait()
                    self._quiet = None
                self._changed.clear()
                if self._broken is not None:
                    raise self._broken
                while self._asks:
                    client, ask = self._asks.popleft()
                    if isinstance(ask, AskReplay) and ask.since is not None:
                        await subscription.close()  # what it has not told yet comes with the replay
                        subscription = await self._replay(client, ask, ask.since)
                    else:
                        await self._answer(client, ask)
                for item in subscription.take(self._at_once):
                    self._take(item)
                await let_clients_read(self.hub)
                if subscription.waiting:
                    self._changed.set()
                self.hub.links = int(subscription.live)
                if not subscription.waiting:
                    self._require_going(subscription)
        finally:
            self._quiet = None
            await subscription.close()

    def _take(self, item: Item) -> None:
        match item:
            case Event():
                self.hub.take((item,))
            case Gap():
                self._counts["gaps"] += 1
                log.warning("gateway_gap", stream=item.stream, epoch=item.epoch, reason=item.reason)
            case Moved():
                self._counts["moves"] += 1
            case MoveAbandoned():
                self._counts["moves_abandoned"] += 1

    def _require_going(self, subscription: Subscription[Item]) -> None:
        if subscription.ended:
            raise subscription.failure or Unreachable(self.service.backend, "the feed ended")

    # What is asked

    def _ask(self, client: Client, ask: _Ask) -> None:
        if len(self._asks) >= MOST_ANSWERS:
            self.hub.refuse(client, f"at most {MOST_ANSWERS} requests may wait for history")
            return
        self._asks.append((client, ask))
        self._changed.set()

    async def _answer(self, client: Client, ask: _Ask) -> None:
        match ask:
            case AskReplay():  # from now on: from what was told last
                self.hub.replay(client, ask, self.hub.ring.replay(ask.topics, None))
            case AskSnapshot():
                try:
                    async with asyncio.timeout(_SNAPSHOT_SECONDS):
                        snapshot = await self.service.snapshot(ask.topics)
                except (MonitoringError, TimeoutError) as error:
                    self.hub.refuse(client, f"no snapshot: {error}")
                else:
                    client.outbox.answer(ask.write(snapshot.state, snapshot.cursor))
            case AskExport():
                client.outbox.answer(await self._export(ask))

    async def _export(self, ask: AskExport) -> bytes:
        try:
            ring, subscription = await self._recall(ask.topics, Cursor())
            await subscription.close()
            events = [kept.event for kept in ring.replay(ask.topics, Cursor()).events]
            return ask.write(await self._exports.write(events, _utc_now()))
        except ExportFailed as error:
            return ask.failed(error.reason)
        except (MonitoringError, TimeoutError) as error:
            return ask.failed(f"the history cannot be read: {error}")

    async def _replay(self, client: Client, ask: AskReplay, since: Cursor) -> Subscription[Item]:
        """Answer with what came after a cursor; returns what follows on it.

        It follows everything, for a dialect may be asked for more topics later: the others from where they stand.
        """
        others = {name: at for name, at in self.hub.ring.heads().items() if not selects(ask.topics, name)}
        start = Cursor({name: at for name, at in since.items() if selects(ask.topics, name)} | others)
        client.outbox.answer(ask.waiting("the history is being read"))
        ring, subscription = await self._recall(_EVERYTHING, start)
        recalled = [kept.event for kept in ring.replay(_EVERYTHING, Cursor()).events]
        self.hub.take(recalled, history=True, tell=False)
        self.hub.filled(ring.heads())
        self.hub.replay(client, ask, ring.replay(ask.topics, since))
        return subscription

    async def _recall(
        self, topics: Collection[Topic], since: Cursor
    ) -> tuple[Ring[Arrival], Subscription[Item]]:
        """Read what came after a cursor up to now; returns it, and the subscription that goes on from there.

        Raises TimeoutError and MonitoringError.
        """
        ring: Ring[Arrival] = Ring(_RECALLED_EVENTS)
        async with asyncio.timeout(_REPLAY_SECONDS):
            heads = (await self.service.snapshot(topics)).cursor
            missing = {name: at for name, at in heads.items() if at > since.get(name, BEGINNING)}
            subscription = self._subscribe(topics, since)
            try:
                while True:
                    self._changed.clear()
                    for item in subscription.take(subscription.waiting):
                        _keep(ring, item, missing)
                    # Of a stream that is new to the client and wholly gone nothing will come: then being live tells.
                    if not missing or subscription.live:
                        break
                    self._require_going(subscription)
                    await self._changed.wait()
            except BaseException:
                await subscription.close()
                raise
        ring.adopt(heads)
        self._changed.set()
        return ring, subscription


def _keep(ring: Ring[Arrival], item: Item, missing: dict[StreamId, Position]) -> None:
    """Keep an item of a replay; what is no longer missing is taken out."""
    match item:
        case Event():
            if ring.judge(item) is Taken.NEW:
                ring.take(item, Arrival(item, _utc_now()))
            reached = item.position
        case Gap(stream=_, epoch=epoch, to_seq=to_seq):
            reached = Position(epoch, sys.maxsize if to_seq is None else to_seq)
        case _:
            return
    if reached >= missing.get(item.stream, reached):
        missing.pop(item.stream, None)


def _refuse_logs(client: Client, ask: AskLogs | EndLogs) -> None:
    if isinstance(ask, AskLogs):
        client.outbox.answer(ask.failed("the gateway has no source of container logs"))


def _utc_now() -> datetime:
    return datetime.now(UTC)
