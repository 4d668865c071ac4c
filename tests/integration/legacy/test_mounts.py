"""Where the dialects are served."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from embedded.ports import free_port
from legacy_ws.errors import InvalidMount, PortTaken
from legacy_ws.mounts import Mount, parse_mounts
from legacy_ws.protocol.catalogue import catalogue
from legacy_ws.server import LegacyServer
from tests.fakes.event_factory import run
from tests.fakes.seeds import assert_like, seed
from tests.integration.legacy.conftest import (
    TOKEN,
    dashboard,
    get,
)

WEB = "web-1/system"


async def test_every_dialect_is_served_wherever_it_is_mounted_several_at_once():
    ports = [free_port("127.0.0.1") for _ in range(2)]
    text = f"{ports[0]}/ws=dashboard,{ports[1]}/ws=metrics,127.0.0.1:{ports[1]}/=containers,{ports[1]}/old=metrics_update"
    async with LegacyServer(token=TOKEN, port=0, mounts=parse_mounts(text, catalogue())) as server:
        wanted = {
            f"ws://127.0.0.1:{server.port}/ws": "initial_stats",
            f"ws://127.0.0.1:{ports[0]}/ws": "initial_stats",
            f"ws://127.0.0.1:{ports[1]}/ws": "connected",
            f"ws://127.0.0.1:{ports[1]}/": "initial_state",
        }
        async with AsyncExitStack() as stack:
            clients = {}
            for url, type_ in wanted.items():
                client = clients[url] = await stack.enter_async_context(dashboard(url))
                assert (await client.next())["type"] == type_
            old = await stack.enter_async_context(dashboard(f"ws://127.0.0.1:{ports[1]}/old"))
            assert_like(await old.next("metrics_update"), seed("003_metrics_update"))
            server.hub.take(run(WEB, 1))
            for url in list(wanted)[:2]:
                assert (await clients[url].next())["metadata"]["event"]["seq"] == 1
        status, body = await get(ports[1], "/link")
        assert status == 404
        assert b"/old for metrics_update" in body


async def test_a_mount_that_is_taken_is_named_and_nothing_is_left_listening():
    taken, free = free_port("127.0.0.1"), free_port("127.0.0.1")
    blocker = await asyncio.start_server(lambda *_: None, "127.0.0.1", taken)
    mounts = [Mount(free, "/ws", "dashboard"), Mount(taken, "/ws/containers", "containers")]
    with pytest.raises(
        PortTaken, match=f"port {taken} on 127.0.0.1, for containers at /ws/containers, is taken"
    ):
        async with LegacyServer(token=TOKEN, port=0, mounts=mounts):
            pass
    blocker.close()
    again = await asyncio.start_server(lambda *_: None, "127.0.0.1", free)
    again.close()


async def test_the_servers_own_paths_cannot_be_given_away():
    port = free_port("127.0.0.1")
    with pytest.raises(InvalidMount, match="dashboard is served there"):
        async with LegacyServer(token=TOKEN, port=port, mounts=[Mount(port, "/ws", "metrics")]):
            pass


async def test_clients_beyond_the_limit_are_told_to_come_later():
    async with LegacyServer(token=TOKEN, port=0, max_clients=1) as server, dashboard(server.url):
        with pytest.raises(InvalidStatus) as refused:
            await connect(server.url, proxy=None)
        assert refused.value.response.status_code == 503
