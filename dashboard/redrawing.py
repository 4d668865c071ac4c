"""When the fragments of open tabs are drawn again: as soon as what they show is another, and now and then in any case.

Left to itself Streamlit draws a fragment when the browser's timer says so: then the timers have to be fast, and still each
change waits for one. Here a tab has one slow timer, which tells that somebody may look at it from its being hidden, asleep
or gone. Which fragments are due is decided here; `dashboard.tabs` draws them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum

HEARTBEAT_SECONDS = 5.0
"""Of a tab's timer."""
_OLD_SECONDS = 5.5
"""After which anything is drawn again: ages grow by themselves. Longer than the timer, whose fragment need not be drawn twice."""
_UNSEEN_SECONDS = 3 * HEARTBEAT_SECONDS
"""After which a tab whose browser has not asked is left alone: browsers wake a hidden one once a minute."""
_FORGOTTEN_SECONDS = 300.0
_LOOK_SECONDS = 0.5
"""How often it is looked at what has grown old."""
_SOON_SECONDS = 0.05
"""How soon it is looked again after something has changed, or while something waits: changes come in bursts."""
_MOST_TABS = 4
"""Tabs that are drawn at the same time: threads of one process hinder each other."""
_PATIENCE_SECONDS = 1.0
"""How long one of them keeps its place, if it takes longer."""
_AT_ONCE = 2.0
"""Drawings of a fragment that may follow each other at once; after them there is one each interval of its own."""
_AGAIN_SECONDS = 5.0
"""After which what we asked for and did not get is asked for again."""

_log = logging.getLogger(__name__)


class Said(Enum):
    """What became of the wish to draw fragments of a tab."""

    BEGUN = "begun"
    BUSY = "busy"
    """Something of the tab is being drawn; ask again."""
    GONE = "gone"
    """The tab has been closed, or shows another page."""


@dataclass(frozen=True, slots=True)
class Place:
    """A fragment of an open tab, by Streamlit's ids."""

    session: str
    fragment: str


Draw = Callable[[Mapping[str, Sequence[str]]], Awaitable[Mapping[str, Said]]]
"""Draws fragments, session by session; returns what became of it, for each session."""


@dataclass(slots=True)
class _Drawn:
    """How a fragment was drawn last."""

    differs: Callable[[], bool]
    seconds: float
    left: float
    """Drawings that it may have now, at most `_AT_ONCE`."""
    at: float
    wished_at: float | None = None
    """When we asked for it; None once it is drawn."""

    def refilled(self, now: float) -> float:
        return min(_AT_ONCE, self.left + (now - self.at) / self.seconds)

    def awaited(self, now: float) -> bool:
        return self.wished_at is not None and now - self.wished_at < _AGAIN_SECONDS

    def due(self, now: float) -> bool:
        if self.awaited(now):
            return False
        old = now - self.at >= max(self.seconds, _OLD_SECONDS)
        return old or (self.refilled(now) >= 1 and self.differs())

    def waits(self, now: float) -> bool:
        """Tell whether it differs, and has been drawn too often to be drawn again already."""
        return not self.awaited(now) and self.refilled(now) < 1 and self.differs()


@dataclass(slots=True)
class _Tab:
    asked_at: float
    """When its browser asked for something last, and not we."""
    wished_at: float = 0.0
    """When we asked last: who has waited longest is next."""
    fragments: dict[str, _Drawn] = field(default_factory=dict)

    def wish(self, fragments: Sequence[str], now: float) -> None:
        """Note that we ask for fragments: before we do, for they may be drawn before we hear that they begin."""
        self.wished_at = now
        for fragment in fragments:
            self.fragments[fragment].wished_at = now

    def awaited(self, now: float) -> bool:
        """Tell whether it is being drawn; one that takes long is not waited for by others."""
        asked = now - self.wished_at < _PATIENCE_SECONDS
        return asked and any(each.awaited(now) for each in self.fragments.values())


