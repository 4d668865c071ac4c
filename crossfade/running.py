"""One run of ``crossfade up``: lock, addresses, supervisor, state file, signals; what is shown is the display's business."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from crossfade import logs, packaged
from crossfade.addresses import require_free
from crossfade.foreign import foreign_server
from crossfade.locks import hold
from crossfade.parts import build
from crossfade.paths import unusable, write_json
from crossfade.supervisor.supervisor import Supervisor
from monitoring.events import format_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crossfade.plan import Plan
    from crossfade.supervisor.model import Part
    from crossfade.supervisor.supervisor import View

_REFRESH_SECONDS = 0.5
_STATE_SECONDS = 1.0


class Display(Protocol):
    """Shows a run to a person."""

    def begun(self, plan: Plan) -> None:
        """Show what is about to start."""

    def changed(self, part: Part) -> None:
        """Show that a part came to another state."""

    def ready(self, plan: Plan) -> None:
        """Show that everything is ready, and what to do next."""

    def refresh(self, plan: Plan, views: Sequence[View]) -> None:
        """Show the parts as they are now; called twice a second."""

    def stopping(self, reason: str) -> None:
        """Show that everything is being stopped, and why."""


def run(plan: Plan, display: Display, *, what: str = "crossfade up", seconds: float | None = None) -> None:
    """Run a plan until it is told to stop, or for some seconds.

    Raises DataDirError, AlreadyRunning, PortTaken, UsageError before anything is started, and PartFailed.
    """
    plan.data.create()
    option = plan.data.option
    hint = f"look at it with crossfade status{option}, stop it with crossfade stop{option}, or choose another --data-dir"
    with hold(plan.data, what, hint):
        for listener in plan.addresses.listeners(plan.parts):
            require_free(listener)
        try:
            ensure_files(plan)
        except OSError as error:
            raise unusable(plan.data.root, error) from error
        asyncio.run(_Run(plan, display, what).run(seconds))


def ensure_files(plan: Plan) -> None:
    """Give a place without a flag or rule file the one to begin with; the file is its owner's from then on."""
    for path, default in ((plan.flags, packaged.default_flags), (plan.alerts, packaged.default_alerts)):
        if not path.exists() and path.parent == plan.data.root:
            shutil.copyfile(default(), path)


class _Run:
    """The tasks of one run."""

    def __init__(self, plan: Plan, display: Display, what: str) -> None:
        self._plan = plan
        self._display = display
        self._what = what
        self._started_at = datetime.now(UTC)
        self._supervisor = Supervisor(
            build(plan),
            logs=plan.data.logs,
            environment={logs.FORMAT: plan.settings.log_format},
            on_change=self._changed,
        )
        self._news = asyncio.Event()

    async def run(self, seconds: float | None) -> None:
        """Run until the supervisor ends."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._signalled, number)
        self._display.begun(self._plan)
        side = [
            asyncio.ensure_future(task)  # owned: cancelled and awaited below
            for task in (self._write_states(), self._show(), self._welcome(), self._expire(seconds))
        ]
        try:
            await self._supervisor.run()
        finally:
            for task in side:
                task.cancel()
            results = await asyncio.gather(*side, return_exceptions=True)
            self._write_state()
        for result in results:
            if isinstance(result, Exception):
                raise result

    def _signalled(self, number: signal.Signals) -> None:
        if number is signal.SIGHUP and self._supervisor.stopping:
            return  # a closing terminal may say so twice; only a person asks to hurry
        self._display.stopping(
            "again: ending everything at once" if self._supervisor.stopping else number.name
        )
        self._supervisor.stop()

    def _changed(self, part: Part) -> None:
        self._display.changed(part)
        self._news.set()

    async def _write_states(self) -> None:
        while True:
            self._news.clear()
            self._write_state()
            try:
                async with asyncio.timeout(_STATE_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                pass  # so that its age shows that we are alive

    def _write_state(self) -> None:
        try:
            write_json(self._plan.data.state, self._state())
        except OSError:
            return  # a full disk must not end what still works; status sees that the file is old

    def _state(self) -> dict[str, Any]:
        now = time.monotonic()
        return {
            "pid": os.getpid(),
            "command": self._what,
            "started_at": format_time(self._started_at),
            "updated_at": format_time(datetime.now(UTC)),
            "hosted": self._plan.hosted,
            "addresses": self._plan.addresses.to_json(),
            "flags": str(self._plan.flags),
            "alerts": str(self._plan.alerts),
            "foreign": foreign.to_json() if (foreign := foreign_server(self._plan.settings)) else None,
            "parts": [view.to_json(now) for view in self._supervisor.views],
        }

    async def _show(self) -> None:
        while True:
            self._display.refresh(self._plan, self._supervisor.views)
            await asyncio.sleep(_REFRESH_SECONDS)

    async def _welcome(self) -> None:
        await self._supervisor.wait_ready()
        if not self._supervisor.stopping:
            self._display.ready(self._plan)

    async def _expire(self, seconds: float | None) -> None:
        if seconds is not None:
            await asyncio.sleep(seconds)
            if not self._supervisor.stopping:
                self._display.stopping(f"{seconds:g} s are over")
                self._supervisor.stop()
