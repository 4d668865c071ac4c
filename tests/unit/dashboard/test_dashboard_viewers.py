"""Viewers over services in memory: one thread, one loop, each viewer's newest picture at hand."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta

import pytest

from dashboard.hub import Frame, Hub
from dashboard.identity import Viewer
from dashboard.model import Phase, phase
from dashboard.sources import Sources
from dashboard.viewers import LINGER_SECONDS, Viewers
from monitoring.errors import Refused, Unreachable
from monitoring.flags.model import ClientId, Flags
from monitoring.service import Backend, Capabilities, MonitoringService, Snapshot
from monitoring.topics import Topic
from tests.fakes.dashboard_service import ReplayedService, connected, gap, parity_report, reading

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


class Start:
    """Makes viewers, and looks through the first one."""

    def __init__(self) -> None:
        self.made: list[Viewers] = []

    def __call__(
        self,
        service: ReplayedService | None = None,
        connect: Callable[[Viewer], AbstractAsyncContextManager[MonitoringService]] | None = None,
        flags: Callable[[], tuple[Flags, str | None]] = lambda: (Flags(), None),
        linger_seconds: float = LINGER_SECONDS,
    ) -> Hub:
        used = service or ReplayedService(history=0, interval=None)
        viewers = Viewers(
            Sources(
                connect=connect or (lambda _: connected(used)),
                flags=flags,
                parity=lambda: parity_report(used.began),
                collect=lambda: {"docker": {"available": False, "detail": "Docker is not there"}},
                processes=lambda: None,
            ),
            linger_seconds=linger_seconds,
        )
        self.made.append(viewers)
        viewers.start()
        return viewers.hub(Viewer("viewer-1"))

    def hub(self, client_id: str, role: str = "viewer") -> Hub:
        """Look through another viewer of the same process."""
        return self.made[-1].hub(Viewer(client_id, role))

    def do(self, act: Callable[[], None]) -> None:
        """Do something in the loop, where the services live."""
        loop = self.made[-1]._loop
        assert loop is not None
        loop.call_soon_threadsafe(act)


@pytest.fixture
def start() -> Iterator[Start]:
    made = Start()
    yield made
    for viewers in made.made:
        viewers.close()
        assert not viewers._thread.is_alive()


def test_the_first_picture_is_full(start: Start) -> None:
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


def test_live_events_and_moves_come_through(start: Start) -> None:
    service = ReplayedService(history=5, interval=None)
    hub = start(service)
    version = until(hub, lambda frame: frame.connection.ever_live).version
    start.do(lambda: service.offer([reading(6, hub._now() + timedelta(seconds=1)), gap(9, 10)]))
    start.do(lambda: service.move(Backend.SUPABASE))
    frame = until(hub, lambda frame: bool(frame.state.moves) and frame.connection.backend is Backend.SUPABASE)
    assert frame.version > version
    assert frame.state.feed[-1].seq == 6
    assert frame.state.moves[0].lost == 2


def test_an_outage_shows_and_ends(start: Start) -> None:
    service = ReplayedService(history=5, interval=None)
    hub = start(service)
    until(hub, lambda frame: frame.connection.ever_live)
    began = time.monotonic()
    start.do(lambda: service.outage(up=False))
    down = until(hub, lambda frame: phase_of(hub)(frame) is Phase.RECONNECTING)
    assert time.monotonic() - began < 3
    assert down.connection.detail == "connection refused"
    start.do(lambda: service.outage(up=True))
    until(hub, lambda frame: frame.connection.down_since is None)


def test_an_unreachable_backend_at_the_start_is_said_and_tried_again(start: Start) -> None:
    service = ReplayedService(history=5, interval=None)
    service.outage(up=False)
    hub = start(service)
    frame = until(hub, lambda frame: bool(frame.connection.detail))
    assert frame.connection.detail == "legacy cannot be reached: connection refused"
    assert phase_of(hub)(frame) is Phase.CONNECTING
    start.do(lambda: service.outage(up=True))
    until(hub, lambda frame: phase_of(hub)(frame) is Phase.LIVE)


def test_a_refusal_is_said(start: Start) -> None:
    @asynccontextmanager
    async def refuse(_: Viewer) -> AsyncIterator[MonitoringService]:
        raise Refused("supabase", "wrong key", "check SUPABASE_KEY")
        yield

    hub = start(connect=refuse)
    frame = until(hub, lambda frame: frame.connection.refused)
    assert frame.connection.detail == "supabase refused: wrong key; check SUPABASE_KEY"


def test_a_feed_that_cannot_be_had_is_tried_again(start: Start) -> None:
    tries = 0
    service = ReplayedService(history=5, interval=None)

    @asynccontextmanager
    async def second_time(_: Viewer) -> AsyncIterator[MonitoringService]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise Unreachable("Crossfade", "it does not run")
        async with connected(service) as lent:
            yield lent

    hub = start(connect=second_time)
    until(hub, lambda frame: frame.connection.detail == "Crossfade cannot be reached: it does not run")
    until(hub, lambda frame: phase_of(hub)(frame) is Phase.LIVE)


def test_a_bug_in_the_feed_is_said_and_logged(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    @asynccontextmanager
    async def broken(_: Viewer) -> AsyncIterator[MonitoringService]:
        raise ValueError("no such thing")
        yield

    hub = start(connect=broken)
    until(hub, lambda frame: "the feed failed: no such thing" in frame.connection.detail)
    assert "the dashboard's feed failed" in caplog.text


def test_a_broken_report_does_not_stop_the_feed(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> tuple[Flags, str | None]:
        raise RuntimeError("no flags")

    hub = start(ReplayedService(history=5, interval=None), flags=broken)
    said = "reports of the other parts cannot be read: no flags"
    until(hub, lambda frame: frame.connection.ever_live and said in caplog.text)
    hub.wait(lambda _: False, 1.2)
    assert caplog.text.count(said) == 1


def test_flags_are_followed(start: Start) -> None:
    flags = [Flags()]
    hub = start(flags=lambda: (flags[0], None))
    until(hub, lambda frame: frame.rollout.percent == 0 and frame.parity is not None)
    flags[0] = Flags(weight=100_000)
    assert until(hub, lambda frame: frame.rollout.percent == 100).rollout.wish is Backend.SUPABASE


def test_nothing_new_is_no_new_picture(start: Start) -> None:
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
        lambda _: connected(service), lambda: (Flags(), None), lambda: None, lambda: None, lambda: None
    )
    Viewers(sources).close()
    viewers = Viewers(sources)
    viewers.start()
    until(viewers.hub(Viewer("v")), lambda frame: frame.connection.ever_live)
    viewers.close()
    viewers.close()
    assert service.closed


def test_closing_as_the_feed_breaks_closes() -> None:
    """A task inside the service answers the cancellation with an error, as a connection that breaks just then does."""
    entered = threading.Event()

    @asynccontextmanager
    async def breaking(_: Viewer) -> AsyncIterator[MonitoringService]:
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

    viewers = Viewers(Sources(breaking, lambda: (Flags(), None), lambda: None, lambda: None, lambda: None))
    viewers.start()
    hub = viewers.hub(Viewer("v"))
    assert entered.wait(DEADLINE_SECONDS)
    until(hub, lambda frame: frame.connection.ever_live)
    viewers.close()
    assert not viewers._thread.is_alive()


class Two:
    """A service of each viewer's own, who has it open, and whose was asked for a snapshot."""

    def __init__(self, promises: Capabilities = Capabilities()) -> None:  # noqa: B008 - frozen
        self.promises = promises
        self.services: dict[Viewer, ReplayedService] = {}
        self.asked: list[str] = []
        self.open: Counter[str] = Counter()

    @asynccontextmanager
    async def connect(self, viewer: Viewer) -> AsyncIterator[MonitoringService]:
        made = self.services.setdefault(viewer, Counting(viewer, self))
        self.open[viewer.client_id] += 1
        try:
            yield made
        finally:
            self.open[viewer.client_id] -= 1


