from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

import pytest

from dashboard.redrawing import HEARTBEAT_SECONDS, Place, Redrawing, Said
from tests.fakes import virtual_time

ONE = Place("tab", "live")
OTHER = Place("tab", "charts")


class Streamlit:
    """Draws what it is asked for, a moment later, unless it is told otherwise."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asked: list[Mapping[str, Sequence[str]]] = []
        self.says: Mapping[str, Said] = {}
        self.redrawing = Redrawing(self.draw, clock=lambda: self.now)
        self.differs = {ONE: False, OTHER: False}

    async def draw(self, wanted: Mapping[str, Sequence[str]]) -> Mapping[str, Said]:
        self.asked.append(wanted)
        return {session: self.says.get(session, Said.BEGUN) for session in wanted}

    def drawn(self, place: Place, seconds: float = 1.0) -> None:
        self.differs[place] = False
        self.redrawing.drawn(place, lambda: self.differs[place], seconds)

    def due(self) -> list[str]:
        return [fragment for fragments in self.redrawing.due().values() for fragment in fragments]


def test_what_shows_something_else_is_due_at_once_and_nothing_else() -> None:
    tabs = Streamlit()
    tabs.drawn(ONE)
    tabs.drawn(OTHER)
    assert tabs.redrawing.due() == {}
    tabs.differs[ONE] = True
    assert tabs.redrawing.due() == {"tab": ["live"]}
    tabs.drawn(ONE)
    tabs.differs[OTHER] = True
    assert tabs.redrawing.due() == {"tab": ["charts"]}
    tabs.drawn(OTHER)
    tabs.now += 2
    tabs.differs |= {ONE: True, OTHER: True}
    assert tabs.redrawing.due() == {"tab": ["live", "charts"]}


def test_in_the_mean_it_is_drawn_as_often_as_it_says_and_twice_at_once() -> None:
    tabs = Streamlit()
    tabs.drawn(ONE, seconds=2.0)
    tabs.differs[ONE] = True
    assert tabs.due() == ["live"]
    tabs.drawn(ONE, seconds=2.0)
    tabs.differs[ONE] = True
    assert tabs.due() == []
    tabs.now += 1.9
    assert tabs.due() == []
    tabs.now += 0.2
    assert tabs.due() == ["live"]
    tabs.drawn(ONE, seconds=2.0)
    drawn = 0
    for _ in range(120):
        tabs.now += 0.1
        tabs.differs[ONE] = True
        if tabs.due():
            tabs.drawn(ONE, seconds=2.0)
            drawn += 1
    assert drawn in {5, 6}


def test_what_we_asked_for_is_not_asked_for_again_before_it_is_drawn() -> None:
    tabs = Streamlit()
    tabs.drawn(ONE)
    tabs.differs[ONE] = True
    assert tabs.due() == ["live"]
    assert tabs.due() == []
    tabs.redrawing.said({"tab": ["live"]}, {"tab": Said.BEGUN})
    assert tabs.due() == []
    tabs.drawn(ONE)
    tabs.now += 1
    tabs.differs[ONE] = True
    assert tabs.due() == ["live"]


def test_what_is_drawn_before_it_is_said_to_be_begun_is_drawn_again_another_time() -> None:
    tabs = Streamlit()
    tabs.drawn(ONE)
    tabs.differs[ONE] = True
    assert tabs.due() == ["live"]
    tabs.drawn(ONE)
    tabs.redrawing.said({"tab": ["live"]}, {"tab": Said.BEGUN})
    tabs.now += 1
    tabs.differs[ONE] = True
    assert tabs.due() == ["live"]


def test_a_tab_at_work_is_asked_again_and_a_closed_one_is_forgotten() -> None:
    tabs = Streamlit()
    tabs.drawn(ONE)
    tabs.differs[ONE] = True
    assert tabs.due() == ["live"]
    tabs.redrawing.said({"tab": ["live"]}, {"tab": Said.BUSY})
    assert tabs.due() == ["live"]
    tabs.redrawing.said({"tab": ["live"]}, {"tab": Said.GONE})
    assert tabs.due() == []


def test_a_tab_whose_browser_has_not_asked_for_a_while_is_left_alone_until_it_does() -> None:
    """Hidden, asleep, or cut off: what we asked for ourselves is no sign of anybody."""
    tabs = Streamlit()
    tabs.drawn(ONE)
    for _ in range(3):
        tabs.now += HEARTBEAT_SECONDS
        tabs.differs[ONE] = True
        assert tabs.due() == ["live"]
        tabs.redrawing.said({"tab": ["live"]}, {"tab": Said.BEGUN})
        tabs.drawn(ONE)
    tabs.now += 1
    tabs.differs[ONE] = True
    assert tabs.due() == []
    tabs.drawn(ONE)
    tabs.now += 1
    tabs.differs[ONE] = True
    assert tabs.due() == ["live"]
    tabs.now += 1000
    assert tabs.due() == []
    assert tabs.redrawing._tabs == {}


def test_what_is_old_is_drawn_though_it_shows_the_same() -> None:
    tabs = Streamlit()
    tabs.drawn(ONE)
    tabs.drawn(OTHER, seconds=10.0)
    tabs.now += 5.4
    assert tabs.due() == []
    tabs.now += 0.2
    assert tabs.due() == ["live"]
    tabs.now += 4.5
    tabs.redrawing.drawn(Place("tab", "timer"), lambda: False, 1.0)
    assert tabs.due() == ["charts"]


def test_what_was_never_drawn_is_asked_for_again() -> None:
    """As where a fragment before it in the same run has failed."""
    tabs = Streamlit()
    tabs.drawn(ONE)
    tabs.differs[ONE] = True
    assert tabs.due() == ["live"]
    tabs.redrawing.said({"tab": ["live"]}, {"tab": Said.BEGUN})
    tabs.now += 4.9
    assert tabs.due() == []
    tabs.now += 0.2
    assert tabs.due() == ["live"]


def test_few_tabs_are_drawn_at_a_time_and_who_has_waited_longest_is_next() -> None:
    tabs = Streamlit()
    places = [Place(f"tab-{number}", "live") for number in range(10)]
    for place in places:
        tabs.differs[place] = True
        tabs.redrawing.drawn(place, lambda: True, 1.0)
    drawn: list[str] = []
    for _ in range(5):
        due = list(tabs.redrawing.due())
        assert len(due) <= 4
        assert list(tabs.redrawing.due()) == [], "until they are drawn"
        drawn += due
        tabs.now += 0.4
        for session in due:
            tabs.redrawing.drawn(Place(session, "live"), lambda: True, 1.0)
    assert sorted(drawn[:10]) == sorted(place.session for place in places)


def test_a_paused_fragment_is_left_alone() -> None:
    tabs = Streamlit()
    tabs.drawn(ONE)
    tabs.differs[ONE] = True
    tabs.redrawing.forget(ONE)
    tabs.redrawing.forget(OTHER)
    assert tabs.due() == []


def test_a_fragment_that_its_page_has_dropped_meanwhile_does_no_harm() -> None:
    tabs = Streamlit()
    tabs.redrawing.said({"tab": ["gone"]}, {"tab": Said.BEGUN})
    assert tabs.due() == []


@pytest.mark.parametrize("trouble", ["draw hangs", "draw forgets a tab", "a page's picture fails"])
def test_whatever_fails_pages_go_on_by_their_timers_and_it_is_tried_again(trouble: str) -> None:
    tries = 0

    async def draw(wanted: Mapping[str, Sequence[str]]) -> Mapping[str, Said]:
        nonlocal tries
        tries += 1
        if trouble == "draw hangs":
            await asyncio.get_running_loop().create_future()
        return {}

    def differs() -> bool:
        nonlocal tries
        if trouble == "a page's picture fails":
            tries += 1
            raise KeyError("a host that went")
        return True

    async def play() -> None:
        loop = asyncio.get_running_loop()
        redrawing = Redrawing(draw, clock=loop.time)
        redrawing.drawn(ONE, differs, 1.0)
        running = asyncio.create_task(redrawing.run())
        await asyncio.sleep(12)
        assert not running.done()
        assert not redrawing.works
        assert tries >= 2
        running.cancel()
        await asyncio.wait({running})

    with virtual_time.runner() as runner:
        runner.run(play())


def test_it_runs_on_after_streamlit_could_not_be_asked_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tabs = Streamlit()
    working = False
    calls = 0

    async def draw(wanted: Mapping[str, Sequence[str]]) -> Mapping[str, Said]:
        nonlocal calls
        calls += 1
        if not working:
            raise AttributeError("no such session manager")
        return await tabs.draw(wanted)

    tabs.redrawing = Redrawing(draw, clock=lambda: tabs.now)
    tabs.drawn(ONE)
    tabs.differs[ONE] = True

    async def play() -> None:
        nonlocal working
        running = asyncio.create_task(tabs.redrawing.run())
        await asyncio.sleep(60)
        assert 10 <= calls <= 13
        assert not tabs.redrawing.works
        working = True
        await asyncio.sleep(10)
        running.cancel()
        await asyncio.wait({running})

    with caplog.at_level(logging.ERROR), virtual_time.runner() as runner:
        runner.run(play())
    assert tabs.asked == [{"tab": ["live"]}]
    assert tabs.redrawing.works
    assert len(caplog.records) == 1
    assert "timers" in caplog.records[0].message
