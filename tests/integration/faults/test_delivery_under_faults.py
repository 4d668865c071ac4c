"""The port's promise under each fault of the network: every event once and in order.

Each implementation meets all faults at once, each with a proxy and a device of its own, so that the whole takes no
longer than its slowest fault. Nothing is ever without history here, so a Gap would be a failure, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from adapters.legacy_websocket import LegacyWebSocket
from adapters.supabase_realtime import SupabaseRealtime
from monitoring.cursor import Cursor
from monitoring.events import Event
from monitoring.handover import Limits
from monitoring.route import Route
from monitoring.router import Router
from monitoring.service import Backend, Item, MonitoringService, MoveAbandoned, Moved
from monitoring.subscription import Subscription
from monitoring.topics import parse_topics
from tests.conftest import EmbeddedSupabase
from tests.contract.conftest import LegacyWorld, SupabaseWorld, World
from tests.fakes.event_factory import event, run
from tests.fakes.tcp_proxy import Direction, TcpProxy

FAULT_SECONDS = 1.0
EVENTS = 80
EVERY_SECONDS = 0.03
"""So that events are published before, during and after the fault."""
ALL_SECONDS = 45.0


async def late(proxy: TcpProxy) -> None:
    proxy.delay(0.03, jitter_seconds=0.2)
    await asyncio.sleep(FAULT_SECONDS)
    await proxy.resume()


async def reset(proxy: TcpProxy) -> None:
    proxy.reset()


async def closed(proxy: TcpProxy) -> None:
    proxy.close()


async def refused(proxy: TcpProxy) -> None:
    await proxy.refuse()
    await asyncio.sleep(FAULT_SECONDS)
    await proxy.resume()


async def stalled(proxy: TcpProxy) -> None:
    proxy.stall()
    await asyncio.sleep(FAULT_SECONDS)
    await proxy.resume()


async def stalled_and_reset(proxy: TcpProxy) -> None:
    proxy.stall()
    await asyncio.sleep(FAULT_SECONDS)
    proxy.reset()
    await proxy.resume()


async def not_heard(proxy: TcpProxy) -> None:
    proxy.halve(Direction.TO_CLIENT)
    await asyncio.sleep(FAULT_SECONDS)
    await proxy.resume()


async def hears_nothing(proxy: TcpProxy) -> None:
    proxy.halve(Direction.TO_SERVER)
    await asyncio.sleep(FAULT_SECONDS)
    proxy.reset()
    await proxy.resume()


async def twice(proxy: TcpProxy) -> None:
    proxy.duplicate_frames()
    await asyncio.sleep(FAULT_SECONDS)
    await proxy.resume()


async def garbage_from_the_server(proxy: TcpProxy) -> None:
    proxy.garble(Direction.TO_CLIENT)


async def garbage_to_the_server(proxy: TcpProxy) -> None:
    proxy.garble(Direction.TO_SERVER)


async def again_and_again(proxy: TcpProxy) -> None:
    for _ in range(10):
        proxy.reset()
        await asyncio.sleep(FAULT_SECONDS / 10)


FAULTS: tuple[Callable[[TcpProxy], Awaitable[None]], ...] = (
    *(late, reset, closed, refused, stalled, stalled_and_reset, not_heard, hears_nothing, twice),
    *(garbage_from_the_server, garbage_to_the_server, again_and_again),
)


def legacy_service(proxy: TcpProxy) -> MonitoringService:
    return LegacyWebSocket(f"{proxy.url('ws')}/ws", open_seconds=2, silence_seconds=2)


class Legacy(LegacyWorld):
    async def start(self) -> None:
        await super().start()
        self.proxy = await self.stack.enter_async_context(TcpProxy(("127.0.0.1", self.port)))

    def service(self) -> MonitoringService:
        return legacy_service(self.proxy)


class Supabase(SupabaseWorld):
    async def start(self) -> None:
        await super().start()
        port = int(self.supabase.url.rpartition(":")[2])
        self.proxy = await self.stack.enter_async_context(TcpProxy(("127.0.0.1", port)))

    def service(self) -> MonitoringService:
        return SupabaseRealtime(self.proxy.url(), self.supabase.keys.anon_key, self.supabase.token)


class Routed(World):
    """Both backends, each behind a proxy; the client stands on one of them, whose proxy has the fault."""

    def __init__(self, supabase: EmbeddedSupabase, wished: Backend) -> None:
        super().__init__()
        self.legacy, self.supabase = Legacy(), Supabase(supabase)
        self.wished = wished

    async def start(self) -> None:
        for world in (self.legacy, self.supabase):
            await self.stack.enter_async_context(world.stack)
            await world.start()
        self.proxy = (self.legacy if self.wished is Backend.LEGACY else self.supabase).proxy

    def route(self, _client_id: str) -> Route:
        return Route(self.wished)

    def listen(self, _wake: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def service(self) -> MonitoringService:
        services = {Backend.LEGACY: self.legacy.service(), Backend.SUPABASE: self.supabase.service()}
        limits = Limits(failover_after=0.3, return_after=0.5)
        return Router(services, self, "faults", now=lambda: datetime.now(UTC), limits=limits)

    async def publish(self, *events: Event) -> None:
        await self.legacy.publish(*events)
        await self.supabase.publish(*events)

    async def interrupt(self) -> None:
        self.proxy.reset()


WORLDS: dict[str, Callable[[EmbeddedSupabase], Legacy | Supabase | Routed]] = {
    "legacy": lambda _: Legacy(),
    "supabase": Supabase,
    "router on legacy": lambda supabase: Routed(supabase, Backend.LEGACY),
    "router on supabase": lambda supabase: Routed(supabase, Backend.SUPABASE),
}


async def collect(subscription: Subscription[Item], into: list[Item], last: Event) -> None:
    async for item in subscription:
        if not isinstance(item, Moved | MoveAbandoned):
            into.append(item)
        if item == last:
            return


async def delivered(
    world: Legacy | Supabase | Routed, fault: Callable[[TcpProxy], Awaitable[None]]
) -> list[Item]:
    """Return what a client got whose connection had the fault, up to the last event or the deadline."""
    stream = f"{world.device}/system"
    items: list[Item] = []
    async with world.stack:
        await world.start()
        service = world.service()
        try:
            await world.publish(*run(stream, 3))
            async with service.subscribe(parse_topics([f"devices.{world.device}"]), Cursor()) as subscription:
                collecting = asyncio.ensure_future(collect(subscription, items, event(stream, EVENTS)))
                await asyncio.wait_for(subscription.wait_live(), ALL_SECONDS)
                misbehaving = asyncio.ensure_future(fault(world.proxy))
                for seq in range(4, EVENTS + 1):
                    await world.publish(event(stream, seq))
                    await asyncio.sleep(EVERY_SECONDS)
                await misbehaving
                with suppress(TimeoutError):  # what is missing then is said by the comparison
                    await asyncio.wait_for(collecting, ALL_SECONDS)
        finally:
            await service.close()
    return items


@pytest.mark.filterwarnings(
    "ignore:ConnectionClosed:DeprecationWarning"
)  # the official client's, when cut off
@pytest.mark.parametrize("name", WORLDS)
async def test_each_event_once_and_in_order_under_every_fault(
    embedded_supabase: EmbeddedSupabase, name: str
) -> None:
    worlds = [WORLDS[name](embedded_supabase) for _ in FAULTS]
    results = await asyncio.gather(*map(delivered, worlds, FAULTS))
    wrong = {
        fault.__name__: _difference(items, run(f"{world.device}/system", EVENTS))
        for world, fault, items in zip(worlds, FAULTS, results, strict=True)
    }
    assert not {fault: difference for fault, difference in wrong.items() if difference}


def _difference(got: list[Item], wanted: list[Event]) -> str:
    """Say in a line how the items differ from what was published."""
    if got == wanted:
        return ""
    seqs = [item.seq if isinstance(item, Event) else item for item in got]
    missing = [e.seq for e in wanted if e not in got]
    return f"got {len(got)} of {len(wanted)}, missing {missing}, others {[s for s in seqs if not isinstance(s, int)]}"