class Counting(ReplayedService):
    """Tells when it is asked for a snapshot."""

    def __init__(self, viewer: Viewer, two: Two) -> None:
        super().__init__(history=5, interval=None)
        self._viewer, self._two = viewer, two

    @property
    def capabilities(self) -> Capabilities:
        return self._two.promises

    async def snapshot(self, topics: Collection[Topic]) -> Snapshot:
        self._two.asked.append(self._viewer.client_id)
        return await super().snapshot(topics)


def test_each_viewer_is_moved_alone(start: Start) -> None:
    two = Two()
    ann = start(connect=two.connect, flags=lambda: (Flags(allow=frozenset({ClientId("bob")})), None))
    bob = start.hub("bob")
    for hub in (ann, bob):
        until(hub, lambda frame: frame.connection.ever_live and frame.rollout.allow)
    service = two.services[bob.viewer]
    start.do(lambda: service.move(Backend.SUPABASE))
    moved = until(bob, lambda frame: frame.connection.backend is Backend.SUPABASE and frame.state.moves)
    assert (moved.client_id, moved.rollout.wish) == ("bob", Backend.SUPABASE)
    stayed = ann.wait(lambda frame: frame.state.moves, 0.5)
    assert (stayed.connection.backend, stayed.rollout.wish) == (Backend.LEGACY, Backend.LEGACY)
    assert not stayed.state.moves


