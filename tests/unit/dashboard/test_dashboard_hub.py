"""The hub over a service in memory: one thread, one loop, newest picture at hand."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta

import pytest

from dashboard.hub import Frame, Hub, Sources
from dashboard.model import Phase, phase
from monitoring.errors import Refused, Unreachable
from monitoring.flags.model import Flags
from monitoring.service import Backend, MonitoringService
from tests.fakes.dashboard_service import ReplayedService, connected, gap, parity_report, reading

Make = Callable[..., Hub]
DEADLINE_SECONDS = 10.0


def until(hub: Hub, condition: Callable[[Frame], bool]) -> Frame:
    """Return the first picture that fulfils the condition."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    frame = hub.latest()
    while not condition(frame):
        assert time.monotonic() < deadline, frame
        frame = hub.wait(condition, 0.2)
    return frame


def samples(frame: Frame) -> int:
    """Return how many readings the page has of all hosts."""
    return sum(len(host.samples) for host in frame.state.hosts.values())


def phase_of(hub: Hub) -> Callable[[Frame], Phase]:
    return lambda frame: phase(frame.connection, frame.state, hub._now())


@pytest.fixture
def start() -> Iterator[Make]:
    hubs: list[Hub] = []

    def make(
        service: ReplayedService | None = None,
        connect: Callable[[], AbstractAsyncContextManager[MonitoringService]] | None = None,
        flags: Callable[[], tuple[Flags, str | None]] = lambda: (Flags(), None),
    ) -> Hub:
        used = service or ReplayedService(history=0, interval=None)
        hub = Hub(
            Sources(
                client_id="viewer-1",
                connect=connect or (lambda: connected(used)),
                flags=flags,
                parity=lambda: parity_report(used.began),
                collect=lambda: {"docker": {"available": False, "detail": "Docker is not there"}},
                processes=lambda: None,
            )
        )
        hubs.append(hub)
        hub.start()
        return hub

    yield make
    for hub in hubs:
        hub.close()
        assert not hub._thread.is_alive()


def test_the_first_picture_is_full(start: Make) -> None:
    hub = start(ReplayedService(history=300))
    frame = until(hub, lambda frame: samples(frame) >= 299 and frame.parity is not None)
    frame = until(hub, lambda frame: phase_of(hub)(frame) is Phase.LIVE)
    assert frame.client_id == "viewer-1"
    host = frame.state.hosts["box-1"]
    assert len(hub.drawn(host).sparks["cpu"]) == 40
    assert hub.drawn(host) is hub.drawn(host)
    assert [each.name for each in host.containers][:2] == ["api", "cache"]
    assert frame.docker_note == "Docker is not there"
    assert frame.connection.backend is Backend.LEGACY


def test_live_events_and_moves_come_through(start: Make) -> None:
    service = ReplayedService(history=5, interval=None)
    hub = start(service)
    version = until(hub, lambda frame: frame.connection.ever_live).version
    run_in(hub, lambda: service.offer([reading(6, hub._now() + timedelta(seconds=1)), gap(9, 10)]))
    run_in(hub, lambda: service.move(Backend.SUPABASE))
    frame = until(hub, lambda frame: bool(frame.state.moves) and frame.connection.backend is Backend.SUPABASE)
    assert frame.version > version
    assert frame.state.feed[-1].seq == 6
    assert frame.state.moves[0].lost == 2


def test_an_outage_shows_and_ends(start: Make) -> None:
    service = ReplayedService(history=5, interval=None)
    hub = start(service)
    until(hub, lambda frame: frame.connection.ever_live)
    began = time.monotonic()
    run_in(hub, lambda: service.outage(up=False))
    down = until(hub, lambda frame: phase_of(hub)(frame) is Phase.RECONNECTING)
    assert time.monotonic() - began < 3
    assert down.connection.detail == "connection refused"
    run_in(hub, lambda: service.outage(up=True))
    until(hub, lambda frame: frame.connection.down_since is None)


def test_an_unreachable_backend_at_the_start_is_said_and_tried_again(start: Make) -> None:
    service = ReplayedService(history=5, interval=None)
    service.outage(up=False)
    hub = start(service)
    frame = until(hub, lambda frame: bool(frame.connection.detail))
    assert frame.connection.detail == "legacy cannot be reached: connection refused"
    assert phase_of(hub)(frame) is Phase.CONNECTING
    run_in(hub, lambda: service.outage(up=True))
    until(hub, lambda frame: phase_of(hub)(frame) is Phase.LIVE)


