"""One command as a process: started as it stands, its output read, ended when it is time to.

It has a session of its own, so that what it started ends with it, and dies with the agent (`crossfade.supervisor.launch`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crossfade.supervisor import launch
from monitoring.commands import CommandState

OUTPUT_BYTES = 16_384
"""How much of the end of its output is kept."""
GRACE_SECONDS = 5.0
"""How long it may take to end before it is killed."""
_LINE_BYTES = 8_192
_NOT_STARTED = 126
_PROGRESS = re.compile(r"progress:?\s+(\d{1,3}(?:\.\d+)?)\s*%\s*(.*)", re.IGNORECASE | re.ASCII)
"""A line of its output that says how far it is: ``progress: 40% unpacking``."""
_KEPT_ENVIRONMENT = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "USER",
    "LOGNAME",
    "DOCKER_HOST",
    "XDG_RUNTIME_DIR",
)
"""What a command is given of the agent's environment, which may hold the agent's token."""

OnProgress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    state: CommandState
    message: str
    exit_code: int | None
    output: str


class Running:
    """A command that runs. Cancelling the task of `run` kills it at once."""

    def __init__(self, arguments: Sequence[str], timeout_seconds: float, progress: OnProgress) -> None:
        self._arguments = arguments
        self._timeout_seconds = timeout_seconds
        self._progress = progress
        self._cancelled = asyncio.Event()
        self._why = ""
        self._tail: deque[bytes] = deque()
        self._kept = 0

    def cancel(self, why: str = "ended as it was asked to be") -> None:
        """Have it ended: asked first, killed after `GRACE_SECONDS`."""
        self._why = self._why or why
        self._cancelled.set()

    async def run(self) -> Ended:
        """Run it to its end; raises nothing."""
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", launch.__file__, str(os.getpid()), str(int(signal.SIGKILL)), ""),
                *self._arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ},
                cwd="/",
                start_new_session=True,
                limit=_LINE_BYTES,
            )
        except OSError as error:
            return Ended(CommandState.FAILED, f"it could not be started: {error.strerror or error}", None, "")
        reading = asyncio.ensure_future(self._read(process.stdout))  # owned: ended below
        waiting = asyncio.ensure_future(process.wait())
        cancelled = asyncio.ensure_future(self._cancelled.wait())
        state: CommandState | None = None
        try:
            await asyncio.wait(
                {waiting, cancelled}, timeout=self._timeout_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if not waiting.done():
                state = CommandState.CANCELLED if cancelled.done() else CommandState.TIMED_OUT
                _signal(process.pid, signal.SIGTERM)
                await asyncio.wait({waiting}, timeout=GRACE_SECONDS)
        finally:
            # What it left behind in its session ends with it: nobody would wait for that, or tell of it.
            _signal(process.pid, signal.SIGKILL)
            cancelled.cancel()
            await asyncio.wait({waiting})
            await asyncio.wait(
                {reading}, timeout=1.0
            )  # something outside its session may hold its output open
            reading.cancel()
        return self._ended(state, process.returncode or 0)

    def _ended(self, state: CommandState | None, code: int) -> Ended:
        output = b"".join(self._tail).decode(errors="replace").replace("\0", "\ufffd")
        if state is CommandState.CANCELLED:
            return Ended(state, self._why, None, output)
        if state is CommandState.TIMED_OUT:
            return Ended(
                state, f"ended after {self._timeout_seconds:g} s, which is all it may take", None, output
            )
        if code == 0:
            return Ended(CommandState.SUCCEEDED, "", 0, output)
        if code == _NOT_STARTED and output.startswith("cannot run "):
            return Ended(CommandState.FAILED, output.strip()[:500], None, output)
        how = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
        return Ended(CommandState.FAILED, how, code, output)

    async def _read(self, stream: asyncio.StreamReader | None) -> None:
        while stream is not None:
            try:
                line = await stream.readline()
            except ValueError:  # a line longer than the limit, of which the reader has thrown away that much
                line = b"[a line of more than 8,192 bytes was left out]\n"
            if not line:
                return
            self._tail.append(line)
            self._kept += len(line)
            while self._kept > OUTPUT_BYTES:
                self._kept -= len(self._tail.popleft())
            if found := _PROGRESS.match(line.decode(errors="replace").strip()):
                self._progress(min(float(found[1]), 100.0), found[2].replace("\0", "")[:500])


def _signal(session: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(session, number)
