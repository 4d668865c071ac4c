"""What no client should send to the gateway, over a real socket, with a real legacy server behind it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legacy_ws.gateway import Gateway
from legacy_ws.mounts import Mount
from monitoring.route import Route
from monitoring.router import Router
from monitoring.service import Backend
from monitoring.sharing import SharedService
from tests.contract.conftest import LegacyWorld
from tests.fakes.bad_input import (
    anything,
    ends_its_own_connection_only,
    is_answered_and_so_is_its_neighbour,
    is_answered_with_errors,
)
from tests.fakes.event_factory import event, opened
from tests.integration.legacy.conftest import BEARER, STREAM_TOKEN, dashboard

DIALECTS = {
    "/ws": "dashboard", "/ws/containers": "containers", "/ws/frontend": "frontend", "/ws/metrics": "metrics",
    "/ws/stream": "stream", "/ws/metrics_update": "metrics_update",
}  # fmt: skip


class OnLegacy:
    def route(self, _client_id):
        return Route(Backend.LEGACY)

    def listen(self, _wake):
        return lambda: None


@asynccontextmanager
async def gateway_over_legacy():
    world = LegacyWorld()
    async with world.stack:
        await world.start()
        stream = f"{world.device}/system"
        await world.publish(opened(stream), event(stream, 2))
        shared = SharedService(world.service())

        @asynccontextmanager
        async def connect(client_id):
            router = Router({Backend.LEGACY: shared}, OnLegacy(), client_id, now=lambda: datetime.now(UTC))
            yield router

        mounts = [Mount(0, path, dialect) for path, dialect in DIALECTS.items()]
        try:
            async with Gateway(connect, mounts, stream_token=STREAM_TOKEN) as gateway:
                yield gateway
        finally:
            await shared.close()


@pytest.fixture(scope="module")
def loop_and_gateway():
    """Return what runs a coroutine beside a gateway, and the gateway: Hypothesis calls plain functions."""
    with asyncio.Runner() as runner:
        context = gateway_over_legacy()
        gateway = runner.run(context.__aenter__())
        try:
            yield runner.run, gateway
        finally:
            runner.run(context.__aexit__(None, None, None))


def connecting(gateway, path):
    return partial(dashboard, f"ws://127.0.0.1:{gateway.ports[0]}{path}", additional_headers=BEARER)


@pytest.mark.parametrize("path", [path for path in DIALECTS if path != "/ws/metrics_update"])
def test_bad_messages_are_answered_in_the_dialects_form_and_disturb_nobody(path, loop_and_gateway):
    run, gateway = loop_and_gateway
    run(is_answered_with_errors(connecting(gateway, path), path))


@pytest.mark.parametrize("path", DIALECTS)
def test_whatever_a_client_sends_it_is_answered_and_its_neighbour_too(path, loop_and_gateway):
    run, gateway = loop_and_gateway

    @given(anything)
    @settings(max_examples=15, deadline=None)
    def holds(messages):
        run(is_answered_and_so_is_its_neighbour(connecting(gateway, path), messages))

    holds()
    assert gateway.health()["moves"] == 0


@pytest.mark.parametrize("path", ["/ws", "/ws/stream"])
def test_bytes_that_are_no_websocket_end_their_own_connection_only(path, loop_and_gateway):
    run, gateway = loop_and_gateway

    @given(st.binary(min_size=1, max_size=300))
    @settings(max_examples=15, deadline=None)
    def holds(data):
        run(ends_its_own_connection_only(connecting(gateway, path), data))

    holds()
