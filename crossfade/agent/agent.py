"""The agent's loop: register, take, run, report. Live, as a client of the monitoring stream; by polling whatever that does.

Whether a command is taken, and that it is taken once, the database decides. The agent's part is to write down what it
begins before it begins it, never to begin one twice, and to say how each ended, after its own restart too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from crossfade.agent.journal import Entry, Journal, JournalUnusable
from crossfade.agent.running import Ended, Running
from crossfade.client import Client
from crossfade.control_client import ControlClient, ControlFailed
from crossfade.errors import CrossfadeError
from monitoring.commands import CommandState, InvalidParameters, Offer
from monitoring.errors import MonitoringError
from monitoring.events import Event

POLL_SECONDS = 5.0
"""How often commands are asked for even if no event says that there are any. The heartbeat, too."""
MOST_AT_ONCE = 4
_AGAIN_SECONDS = 1.0
_PROGRESS_SECONDS = 0.5
"""Progress is told at most this often."""
_FENCED = 409
_REMEMBERED_COMMANDS = 10_000
_TOPIC = "categories.commands"

log = logging.getLogger(__name__)


class AgentFenced(CrossfadeError):  # noqa: N818 - named for what it is
    """Another process has registered as this agent."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the agent is, and what it may run."""

    name: str
    version: str
    offers: Mapping[str, Offer]


@dataclass(slots=True)
class _UnderWay:
    task: asyncio.Task[None]
    running: Running | None = None
    told: asyncio.Event = field(default_factory=asyncio.Event)
    progress: tuple[float, str] | None = None


