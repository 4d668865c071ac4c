"""Commands to the containers of an engine on this machine, each confirmed by the event it causes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from docker.errors import APIError, NotFound

from collectors.collector import CollectorError
from collectors.docker_connection import FOREIGN_ERRORS, Connect, Session, reason_of
from collectors.docker_log_lines import NotALog
from collectors.docker_log_reading import read_run, read_tail, refusal
from collectors.docker_state import parse_listing, short_id
from collectors.threads import Reader
from monitoring.control import (
    Command,
    CommandRefused,
    ContainerControl,
    ContainerSummary,
    EngineAway,
    NoSuchContainer,
    Outcome,
    Unconfirmed,
)
from monitoring.logs import LogLine, LogPlace

_EVENTS = ("start", "die", "died")  # the last is Podman's word for the filter
_CONFIRMED_BY = {Command.START: "start", Command.STOP: "die", Command.RESTART: "start"}
"""Podman tells ``restart`` before it has done it, so a restart is confirmed by its ``start`` everywhere."""
_EVENT_SECONDS = 10.0
"""How long after the grace period an event may take."""
_MOST_AT_ONCE = 8

T = TypeVar("T")


class DockerControl(ContainerControl):
    """Controls what ``connect`` connects to; one connection a command."""

    def __init__(self, device: str, connect: Connect, *, event_seconds: float = _EVENT_SECONDS) -> None:
        self._device = device
        self._connect = connect
        self._event_seconds = event_seconds
        self._questions = Reader("docker-control", limit=_MOST_AT_ONCE)
        self._pumps = Reader("docker-control-events", limit=_MOST_AT_ONCE)

    @property
    def device(self) -> str:
        """Whose containers these are."""
        return self._device

    async def containers(self) -> Sequence[ContainerSummary]:
        """Return all containers, by name."""
        client = await self._ask(self._connect)
        try:
            entries = await self._ask(lambda: client.containers(all=True), "list", "its containers")
        finally:
            client.close()
        details = {str(entry["Id"]): str(entry.get("Status") or "") for entry in entries}
        found = sorted(parse_listing(entries).values(), key=lambda one: one.name)
        return [
            ContainerSummary(short_id(one.id), one.name, one.image, one.status, one.health, details[one.id])
            for one in found
        ]

    async def command(self, command: Command, name: str, *, grace_seconds: int = 10) -> Outcome:
        """Carry out a command; see the port."""
        client = await self._ask(self._connect)
        try:
            detail = await self._inspect(client, name)
        finally:
            client.close()
        run = read_run(detail)
        known_as = str(detail.get("Name") or name).lstrip("/")
        if (command is Command.START and run.running) or (command is Command.STOP and not run.running):
            return self._outcome(command, known_as, detail, None)
        try:
            session = await Session.open(self._connect, self._questions, _EVENTS, run.id)
        except CollectorError as error:
            raise EngineAway(self._device, str(error)) from error
        pump = asyncio.ensure_future(self._pumps.call(session.events.pump(asyncio.get_running_loop())))
        try:
            at = await self._carry_out(session, command, run.id, known_as, grace_seconds)
            return self._outcome(command, known_as, await self._inspect(session.client, run.id), at)
        finally:
            session.close()
            pump.cancel()
            await asyncio.wait({pump})

    async def _carry_out(
        self, session: Session, command: Command, container_id: str, name: str, grace_seconds: int
    ) -> datetime:
        client = session.client
        doing: Mapping[Command, Callable[[], Any]] = {
            Command.START: lambda: client.start(container_id),
            Command.STOP: lambda: client.stop(container_id, timeout=grace_seconds),
            Command.RESTART: lambda: client.restart(container_id, timeout=grace_seconds),
        }
        seconds = grace_seconds + self._event_seconds
        try:
            async with asyncio.timeout(seconds):
                await self._questions.call(doing[command])
                return await _event(session, _CONFIRMED_BY[command])
        except TimeoutError:
            raise Unconfirmed(self._device, name, command, seconds) from None
        except APIError as error:
            raise CommandRefused(self._device, name, command, refusal(error)) from error
        except FOREIGN_ERRORS as error:
            raise Unconfirmed(self._device, name, command, seconds) from error

    def _outcome(
        self, command: Command, name: str, detail: Mapping[str, Any], at: datetime | None
    ) -> Outcome:
        state = detail.get("State") or {}
        run = read_run(detail)
        return Outcome(
            self._device,
            name,
            run.container,
            command,
            at is not None,
            str(state.get("Status") or ("running" if run.running else "exited")),
            None if run.running else run.exit_code,
            at,
        )

    async def logs(self, name: str, lines: int) -> Sequence[LogLine]:
        """Return the last lines of a container's log."""
        client = await self._ask(self._connect)
        try:
            run = read_run(await self._inspect(client, name))
            told = await self._ask(lambda: read_tail(client, run, lines), "read the log of", name)
        except NotALog as error:
            raise CommandRefused(self._device, name, "read the log of", str(error)) from error
        finally:
            client.close()
        reading = LogPlace(run.container).reread()
        read = [line for stamp, text in told if (line := reading.take(stamp, text)) is not None]
        return read[-lines:] if lines else []

    async def _inspect(self, client: Any, name: str) -> Mapping[str, Any]:
        detail: Mapping[str, Any] | None = await self._ask(
            lambda: _unless_missing(client, name), "inspect", name
        )
        if detail is None:
            known = await self._ask(lambda: client.containers(all=True), "list", "its containers")
            raise NoSuchContainer(
                self._device, name, sorted(one.name for one in parse_listing(known).values())
            )
        return detail

    async def _ask(self, question: Callable[[], T], command: str = "connect to", name: str = "it") -> T:
        """Ask in a thread; raises EngineAway and CommandRefused."""
        try:
            return await self._questions.call(question)
        except APIError as error:
            raise CommandRefused(self._device, name, command, refusal(error)) from error
        except FOREIGN_ERRORS as error:
            raise EngineAway(self._device, reason_of(error)) from error


def _unless_missing(client: Any, name: str) -> Mapping[str, Any] | None:
    try:
        detail: Mapping[str, Any] = client.inspect_container(name)
    except NotFound:
        return None
    return detail


async def _event(session: Session, action: str) -> datetime:
    """Wait for an event; return when it happened. Raises OSError when the events end."""
    while True:
        event = await session.events.queue.get()
        if event is None:
            raise ConnectionError("the engine's events ended")
        if event.get("Action") == action:
            return datetime.fromtimestamp(int(event.get("timeNano") or 0) / 1e9, UTC)