def test_tabs_of_a_viewer_share_its_hub_and_a_role_of_its_own_is_another(start: Start) -> None:
    hub = start()
    assert start.hub("viewer-1") is hub
    assert start.hub("viewer-1", "operator") is not hub


def test_the_next_viewer_begins_where_one_of_its_role_stands(start: Start) -> None:
    two = Two()
    ann = start(connect=two.connect)
    known = until(ann, lambda frame: frame.connection.ever_live and len(frame.state.feed) == 10)
    bob = start.hub("bob")
    frame = until(bob, lambda frame: frame.connection.ever_live)
    assert frame.state.feed == known.state.feed
    assert frame.state.hosts["box-1"] is known.state.hosts["box-1"]
    assert not frame.state.lost
    until(start.hub("eve", "operator"), lambda frame: frame.connection.ever_live)
    assert two.asked == ["viewer-1", "eve"]


def test_a_viewer_whose_service_promises_no_identity_begins_on_its_own(start: Start) -> None:
    two = Two(Capabilities(identity=False))
    until(start(connect=two.connect), lambda frame: frame.connection.ever_live)
    until(start.hub("bob"), lambda frame: frame.connection.ever_live)
    assert two.asked == ["viewer-1", "bob"]


def test_who_is_not_looked_at_is_let_go_and_followed_again_later(start: Start) -> None:
    two = Two()
    hub = start(connect=two.connect, linger_seconds=0.3)
    frame = until(hub, lambda frame: frame.connection.ever_live and len(frame.state.feed) == 10)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while two.open["viewer-1"] or hub.following:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert hub._frame.connection.detail == "nobody looked at it for a while"
    again = until(hub, lambda each: each.connection.down_since is None)
    assert two.open["viewer-1"] == 1
    assert again.state.feed == frame.state.feed
    assert not again.state.lost


def test_what_runs_beside_runs_in_the_same_loop_and_is_begun_again(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    began: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        began.append(asyncio.get_running_loop())
        if len(began) == 1:
            raise RuntimeError("no room")
        await asyncio.Event().wait()

    service = ReplayedService(history=1, interval=None)
    sources = Sources(
        lambda _: connected(service),
        lambda: (Flags(), None),
        lambda: None,
        lambda: None,
        lambda: None,
        run=run,
    )
    viewers = Viewers(sources)
    start.made.append(viewers)
    viewers.start()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while len(began) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert began == [viewers._loop, viewers._loop]
    assert "no room" in caplog.text
