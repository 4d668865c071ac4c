"""One device's connection, kept and bounded: what is asked goes through here, and nothing waits for ever.

One connection, one script at a time, within a deadline after which the connection is thrown away: a device that was
silent once cannot be trusted to answer on the same wire. After failures in a row the device is left alone for a while,
longer each time. How many devices are asked at once is the scheduler's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import asyncssh

from collectors.ssh import script
from collectors.ssh.breaker import DeviceBreaker
from collectors.ssh.commands import UPTIME, Answer, Command, read, shells
from collectors.ssh.connection import Connection, open_connection, run_script
from collectors.ssh.errors import Garbled, HostKey, HostKeyChanged, Resting, SshError, TooSlow, Unreachable
from collectors.ssh.text import decode
from monitoring.devices import Device

CYCLE_SECONDS = 20.0
"""For one cycle, connecting included; some commands need more, see ``Command.cycle_seconds``."""


class HostKeys(Protocol):
    """Is told of host keys."""

    def first(self, device: Device, key: HostKey) -> None:
        """Take the key of a device that has none stored: it was let in."""
        ...

    def changed(self, device: Device, error: HostKeyChanged) -> None:
        """Take that a device shows another key than the stored one: it was refused. Told once for each key."""
        ...


@dataclass(frozen=True, slots=True)
class SessionState:
    """How a device's connection is doing; counts are since the session was made."""

    connected: bool
    connections: int
    cycles: int
    failures: int
    resting: bool
    last_error: str | None