class Redrawing:
    """The fragments of all open tabs. Safe to use from every thread, but for `run`."""

    def __init__(self, draw: Draw, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.works = True
        """Whether tabs can be drawn from here; while they cannot, each fragment needs a timer."""
        self._draw = draw
        self._clock = clock
        self._lock = threading.Lock()
        self._tabs: dict[str, _Tab] = {}
        self._news = asyncio.Event()
        self._waits = False
        """Whether something that is due could not be drawn at once."""

    def changed(self) -> None:
        """Note that some picture is another; called in the loop of `run`."""
        self._news.set()

    def drawn(self, place: Place, differs: Callable[[], bool], seconds: float) -> None:
        """Note that a fragment has just been drawn.

        It is drawn again when ``differs`` says that it would show something else, over a busy time not more often than
        each ``seconds``; and when it is old.
        """
        now = self._clock()
        with self._lock:
            tab = self._tabs.setdefault(place.session, _Tab(now))
            before = tab.fragments.get(place.fragment)
            if before is None or before.wished_at is None:
                tab.asked_at = now
            left = before.refilled(now) if before is not None else _AT_ONCE
            tab.fragments[place.fragment] = _Drawn(differs, seconds, left - 1, now)

    def forget(self, place: Place) -> None:
        """Leave a fragment to its timer, or alone when it has none."""
        with self._lock:
            if (tab := self._tabs.get(place.session)) is not None:
                tab.fragments.pop(place.fragment, None)

    def due(self) -> Mapping[str, Sequence[str]]:
        """Return the fragments that should be drawn now, session by session; `said` is to be called with what became of it."""
        now = self._clock()
        found: dict[str, list[str]] = {}
        with self._lock:
            self._tabs = {
                id_: tab for id_, tab in self._tabs.items() if now - tab.asked_at <= _FORGOTTEN_SECONDS
            }
            seen = [(id_, tab) for id_, tab in self._tabs.items() if now - tab.asked_at <= _UNSEEN_SECONDS]
            free = _MOST_TABS - sum(tab.awaited(now) for _, tab in seen)
            self._waits = free < _MOST_TABS
            for session, tab in sorted(seen, key=lambda each: each[1].wished_at):
                due = [fragment for fragment, each in tab.fragments.items() if each.due(now)]
                if due and len(found) < free:
                    found[session] = due
                    tab.wish(due, now)
                self._waits |= bool(due) or any(each.waits(now) for each in tab.fragments.values())
        return found

    def said(self, asked: Mapping[str, Sequence[str]], told: Mapping[str, Said]) -> None:
        """Take what became of the wish to draw what was due."""
        with self._lock:
            for session, fragments in asked.items():
                known = tab.fragments if (tab := self._tabs.get(session)) is not None else {}
                for fragment in fragments:
                    if told[session] is Said.GONE:
                        known.pop(fragment, None)
                    elif told[session] is Said.BUSY and fragment in known:
                        known[fragment].wished_at = None

    async def run(self) -> None:
        """Draw what is due, until cancelled. What fails is logged once; then fragments are left to their timers."""
        while True:
            due: Mapping[str, Sequence[str]] = {}
            try:
                if due := self.due():
                    async with asyncio.timeout(_AGAIN_SECONDS):
                        self.said(due, await self._draw(due))
                    self.works = True
            except Exception:  # noqa: BLE001 - the top of this task: whatever fails, pages go on by their timers
                self.said(due, dict.fromkeys(due, Said.BUSY))
                if self.works:
                    _log.exception(
                        "tabs cannot be drawn from here; what is new waits for the browser's timers"
                    )
                self.works = False
                await asyncio.sleep(_AGAIN_SECONDS)
            await asyncio.sleep(_SOON_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(_SOON_SECONDS if self._waits else _LOOK_SECONDS):
                    await self._news.wait()
            self._news.clear()
