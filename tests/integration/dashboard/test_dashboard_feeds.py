"""Viewers over the real flags and shared feeds: each routed alone, and what comes received once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pytest

from adapters import client_reports, move_log
from crossfade.errors import NotRunning
from crossfade.lending import RoleFeeds
from crossfade.paths import DataDir
from crossfade.settings import Settings
from crossfade.wiring import Role, Wiring
from dashboard.hub import Frame, Hub
from dashboard.identity import Viewer
from dashboard.sources import Sources
from dashboard.viewers import Viewers
from dashboard.views import header
from monitoring.service import Backend, MonitoringService
from monitoring.subscription import Subscription
from tests.fakes.event_factory import event, run
from tests.fakes.memory_service import MemoryService

DEADLINE_SECONDS = 30.0
STREAM = "web-1/system"
FLAGS = "version: 1\nkill: false\nlive:\n  percent: {}\n  allow: [{}]\n  deny: []\nend: true\n"


class Counted(MemoryService):
    """Counts what is opened on it."""

    def __init__(self, backend: Backend, opened: Counter[str]) -> None:
        super().__init__(backend)
        self._opened = opened

    def subscribe(self, *given: Any, **more: Any) -> Subscription[Any]:
        self._opened[f"{self.backend} feeds"] += 1
        return super().subscribe(*given, **more)


@dataclass(frozen=True, slots=True)
class InMemory(Wiring):
    """An installation whose backends are in memory; what was made for which role, and what was opened on each."""

    made: list[tuple[Role, MemoryService]] = field(default_factory=list)
    opened: Counter[str] = field(default_factory=Counter)

    @classmethod
    def at(cls, root: Path) -> Self:
        made = cls(DataDir.of(root / ".crossfade"), Settings(flags=root / "flags.yaml"))
        made.data.client_reports.mkdir(parents=True)
        return made

    def connect_backend(
        self, backend: Backend, on_raw: Any = None, *, role: Role = Role.VIEWER
    ) -> MonitoringService:
        service = Counted(backend, self.opened)
        service._heads.update({each.stream: each.position for each in run(STREAM, 3)})
        service._latest.update({(each.stream, each.kind): each for each in run(STREAM, 3)})
        service._events.extend(run(STREAM, 3))
        self.made.append((role, service))
        return service


class Together:
    """Viewers over one installation."""

    def __init__(self, root: Path) -> None:
        self.flags = root / "flags.yaml"
        self.route(0)
        self.wiring = InMemory.at(root)
        feeds = RoleFeeds(self.wiring)

        @asynccontextmanager
        async def connect(viewer: Viewer) -> Any:
            async with feeds.connect(viewer.client_id, Role(viewer.role)) as service:
                yield service

        self.viewers = Viewers(
            Sources(connect, feeds.flags, lambda: None, lambda: None, lambda: None, run=feeds.run)
        )
        self.viewers.start()

    def route(self, percent: int, allow: str = "") -> None:
        self.flags.write_text(FLAGS.format(percent, allow))

    def do(self, act: Callable[[], Coroutine[Any, Any, object]]) -> None:
        assert self.viewers._loop is not None
        asyncio.run_coroutine_threadsafe(act(), self.viewers._loop).result(DEADLINE_SECONDS)

    async def publish(self, seq: int) -> None:
        for _, service in self.wiring.made:
            await service.publish(event(STREAM, seq))


@pytest.fixture
def together(tmp_path: Path) -> Iterator[Together]:
    made = Together(tmp_path)
    yield made
    made.viewers.close()
    assert "dashboard-viewers" not in {each.name for each in threading.enumerate()}


def until(hub: Hub, condition: Callable[[Frame], object]) -> Frame:
    deadline = time.monotonic() + DEADLINE_SECONDS
    frame = hub.wait(condition, DEADLINE_SECONDS)
    assert time.monotonic() < deadline, frame
    return frame


def fed_by(backend: Backend) -> Callable[[Frame], object]:
    return lambda frame: (
        frame.connection.backend is backend
        and frame.connection.down_since is None
        and frame.rollout.wish is backend
    )


def test_flags_move_viewers_one_by_one_and_each_backend_is_heard_once(together: Together) -> None:
    ann, bob = (together.viewers.hub(Viewer(name)) for name in ("ann@example.com", "bob@example.com"))
    for hub in (ann, bob):
        until(hub, fed_by(Backend.LEGACY))
    together.route(0, "bob@example.com")
    frame = until(bob, fed_by(Backend.SUPABASE))
    assert header.backend_badge(frame).text == "Fed by Supabase · allow list"
    assert header.backend_badge(ann.latest()).text.startswith("Fed by legacy · ")
    together.do(lambda: together.publish(4))
    for hub in (ann, bob):
        frame = until(hub, lambda frame: frame.state.feed and frame.state.feed[-1].seq == 4)
        assert [each.seq for each in frame.state.feed] == [1, 2, 3, 4]
        assert not frame.state.lost
    together.route(100)
    until(ann, fed_by(Backend.SUPABASE))
    until(bob, fed_by(Backend.SUPABASE))
    moves = [each["client"] for each in move_log.newest(together.wiring.data.moves, 10)]
    assert sorted(moves) == ["ann@example.com", "bob@example.com"]
    assert Counter(service.backend for _, service in together.wiring.made) == Counter(Backend)
    # the trunk of each, and what the first viewer needed from before it
    assert together.wiring.opened["supabase feeds"] <= 2
    assert together.wiring.opened["legacy feeds"] <= 3


def test_the_connected_clients_are_the_viewers_with_who_serves_each(together: Together) -> None:
    together.route(0, "bob@example.com")
    hubs = [together.viewers.hub(Viewer(name)) for name in ("ann@example.com", "bob@example.com")]
    until(hubs[0], fed_by(Backend.LEGACY))
    until(hubs[1], fed_by(Backend.SUPABASE))
    deadline = time.monotonic() + DEADLINE_SECONDS
    found: dict[str, str] = {}
    while found != {"ann@example.com": "legacy", "bob@example.com": "supabase"}:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
        reports = client_reports.read(together.wiring.data.client_reports, now=datetime.now(UTC).timestamp())
        found = {name: figures["backend"] for each in reports.values() for name, figures in each.items()}


def test_each_role_has_feeds_of_its_own(together: Together) -> None:
    hubs = [together.viewers.hub(Viewer(*who)) for who in (("ann", "operator"), ("bob",), ("eve",))]
    for hub in hubs:
        until(hub, fed_by(Backend.LEGACY))
    assert Counter(role for role, _ in together.wiring.made) == {
        Role.OPERATOR: len(Backend),
        Role.VIEWER: len(Backend),
    }


def test_an_outage_is_every_viewers_and_ends(together: Together) -> None:
    hubs = [together.viewers.hub(Viewer(name)) for name in ("ann", "bob")]
    for hub in hubs:
        until(hub, fed_by(Backend.LEGACY))
    for up in (False, True):
        for _, service in together.wiring.made:
            together.do(lambda service=service, up=up: service.set_up(up))
        for hub in hubs:
            until(hub, lambda frame, up=up: (frame.connection.down_since is None) is up)


def test_what_was_opened_is_closed_where_a_backend_cannot_be_had(tmp_path: Path) -> None:
    closed: list[Backend] = []

    class Closing(MemoryService):
        async def close(self) -> None:
            closed.append(self.backend)

    class Half(InMemory):
        def connect_backend(
            self, backend: Backend, on_raw: Any = None, *, role: Role = Role.VIEWER
        ) -> MonitoringService:
            if closed or backend is not Backend.LEGACY:
                raise NotRunning("there is no Supabase here")
            return Closing(backend)

    async def tried() -> None:
        feeds = RoleFeeds(Half.at(tmp_path))
        running = asyncio.ensure_future(feeds.run())
        with pytest.raises(NotRunning):
            async with feeds.connect("ann"):
                pass
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(tried())
    assert closed == [Backend.LEGACY]