class Agent:
    """One life of an agent; `run` it until cancelled.

    ``watch`` returns a client of the monitoring stream; it may fail as it likes, which costs a few seconds a command.
    """

    def __init__(
        self,
        identity: Identity,
        control: ControlClient,
        journal: Journal,
        watch: Callable[[], Client] | None = None,
    ) -> None:
        self._identity = identity
        self._control = control
        self._journal = journal
        self._watch = watch
        self._instance = uuid4()
        self._wake = asyncio.Event()
        self._under_way: dict[UUID, _UnderWay] = {}
        self._seen: dict[UUID, None] = {}
        """What this life was given, the newest of it: none of it is begun again."""
        self._stopping = False
        self.live = False
        """Whether commands are pushed at this moment."""

    async def run(self) -> None:
        """Register, then carry out commands until it is stopped; raises AgentFenced, or ControlFailed when refused."""
        await self._report_what_was_left()
        await self._register()
        async with asyncio.TaskGroup() as group:
            listening = None
            if self._watch is not None:
                listening = group.create_task(self._listen(self._watch), name="push")
            await self._take(group)
            if listening is not None:
                listening.cancel()
            for each in self._under_way.values():
                if each.running is not None:
                    each.running.cancel("its agent was stopped")

    def stop(self) -> None:
        """Have `run` return once what is under way has been ended, and that has been told."""
        self._stopping = True
        self._wake.set()

    async def _report_what_was_left(self) -> None:
        """Tell of ends that an earlier life could not tell. What it had not seen the end of, registering makes lost."""
        for entry in list(self._journal.entries()):
            if entry.ended is not None:
                log.info("command %s had ended (%s) and is told now", entry.command, entry.ended.state)
                await self._report(entry)
            else:
                log.warning("command %s was under way when the agent ended; it is lost", entry.command)
            self._journal.forget(entry.command)

    async def _register(self) -> None:
        body = {
            "instance": str(self._instance),
            "version": self._identity.version,
            "offers": {name: offer.to_json() for name, offer in self._identity.offers.items()},
        }
        told = await self._until_answered(f"/api/agents/{self._identity.name}/register", body)
        lost = f"; {told['lost']} of an earlier life are lost" if told["lost"] else ""
        log.info(
            "agent %s is registered, and may run %d commands%s",
            self._identity.name,
            len(self._identity.offers),
            lost,
        )

    async def _take(self, group: asyncio.TaskGroup) -> None:
        away = False
        while not self._stopping:
            self._wake.clear()
            try:
                told = await self._poll()
            except ControlFailed as error:
                if error.status == _FENCED:
                    raise AgentFenced(str(error)) from error
                if not error.again:
                    raise
                if not away:
                    log.warning("%s; it is tried again", error)
                away = True
            else:
                if away:
                    log.info("the control service answers again")
                away = False
                self._begin(group, told)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_SECONDS if away else POLL_SECONDS):
                    await self._wake.wait()
            if away and not self._stopping:
                await asyncio.sleep(_AGAIN_SECONDS)  # however often it is woken

    async def _poll(self) -> Any:
        have = list(self._under_way)
        body = {
            "instance": str(self._instance),
            "have": [str(each) for each in have],
            "most": max(0, MOST_AT_ONCE - len(have)),
        }
        return await self._control.post(f"/api/agents/{self._identity.name}/poll", body)

    def _begin(self, group: asyncio.TaskGroup, told: Mapping[str, Any]) -> None:
        for command in told["commands"]:
            id_ = UUID(command["id"])
            if id_ not in self._seen:
                self._seen[id_] = None
                if len(self._seen) > _REMEMBERED_COMMANDS:
                    del self._seen[next(iter(self._seen))]
                task = group.create_task(self._carry_out(id_, command), name=f"command {id_}")
                self._under_way[id_] = _UnderWay(task)
        for text in told["cancel"]:
            under_way = self._under_way.get(UUID(text))
            if under_way is not None and under_way.running is not None:
                under_way.running.cancel()

    async def _carry_out(self, id_: UUID, command: Mapping[str, Any]) -> None:
        name = str(command["command"])
        try:
            ended = await self._run(id_, name, command)
            log.info("command %s (%s): %s %s", id_, name, ended.state, ended.message)
            with contextlib.suppress(JournalUnusable):  # then only a restart before it is told would lose it
                self._journal.end(id_, self._instance, ended)
            await self._report(Entry(id_, self._instance, ended))
            self._journal.forget(id_)
        finally:
            self._under_way.pop(id_, None)
            self._wake.set()  # there is room for another

    async def _run(self, id_: UUID, name: str, command: Mapping[str, Any]) -> Ended:
        """Run one command; what may not be run is refused, whatever the service has let through."""
        offer = self._identity.offers.get(name)
        if offer is None:
            return Ended(CommandState.REFUSED, f"this agent may not run {name}", None, "")
        try:
            arguments = offer.arguments(command["parameters"])
        except InvalidParameters as error:
            return Ended(CommandState.REFUSED, str(error)[:500], None, "")
        try:
            self._journal.begin(id_, self._instance)
        except JournalUnusable as error:
            return Ended(CommandState.REFUSED, str(error)[:500], None, "")
        under_way = self._under_way[id_]

        def progress(percent: float, text: str) -> None:
            under_way.progress = (percent, text)
            under_way.told.set()

        seconds = min(float(command["timeout_seconds"]), offer.timeout_seconds)
        under_way.running = Running(arguments, seconds, progress)
        log.info("command %s: %s for %s", id_, name, command["submitted_by"])
        telling = asyncio.ensure_future(self._tell_progress(id_, under_way))  # owned: ended below
        try:
            return await under_way.running.run()
        finally:
            telling.cancel()
            await asyncio.wait({telling})

    async def _tell_progress(self, id_: UUID, under_way: _UnderWay) -> None:
        while True:
            percent, text = under_way.progress or (None, None)
            body = {"instance": str(self._instance), "state": "running", "progress": percent, "message": text}
            try:
                told = await self._control.post(self._path(id_), body)
                if told["cancel_asked_at"] is not None and under_way.running is not None:
                    under_way.running.cancel()
            except ControlFailed as error:
                log.debug("progress of %s is not told: %s", id_, error)
            await asyncio.sleep(_PROGRESS_SECONDS)
            await under_way.told.wait()
            under_way.told.clear()

    async def _report(self, entry: Entry) -> None:
        """Tell how a command ended, for as long as it takes to be heard."""
        ended = entry.ended
        assert ended is not None  # noqa: S101 - only what has ended is told
        body = {
            "instance": str(entry.instance),
            "state": str(ended.state),
            "message": ended.message,
            "exit_code": ended.exit_code,
            "output": ended.output,
        }
        try:
            await self._until_answered(self._path(entry.command), body)
        except ControlFailed as error:
            log.error("the end of command %s is not accepted: %s", entry.command, error)  # noqa: TRY400 - a line

    def _path(self, id_: UUID) -> str:
        return f"/api/agents/{self._identity.name}/commands/{id_}"

    async def _until_answered(self, path: str, body: Mapping[str, Any]) -> Any:
        """Ask until there is an answer; raises ControlFailed for one that will not change."""
        said = ""
        while True:
            try:
                return await self._control.post(path, body)
            except ControlFailed as error:
                if not error.again:
                    raise
                if str(error) != said:
                    log.warning("%s; it is tried again", error)
                said = str(error)
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _listen(self, watch: Callable[[], Client]) -> None:
        """Wake for every event about this agent's commands; without push the polling goes on alone."""
        said = ""
        while True:
            try:
                async for event in _events(watch):
                    if not self.live:
                        log.info("commands are pushed")
                    self.live, said = True, ""
                    if event is None or self._concerns(event):
                        self._wake.set()
            except (MonitoringError, CrossfadeError, OSError) as error:
                if str(error) != said:
                    log.warning("commands are not pushed, only polled for: %s", error)
                said = str(error)
            self.live = False
            await asyncio.sleep(POLL_SECONDS)

    def _concerns(self, event: Event) -> bool:
        """Tell whether there is something to take or to end; what the agent tells of itself is no news to it."""
        told = event.payload
        asked = told.get("state") == CommandState.QUEUED or bool(told.get("cancel_asked_by"))
        return asked and told.get("agent") == self._identity.name


async def _events(watch: Callable[[], Client]) -> AsyncIterator[Event | None]:
    """Yield None once the feed is live, then every event about commands."""
    async with watch() as client, client.subscribe(_TOPIC) as events:
        await events.wait_live()
        yield None
        async for event in events:
            if isinstance(event, Event):
                yield event
