"""When the fragments of open tabs are drawn again: as soon as what they show is another, and now and then in any case.

Left to itself Streamlit draws a fragment when the browser's timer says so: then the timers have to be fast, and still each
change waits for one. Here they are slow. They remain for what grows old by itself, and they tell a tab that somebody may
look at from one that is hidden, asleep or gone. Which fragments are due is decided here; `dashboard.tabs` draws them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

HEARTBEAT_SECONDS = 5.0
"""Of the browser's timers."""
_UNSEEN_SECONDS = 3 * HEARTBEAT_SECONDS
"""After which a tab whose browser has not asked is left alone: browsers wake a hidden one once a minute."""
_FORGOTTEN_SECONDS = 300.0
_LOOK_SECONDS = 0.1
_AT_ONCE = 2.0
"""Drawings of a fragment that may follow each other at once; after them there is one each interval of its own."""
_AGAIN_SECONDS = 5.0

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
    asked_at: float
    """When the browser asked for it last, and not we."""
    left: float
    """Drawings that it may have now, at most `_AT_ONCE`."""
    at: float
    ours: bool = False
    """Whether we ask for it, and it is not drawn yet."""

    def refilled(self, now: float) -> float:
        return min(_AT_ONCE, self.left + (now - self.at) / self.seconds)


class Redrawing:
    """The fragments of all open tabs. Safe to use from every thread, but for `run`."""

    def __init__(self, draw: Draw, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._draw = draw
        self._clock = clock
        self._lock = threading.Lock()
        self._drawn: dict[Place, _Drawn] = {}

    def drawn(self, place: Place, differs: Callable[[], bool], seconds: float) -> None:
        """Note that a fragment has just been drawn.

        It is drawn again when ``differs`` says that it would show something else, over a busy time not more often than
        each ``seconds``.
        """
        now = self._clock()
        with self._lock:
            before = self._drawn.get(place)
            left = before.refilled(now) if before else _AT_ONCE
            asked_at = before.asked_at if before and before.ours else now
            self._drawn[place] = _Drawn(differs, seconds, asked_at, left - 1, now)

    def forget(self, place: Place) -> None:
        """Leave a fragment to its timer, or alone when it has none."""
        with self._lock:
            self._drawn.pop(place, None)

    def due(self) -> Mapping[str, Sequence[str]]:
        """Return the fragments that should be drawn now, session by session; `said` is to be called with what became of it."""
        now = self._clock()
        found: dict[str, list[str]] = {}
        with self._lock:
            for place in [at for at, each in self._drawn.items() if now - each.asked_at > _FORGOTTEN_SECONDS]:
                del self._drawn[place]
            for place, each in self._drawn.items():
                looked_at = now - each.asked_at <= _UNSEEN_SECONDS
                if looked_at and not each.ours and each.refilled(now) >= 1 and each.differs():
                    each.ours = True  # it may be drawn before it is said to be begun
                    found.setdefault(place.session, []).append(place.fragment)
        return found

    def said(self, asked: Mapping[str, Sequence[str]], told: Mapping[str, Said]) -> None:
        """Take what became of the wish to draw what was due."""
        with self._lock:
            for session, fragments in asked.items():
                for place in (Place(session, fragment) for fragment in fragments):
                    if told[session] is Said.GONE:
                        self._drawn.pop(place, None)
                    elif told[session] is Said.BUSY and place in self._drawn:
                        self._drawn[place].ours = False

    async def run(self) -> None:
        """Draw what is due, until cancelled. What fails is logged once; the browser's timers go on meanwhile."""
        failed = False
        while True:
            due = self.due()
            try:
                if due:
                    self.said(due, await self._draw(due))
                failed = False
            except Exception:  # noqa: BLE001 - the top of this task: whatever fails, the timers go on
                self.said(due, dict.fromkeys(due, Said.BUSY))
                if not failed:
                    _log.exception(
                        "what is new waits for the browser's timers: tabs cannot be drawn from here"
                    )
                failed = True
            await asyncio.sleep(_AGAIN_SECONDS if failed else _LOOK_SECONDS)
