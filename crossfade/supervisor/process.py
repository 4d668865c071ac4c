"""One child process: in a session of its own, with its output in a log file, and an end that is certain."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import BinaryIO

    from crossfade.supervisor.logfile import LogFile

_LAUNCH = Path(__file__).with_name("launch.py")
_CHUNK_BYTES = 1 << 16
_DRAIN_SECONDS = 1.0
"""How long output is still read after the end; a grandchild may hold the pipe for ever."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, as whom, and how it is ended."""

    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to our own, or all of it."""
    inherit_environment: bool = True
    directory: Path | None = None
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    """Sent by the kernel when the supervisor dies without a word."""


class Process:
    """A running child. Whoever starts it has to await ``wait`` or ``stop``."""

    def __init__(
        self, child: asyncio.subprocess.Process, output: BinaryIO, command: Command, log: LogFile
    ) -> None:
        self._child = child
        self._output = output
        self._command = command
        self._log = log
        self._reaper = asyncio.ensure_future(self._reap())  # owned: awaited by wait() and stop()

    @classmethod
    async def start(cls, command: Command, log: LogFile) -> Process:
        """Start a child; raises OSError when no process can be made."""
        inherited = {**os.environ, "PYTHONUNBUFFERED": "1"} if command.inherit_environment else {}
        arguments = [str(os.getpid()), str(int(command.death_signal)), command.user or "", *command.argv]
        # A pipe of our own: with asyncio's, wait() would wait for whoever inherited it, long after the child's end.
        reading, writing = os.pipe()
        output = os.fdopen(reading, "rb", buffering=0)
        try:
            child = await asyncio.create_subprocess_exec(
                # -I -S: no site-packages and no user's settings, so that the launcher is quick and predictable
                *(sys.executable, "-I", "-S", str(_LAUNCH), *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=asyncio.subprocess.STDOUT,
                cwd=command.directory or ("/" if command.user else None),
                env={**inherited, **command.environment},
                start_new_session=True,
            )
        except BaseException:
            output.close()
            raise
        finally:
            os.close(writing)
        return cls(child, output, command, log)

    @property
    def pid(self) -> int:
        """Its process id, and the id of its process group."""
        return self._child.pid

    async def wait(self) -> str:
        """Wait for its end and return how it ended, for people."""
        return await asyncio.shield(self._reaper)

    async def stop(self, grace_seconds: float, hurry: asyncio.Event) -> str:
        """Ask it to end, and end it and its group after the grace, or as soon as ``hurry`` is set."""
        self._signal(self._command.stop_signal)
        impatience = asyncio.ensure_future(hurry.wait())
        try:
            await asyncio.wait(
                {self._reaper, impatience}, timeout=grace_seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            impatience.cancel()
            if not self._reaper.done():
                self._signal(signal.SIGKILL)
        return await asyncio.shield(self._reaper)

    def _signal(self, number: signal.Signals) -> None:
        if self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                # The stop signal is for the leader, who ends its own children in its own order; SIGKILL for everyone.
                if number is signal.SIGKILL:
                    os.killpg(self.pid, number)
                else:
                    os.kill(self.pid, number)

    async def _reap(self) -> str:
        pump = asyncio.ensure_future(self._pump())
        try:
            status = await self._child.wait()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)  # what the leader left behind would hold its ports
            await asyncio.wait({pump}, timeout=_DRAIN_SECONDS)
        finally:
            pump.cancel()
            await asyncio.wait({pump})
            self._log.close()
        return describe_status(status)

    async def _pump(self) -> None:
        stream = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), self._output
        )
        try:
            while data := await stream.read(_CHUNK_BYTES):
                self._log.write(data)
        finally:
            transport.close()


def describe_status(status: int) -> str:
    """Return an exit status for people: ``exit status 1``, ``killed by SIGKILL``."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
