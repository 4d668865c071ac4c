"""The supervisor: keeps parts running, in order, until it is told to stop.

Each part is kept by a task of its own. It waits for the parts it comes after, starts its process, waits until that is
ready, and starts it again when it ends. To stop, every part waits until the parts that come after it have ended.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from crossfade.errors import CrossfadeError, PartFailed
from crossfade.supervisor.logfile import LogFile
from crossfade.supervisor.model import (
    BecameReady,
    Begun,
    Ended,
    GaveUp,
    Happening,
    Part,
    RestartPolicy,
    Spawned,
    State,
    StopAsked,
    Stopped,
    step,
)
from crossfade.supervisor.process import Command, Process

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from crossfade.supervisor.probes import Probe

_PROBE_PAUSE_SECONDS = 0.05
_DONE_WITH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Service:
    """A part that runs for as long as we do, as a process of its own."""

    name: str
    command: Callable[[], Command]
    """Asked before each start."""
    probe: Probe
    after: tuple[str, ...] = ()
    prepare: Callable[[], Awaitable[None]] | None = None
    """Done before each start."""
    address: str = ""
    essential: bool = False
    """Nothing makes sense without it: when it cannot be started at first, everything ends."""
    start_seconds: float = 30.0
    stop_seconds: float = 8.0
    done_with: Callable[[], bool] = lambda: False
    """Asked every second: once it is true, the part is stopped for good, and nothing waits for it any more."""


@dataclass(frozen=True, slots=True)
class Step:
    """A part that is done once, by ourselves; its failure ends everything."""

    name: str
    run: Callable[[], Awaitable[str]]
    """Returns a few words on what it did; raises when it failed."""
    after: tuple[str, ...] = ()
    address: str = ""


Spec = Service | Step


@dataclass(frozen=True, slots=True)
class View:
    """A part as others see it."""

    part: Part
    address: str
    log: Path
    last_line: str

    def to_json(self, now: float) -> dict[str, Any]:
        """Return its form in ``state.json``."""
        return {
            "name": self.part.name,
            "state": self.part.state,
            "seconds": round(now - self.part.since, 1),
            "address": self.address,
            "pid": self.part.pid,
            "restarts": self.part.restarts,
            "crash_loop": self.part.crash_loop,
            "detail": self.part.describe(),
            "last_line": self.last_line,
            "log": str(self.log),
        }


class Supervisor:
    """Runs parts; ``views`` says at any time how they are.

    ``environment`` is added to that of every part, which is told its name besides. ``on_change`` is called after each change of any part's state, in the event loop; it must not block.
    """

    def __init__(
        self,
        specs: Sequence[Spec],
        *,
        logs: Path,
        environment: Mapping[str, str] | None = None,
        on_change: Callable[[Part], None] = lambda _: None,
        policy: RestartPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        names = [spec.name for spec in specs]
        # A part that is left out is somebody else's business: what comes after it does not wait for it.
        self._specs: Sequence[Spec] = [
            replace(spec, after=tuple(name for name in spec.after if name in names)) for spec in specs
        ]
        self._policy = policy or RestartPolicy()
        self._clock = clock
        self._on_change = on_change
        self._environment = dict(environment or {})
        self._parts = {name: Part(name, since=clock()) for name in names}
        self._logs = {name: LogFile(logs / f"{name}.log") for name in names}
        self._ready_once = {name: asyncio.Event() for name in names}
        self._over = {name: asyncio.Event() for name in names}
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._failure: PartFailed | None = None

    @property
    def views(self) -> list[View]:
        """The parts as they are now, in their order."""
        return [
            View(
                self._parts[spec.name],
                spec.address,
                self._logs[spec.name].path,
                self._logs[spec.name].last_line,
            )
            for spec in self._specs
        ]

    @property
    def all_ready(self) -> bool:
        """Whether every part is ready."""
        return all(part.state is State.READY for part in self._parts.values())

    @property
    def stopping(self) -> bool:
        """Whether it has been told to stop."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Stop everything in order; a second call ends everything at once."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def wait_ready(self) -> None:
        """Wait until every part has been ready once, or the supervisor stops."""
        await _first(_all(self._ready_once.values()), self._stop.wait())

    async def run(self) -> None:
        """Run the parts until ``stop``; raises PartFailed when one that everything needs cannot be started.

        When it returns, or is cancelled, no process of its parts is left.
        """
        async with asyncio.TaskGroup() as group:
            for spec in self._specs:
                group.create_task(self._keep(spec), name=f"part {spec.name}")
        if self._failure:
            raise self._failure

    async def _keep(self, spec: Spec) -> None:
        """Keep one part for as long as the supervisor runs."""
        try:
            await _first(_all(self._ready_once[name] for name in spec.after), self._stop.wait())
            if isinstance(spec, Service) and not self.stopping and spec.done_with():
                self._dismiss(spec)
            while not self.stopping and not self._parts[spec.name].over:
                self._tell(spec, Begun())
                await (self._live(spec) if isinstance(spec, Service) else self._do(spec))
                retry_at = self._parts[spec.name].retry_at
                pause = None if retry_at is None else retry_at - self._clock()
                await _first(self._stop.wait(), timeout=pause)
            if not self._parts[spec.name].over:
                self._tell(spec, StopAsked())
                self._tell(spec, Stopped())
        finally:
            self._over[spec.name].set()

    async def _do(self, spec: Step) -> None:
        """Do a step, or give it up when everything is to stop."""
        details: list[str] = []

        async def done() -> None:
            details.append(await spec.run())

        try:
            await _first(done(), self._stop.wait())
        except Exception as error:  # noqa: BLE001 - the top of a part's task: whatever went wrong is the part's failure
            self._give_up(spec, _sentence(error))
            return
        if details:
            self._tell(spec, BecameReady(details[0]))
            self._ready_once[spec.name].set()

    async def _live(self, spec: Service) -> None:
        """Live one life of a service: from its start to its end."""
        log = self._logs[spec.name]
        log.forget()
        try:
            if spec.prepare and await _first(spec.prepare(), self._stop.wait()) == _STOP:
                return
            told = {**self._environment, "CROSSFADE_PART": spec.name}
            command = spec.command()
            process = await Process.start(replace(command, environment={**told, **command.environment}), log)
        except Exception as error:  # noqa: BLE001 - as above
            self._end(spec, _sentence(error), hopeless=isinstance(error, CrossfadeError))
            return
        try:
            self._tell(spec, Spawned(process.pid))
            waiting = _Wait()
            first = await _first(
                process.wait(),
                self._stop.wait(),
                self._until_ready(spec, waiting),
                timeout=spec.start_seconds,
            )
            if first == _READY:
                self._tell(spec, BecameReady(waiting.detail))
                self._ready_once[spec.name].set()
                first = await _first(process.wait(), self._stop.wait(), self._until_done_with(spec))
                if first == _DONE_WITH:
                    self._tell(spec, StopAsked())
                    await process.stop(spec.stop_seconds, self._hurry)
                    self._tell(spec, Stopped())
                    return
            if first == _STOP:
                self._tell(spec, StopAsked())
                followers = [self._over[other.name] for other in self._specs if spec.name in other.after]
                await _first(_all(followers), self._hurry.wait())
                await process.stop(spec.stop_seconds, self._hurry)
                self._tell(spec, Stopped())
            elif first == _EXIT:
                how = await process.wait()
                self._end(spec, f"{how}; {log.last_line}" if log.last_line else how)
            else:
                await process.stop(spec.stop_seconds, self._hurry)
                self._end(spec, f"not ready after {spec.start_seconds:g} s: {waiting.reason}")
        finally:
            # Only when this task is cancelled, or a change listener failed, is it still alive here.
            at_once = asyncio.Event()
            at_once.set()
            await process.stop(0, at_once)

    def _dismiss(self, spec: Service) -> None:
        """Leave a part that nobody needs any more where it is: nothing waits for it."""
        self._tell(spec, StopAsked())
        self._tell(spec, Stopped())
        self._ready_once[spec.name].set()

    async def _until_done_with(self, spec: Service) -> None:
        while not spec.done_with():  # noqa: ASYNC110 - asked of a file
            await asyncio.sleep(_DONE_WITH_SECONDS)

    async def _until_ready(self, spec: Service, waiting: _Wait) -> None:
        """Probe until the part is ready."""
        while True:
            try:
                waiting.detail = await spec.probe()
            except Exception as error:  # noqa: BLE001 - a probe asks foreign code; whatever it raises means "not yet"
                waiting.reason = _sentence(error)
            else:
                return
            await asyncio.sleep(_PROBE_PAUSE_SECONDS)

    def _end(self, spec: Service, reason: str, *, hopeless: bool = False) -> None:
        """Note that a life ended by itself, and decide whether there will be another."""
        if self.stopping:
            return
        part = self._tell(spec, Ended(reason))
        if spec.essential and not part.ever_ready and (hopeless or part.crash_loop):
            self._give_up(spec, part.describe())

    def _give_up(self, spec: Spec, reason: str) -> None:
        """Note that a part everything needs cannot be started, and stop the others."""
        self._tell(spec, GaveUp(reason))
        log = self._logs[spec.name].path
        where = f"; see {log}" if isinstance(spec, Service) and log.exists() else ""
        self._failure = self._failure or PartFailed(spec.name, f"{reason}{where}")
        self._stop.set()

    def _tell(self, spec: Spec, happening: Happening) -> Part:
        part = step(self._parts[spec.name], happening, self._clock(), self._policy)
        self._parts[spec.name] = part
        self._on_change(part)
        return part


_EXIT, _STOP, _READY = range(3)
_DONE_WITH = _READY
"""The third of what a part that is ready is waited for with."""


@dataclass(slots=True)
class _Wait:
    """What probes said last."""

    reason: str = "no answer"
    detail: str = ""


async def _all(events: Iterable[asyncio.Event]) -> None:
    """Wait for every event."""
    for event in events:
        await event.wait()


async def _first(*awaitables: Awaitable[object], timeout: float | None = None) -> int | None:  # noqa: ASYNC109 - passed on to asyncio.wait
    """Return the index of the first that is done (of several, the lowest), None after the timeout.

    The others are cancelled and awaited; an exception of the first one is raised.
    """
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        done, _ = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    index = next((index for index, task in enumerate(tasks) if task in done), None)
    if index is not None:
        tasks[index].result()
    return index


def _sentence(error: BaseException) -> str:
    """Return an error as one line."""
    text = " ".join(str(error).split())
    return text or type(error).__name__
