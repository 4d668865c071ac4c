"""All viewers of this process: a thread with one loop that follows for each of them, and reads the reports for all.

A viewer is a client of its own, and looked through by any number of tabs. It is followed from when somebody looks until
nobody has for a while: a tab that is closed says nothing, and one in the background may look once a minute.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from dashboard import reports
from dashboard.comparison import comparison
from dashboard.hub import Hub, Seed
from dashboard.identity import Viewer
from dashboard.made_once import MadeOnce
from dashboard.redrawing import Draw, Redrawing
from dashboard.sources import Sources
from dashboard.system import system

_log = logging.getLogger(__name__)

LINGER_SECONDS = 90.0
"""How long a viewer is followed after somebody looked last: browsers wake a hidden tab once a minute."""
_REPORT_SECONDS = 1.0
_CLOSE_SECONDS = 10.0
_RETRY_SECONDS = 1.0


class Viewers:
    """Follows for every viewer until `close`. The thread begins with `start`.

    ``redraw`` draws fragments of open tabs; without it tabs have only their timers.
    """

    def __init__(
        self,
        sources: Sources,
        *,
        redraw: Draw | None = None,
        linger_seconds: float = LINGER_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._sources = sources
        self._linger_seconds = linger_seconds
        self._now = now
        self._made = MadeOnce()
        self._redrawing = Redrawing(redraw) if redraw is not None else None
        self._known: weakref.WeakValueDictionary[Viewer, Hub] = weakref.WeakValueDictionary()
        """Those that are followed, or that a tab still holds."""
        self._knowing = threading.Lock()
        self._followed: dict[Hub, asyncio.Task[None]] = {}
        self._told: dict[str, Any] = {}
        self._problem: str | None = None
        self._look = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dashboard-viewers", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def hub(self, viewer: Viewer) -> Hub:
        """Return a viewer's hub; the same to every tab that looks through it."""
        with self._knowing:
            hub = self._known.get(viewer)
            if hub is None:
                hub = Hub(
                    viewer,
                    self._sources,
                    self._made,
                    wanted=self._want,
                    redrawing=self._redrawing,
                    seed=self._seed,
                    now=self._now,
                )
                self._known[viewer] = hub
        hub.latest()
        return hub

    def close(self) -> None:
        """End the thread and close every service; safe to call twice, and from any other thread."""
        if self._thread.ident is None:
            return
        self._begun.wait(_CLOSE_SECONDS)
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None and self._thread.is_alive():
            loop.call_soon_threadsafe(stop.set)
        self._thread.join(_CLOSE_SECONDS)

    # In the thread of whoever looks

    def _want(self, hub: Hub) -> None:
        """Have a hub followed, if there is a loop by now; otherwise the loop begins with it."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._follow, hub)

    # In the loop

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._begun.set()
        beside = [self._read_reports(), self._let_rest(), *([self._serve()] if self._sources.run else [])]
        if self._redrawing is not None:
            beside.append(self._redrawing.run())
        with self._knowing:
            waiting = list(self._known.values())
        for hub in waiting:
            self._follow(hub)
        del waiting
        tasks = [asyncio.ensure_future(each) for each in beside]  # owned: ended below
        try:
            await self._stop.wait()
        finally:
            self._stop.set()
            await _ended(self._followed.values())
            await _ended(tasks)

    def _follow(self, hub: Hub) -> None:
        if hub.following or self._stop is None or self._stop.is_set():
            return
        hub.following = True
        if self._told:
            hub.report(self._told, self._problem)
        self._followed[hub] = asyncio.ensure_future(hub.follow())  # owned: ended by `_let_rest` or `_main`
        self._look.set()

    def _seed(self, hub: Hub) -> Seed | None:
        """Return where another viewer of the same role stands."""
        for each in self._followed:
            if (
                each is not hub
                and each.viewer.role == hub.viewer.role
                and (seed := each.stands()) is not None
            ):
                return seed
        return None

    async def _serve(self) -> None:
        """Run what has to run beside; it ends only when the loop does."""
        run: Callable[[], Coroutine[Any, Any, None]] | None = self._sources.run
        while run is not None:
            try:
                await run()
            except Exception:  # noqa: BLE001 - a task's top: viewers wait for it
                _log.exception("what the dashboard's viewers share has failed; trying again")
            await asyncio.sleep(_RETRY_SECONDS)

    async def _let_rest(self) -> None:
        """Follow no longer where nobody has looked for a while."""
        while True:
            await asyncio.sleep(min(_RETRY_SECONDS, self._linger_seconds))
            latest = time.monotonic() - self._linger_seconds
            for hub in [each for each in self._followed if each.looked_at < latest]:
                await _ended([self._followed.pop(hub)])
                hub.rest()
                hub.following = False  # from here on whoever looks has it followed again

    async def _read_reports(self) -> None:
        said = ""
        while True:
            if self._followed:
                try:
                    found, self._problem = await asyncio.to_thread(self._reports)
                    self._told = {
                        name: known if (known := self._told.get(name)) == value else value
                        for name, value in found.items()
                    }
                    for hub in self._followed:
                        hub.report(self._told, self._problem)
                    said = ""
                except Exception as error:  # noqa: BLE001 - a task's top: one bad report must not end the feed
                    if said != str(error):
                        _log.exception("the reports of the other parts cannot be read: %s", error)
                    said = str(error)
            self._look.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_REPORT_SECONDS):
                    await self._look.wait()

    def _reports(self) -> tuple[dict[str, Any], str | None]:
        flags, problem = self._sources.flags()
        collect, parity = self._sources.collect(), self._sources.parity()
        return {
            "flags": flags,
            "comparison": comparison(parity),
            "parity": reports.parity(parity),
            "system": system(self._sources.processes(), collect),
            "docker_note": reports.docker_note(collect),
        }, problem


async def _ended(tasks: Any) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in (ending := list(tasks)):
        task.cancel()
    if ending:
        await asyncio.wait(ending)