def test_a_refusal_is_said(start: Make) -> None:
    @asynccontextmanager
    async def refuse() -> AsyncIterator[MonitoringService]:
        raise Refused("supabase", "wrong key", "check SUPABASE_KEY")
        yield

    hub = start(connect=refuse)
    frame = until(hub, lambda frame: frame.connection.refused)
    assert frame.connection.detail == "supabase refused: wrong key; check SUPABASE_KEY"


def test_a_feed_that_cannot_be_had_is_tried_again(start: Make) -> None:
    tries = 0
    service = ReplayedService(history=5, interval=None)

    @asynccontextmanager
    async def second_time() -> AsyncIterator[MonitoringService]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise Unreachable("Crossfade", "it does not run")
        async with connected(service) as lent:
            yield lent

    hub = start(connect=second_time)
    until(hub, lambda frame: frame.connection.detail == "Crossfade cannot be reached: it does not run")
    until(hub, lambda frame: phase_of(hub)(frame) is Phase.LIVE)


def test_a_bug_in_the_feed_is_said_and_logged(start: Make, caplog: pytest.LogCaptureFixture) -> None:
    @asynccontextmanager
    async def broken() -> AsyncIterator[MonitoringService]:
        raise ValueError("no such thing")
        yield

    hub = start(connect=broken)
    until(hub, lambda frame: "the feed failed: no such thing" in frame.connection.detail)
    assert "the dashboard's feed failed" in caplog.text


def test_a_broken_report_does_not_stop_the_feed(start: Make, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> tuple[Flags, str | None]:
        raise RuntimeError("no flags")

    hub = start(ReplayedService(history=5, interval=None), flags=broken)
    said = "reports of the other parts cannot be read: no flags"
    until(hub, lambda frame: frame.connection.ever_live and said in caplog.text)
    hub.wait(lambda _: False, 1.2)
    assert caplog.text.count(said) == 1


def test_flags_are_followed(start: Make) -> None:
    flags = [Flags()]
    hub = start(flags=lambda: (flags[0], None))
    until(hub, lambda frame: frame.rollout.percent == 0 and frame.parity is not None)
    flags[0] = Flags(weight=100_000)
    assert until(hub, lambda frame: frame.rollout.percent == 100).rollout.wish is Backend.SUPABASE


def test_nothing_new_is_no_new_picture(start: Make) -> None:
    hub = start(ReplayedService(history=5, interval=None))
    frame = until(
        hub,
        lambda frame: (
            frame.connection.ever_live
            and frame.parity is not None
            and len(frame.state.feed) == 10  # all there is
        ),
    )
    assert hub.wait(lambda _: False, 1.2).version == frame.version


def test_closing_closes_the_service_and_is_safe_twice_and_before_the_start() -> None:
    service = ReplayedService(history=1, interval=None)
    sources = Sources(
        "v", lambda: connected(service), lambda: (Flags(), None), lambda: None, lambda: None, lambda: None
    )
    Hub(sources).close()
    hub = Hub(sources)
    hub.start()
    until(hub, lambda frame: frame.connection.ever_live)
    hub.close()
    hub.close()
    assert service.closed


def test_closing_as_the_feed_breaks_closes() -> None:
    """A task inside the service answers the cancellation with an error, as a connection that breaks just then does."""
    entered = threading.Event()

    @asynccontextmanager
    async def breaking() -> AsyncIterator[MonitoringService]:
        async def inside() -> None:
            try:
                entered.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ConnectionResetError("cut") from None

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(inside())
            async with connected(ReplayedService(history=1, interval=None)) as service:
                yield service

    hub = Hub(Sources("v", breaking, lambda: (Flags(), None), lambda: None, lambda: None, lambda: None))
    hub.start()
    assert entered.wait(DEADLINE_SECONDS)
    until(hub, lambda frame: frame.connection.ever_live)
    hub.close()
    assert not hub._thread.is_alive()


def run_in(hub: Hub, act: Callable[[], None]) -> None:
    """Do something in the hub's loop, where the service lives."""
    assert hub._loop is not None
    hub._loop.call_soon_threadsafe(act)