class Session:
    """The way to one device; closed by whoever made it."""

    def __init__(
        self,
        device: Device,
        *,
        jump: Session | None = None,
        host_keys: HostKeys | None = None,
        breaker: DeviceBreaker | None = None,
        cycle_seconds: float = CYCLE_SECONDS,
        ttl_share: float = 1.0,
    ) -> None:
        """Nothing is connected yet.

        With ``host_keys`` a device without a stored host key is let in, unless by a password. ``ttl_share`` scales
        how long answers hold.
        """
        self.device = device
        self._jump = jump
        self._host_keys = host_keys
        self._refused_key: str | None = None
        self._breaker = breaker or DeviceBreaker()
        self._cycle_seconds = cycle_seconds
        self._ttl_share = ttl_share
        self._turn = asyncio.Lock()
        self._connecting = asyncio.Lock()
        self._connection: Connection | None = None
        self._held: dict[str, tuple[float, Answer]] = {}
        self._connections = self._cycles = self._failures = 0
        self._error: SshError | None = None

    @property
    def state(self) -> SessionState:
        """How it is doing now."""
        return SessionState(
            connected=self._open(),
            connections=self._connections,
            cycles=self._cycles,
            failures=self._failures,
            resting=self._breaker.open,
            last_error=str(self._error) if self._error else None,
        )

    async def ask(self, commands: Iterable[Command]) -> Mapping[str, Answer]:
        """Run commands in one script, those whose answer does not hold any more, and return every answer by name.

        Of no command, or none that is due, the device is asked for its uptime: that it answers is an answer, too.
        Raises SshError when the device itself fails; a command that fails is in its answer.
        """
        wanted = list(commands)
        kept = self._open()
        async with self._cycle(wanted) as opened:
            connection = opened
            answers = {command.name: answer for command in wanted if (answer := self._holding(command))}
            due = [command for command in wanted if command.name not in answers] or [UPTIME]
            tries = 0
            while due:
                try:
                    answers |= await self._run(connection, due)
                except Unreachable:
                    if not kept:
                        raise
                    # It had been lost since the last cycle, which shows only when it is used.
                    self._drop()
                    connection, kept = await self.connection(), False
                    continue
                tries += 1
                due = [
                    command
                    for command in due
                    if command.retries >= tries
                    and not answers[command.name].ok
                    and not answers[command.name].missing
                ]
            self._keep(wanted, answers)
        return answers

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        """Give the connection for one cycle of other questions. Raises SshError, also for what goes wrong inside."""
        async with self._cycle(()) as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def _cycle(self, commands: Iterable[Command]) -> AsyncIterator[Connection]:
        """Wait for the device's turn, then give the connection within the deadline."""
        seconds = max((self._cycle_seconds, *(command.cycle_seconds for command in commands)))
        if self._turn.locked() and self._error is not None:
            # Somebody is trying it already: whoever waits here holds a place that another device needs.
            raise Resting(self._error, 0.0)
        async with self._turn:
            self._raise_resting()
            self._cycles += 1
            try:
                async with asyncio.timeout(seconds):
                    yield await self.connection()
            except TimeoutError as error:
                self._drop()
                raise self._failed(TooSlow(f"no answer within {seconds:g} s")) from error
            except SshError as error:
                self._drop()
                raise self._failed(error) from error.__cause__
            except asyncio.CancelledError:
                self._drop()  # in the middle of something: what is still to come would be read as the next answer
                self._failed(TooSlow("no answer before the next one was due"))
                raise
            except BaseException:
                self._drop()  # a fault of ours or of a library's: nobody knows what the wire still holds
                raise
            self._breaker.succeeded()
            self._error = None

    def _raise_resting(self) -> None:
        rest = self._breaker.rests(asyncio.get_running_loop().time())
        if rest and self._error is not None:
            # The same sentence as before: what it is has not changed, and nobody wants to read it every cycle.
            raise Resting(self._error, rest)

    def _failed(self, error: SshError) -> SshError:
        self._failures += 1
        self._error = error
        self._breaker.failed(asyncio.get_running_loop().time())
        return error

    async def connection(self) -> Connection:
        """Return the connection, opened if it is not; also for whoever goes through this device. Raises SshError."""
        async with self._connecting:
            if self._connection is not None and self._open():
                return self._connection
            self._drop()
            tunnel = await self._jump.connection() if self._jump else None
            try:
                self._connection, shown = await open_connection(
                    self.device, tunnel=tunnel, trust_first=self._host_keys is not None
                )
            except HostKeyChanged as error:
                if self._host_keys is not None and error.shown.fingerprint != self._refused_key:
                    self._refused_key = error.shown.fingerprint
                    self._host_keys.changed(self.device, error)
                raise
            self._connections += 1
            if self.device.host_key is None:
                # From here on it is this key, whether or not it could be stored.
                self.device = replace(self.device, host_key=shown.line)
                if self._host_keys is not None:
                    self._host_keys.first(self.device, shown)
            return self._connection

    def _open(self) -> bool:
        return self._connection is not None and not self._connection.is_closed()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    async def _run(self, connection: Connection, commands: Iterable[Command]) -> dict[str, Answer]:
        commands = list(commands)
        mark = f"@cf-{secrets.token_hex(8)}"
        out, err = await run_script(connection, script.build(shells(commands), mark))
        output = decode(out)
        sections, complete = script.split(output, decode(err), mark)
        if not sections and not complete:
            said = script.first_line((output, decode(err)), 100)
            raise Garbled(f"its shell does not run our script; it said: {said or 'nothing'}")
        return {command.name: read(command, sections.get(command.name)) for command in commands}

    def _holding(self, command: Command) -> Answer | None:
        until, answer = self._held.get(command.name, (0.0, None))
        return answer if asyncio.get_running_loop().time() < until else None

    def _keep(self, commands: Iterable[Command], answers: Mapping[str, Answer]) -> None:
        now = asyncio.get_running_loop().time()
        for command in commands:
            answer = answers[command.name]
            if command.ttl_seconds and (answer.ok or answer.missing) and self._holding(command) is None:
                self._held[command.name] = (now + command.ttl_seconds * self._ttl_share, answer)

    async def close(self) -> None:
        """Let go of the device; safe to call twice."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.close()
        with contextlib.suppress(TimeoutError, OSError, asyncssh.Error):
            async with asyncio.timeout(1):
                await connection.wait_closed()
                return
        connection.abort()
