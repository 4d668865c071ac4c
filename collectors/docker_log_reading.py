"""Reading one container's log from the engine, on threads, and handing it to the loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import docker
import requests
from docker.errors import APIError, create_api_error_from_http_exception
from docker.types import CancellableStream

from collectors.docker_connection import FOREIGN_ERRORS, REQUEST_SECONDS, reason_of
from collectors.docker_log_lines import LogLines, NotALog, stamp_of
from collectors.docker_state import short_id

_MOST_BUFFERED = 1_000_000
"""Characters of a log that are held at once."""
_SPARE_LINES = 100
"""Read beyond what was asked for, so that the first stamp that is told is told whole."""
_MOST_TAIL = 20_000
_SNAPSHOT_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Run:
    """What an inspection says of a container and its newest run; times are stamps."""

    id: str
    container: str
    running: bool
    started: int
    finished: int
    exit_code: int | None
    oom_killed: bool
    terminal: bool


def read_run(detail: Mapping[str, Any]) -> Run:
    """Read the answer of ``GET /containers/{id}/json``."""
    state = detail.get("State") or {}
    return Run(
        id=str(detail["Id"]),
        container=short_id(str(detail["Id"])),
        running=state.get("Running") is True,
        started=stamp_of(str(state.get("StartedAt"))),
        finished=stamp_of(str(state.get("FinishedAt"))),
        exit_code=state.get("ExitCode"),
        oom_killed=state.get("OOMKilled") is True,
        terminal=(detail.get("Config") or {}).get("Tty") is True,
    )


def refusal(error: BaseException) -> str:
    """Return what the engine says of a log that it does not give."""
    explanation = error.explanation if isinstance(error, APIError) else None
    return " ".join(str(explanation or reason_of(error)).split())[:300]


def _open(client: docker.APIClient, run: Run, read_seconds: float | None, **parameters: Any) -> Any:
    """Ask for a log; raises one of FOREIGN_ERRORS.

    By the session and not by ``APIClient.logs``, which drops what tells stdout from stderr: the parts of a long line of
    the one could not be told from lines of the other.
    """
    response = client.get(
        f"{client.base_url}/v{client.api_version}/containers/{run.id}/logs",
        params={"stdout": 1, "stderr": 1, "timestamps": 1, **parameters},
        timeout=(REQUEST_SECONDS, read_seconds),
        stream=True,
    )
    try:
        response.raise_for_status()
    except requests.HTTPError as error:
        with response:
            create_api_error_from_http_exception(error)
    return response


def read_tail(client: docker.APIClient, run: Run, wanted: int) -> list[tuple[int, str]]:
    """Return at least the last ``wanted`` lines, if there are as many, beginning with the first of its stamp."""
    asked = wanted + _SPARE_LINES
    while True:
        parser = LogLines(terminal=run.terminal)
        lines: deque[tuple[int, str]] = deque()
        characters, cut = 0, False
        with _open(client, run, _SNAPSHOT_SECONDS, tail=asked) as response:
            for chunk in response.iter_content(None):
                for line in parser.feed(chunk):
                    lines.append(line)
                    characters += len(line[1])
                while characters > _MOST_BUFFERED and len(lines) > 1:
                    characters -= len(lines.popleft()[1])
                    cut = True
        if not run.running:
            lines.extend(parser.rest())
        if not cut and parser.messages < asked:
            return list(lines)  # all there is
        whole = [line for line in lines if line[0] != lines[0][0]]
        if len(whole) >= wanted or cut or asked >= _MOST_TAIL:
            return whole or list(lines)
        asked *= 4


def read_on(client: docker.APIClient, run: Run, since: int, pipe: Pipe) -> None:
    """Read a log from a stamp on into a pipe, until it ends or the pipe is closed."""
    error: BaseException | None = None
    try:
        # A stopped container's log is all there: it ends, and its last line may lack an end.
        seconds = None if run.running else _SNAPSHOT_SECONDS
        begin = f"{since // 10**9}.{since % 10**9:09d}"
        with _open(client, run, seconds, follow=int(run.running), since=begin) as response:
            stream = CancellableStream(response.iter_content(None), response)
            if not pipe.opened(stream.close):
                return
            parser = LogLines(terminal=run.terminal)
            for chunk in stream:
                pipe.put(parser.feed(chunk))
            if not run.running:
                pipe.put(parser.rest())
    except (*FOREIGN_ERRORS, NotALog) as caught:
        error = caught
    finally:
        pipe.end(error)


class Pipe:
    """From a reading thread to the loop, bounded; either side may end it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._room = threading.Condition()
        self._news = asyncio.Event()
        self._lines: list[tuple[int, str]] = []
        self._characters = 0
        self._closed = False
        self._end_reading: Callable[[], None] | None = None
        self.ended = False
        self.error: BaseException | None = None

    # The thread's side

    def opened(self, end_reading: Callable[[], None]) -> bool:
        """Say how the reading is ended from outside; False when it is to end now."""
        with self._room:
            self._end_reading = end_reading
            return not self._closed

    def put(self, lines: Sequence[tuple[int, str]]) -> None:
        """Hand over lines; waits while too much of it is not taken."""
        if not lines:
            return
        with self._room:
            self._room.wait_for(lambda: self._closed or self._characters < _MOST_BUFFERED)
            first = not self._lines
            self._lines += lines
            self._characters += sum(len(text) + 1 for _, text in lines)
        if first:
            self._wake()

    def end(self, error: BaseException | None) -> None:
        """Say that no more comes."""
        with self._room:
            self.ended, self.error = True, error
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._news.set)

    # The loop's side

    @property
    def waiting(self) -> bool:
        """Whether there are lines to take."""
        return bool(self._lines)

    async def take(self, seconds: float) -> Sequence[tuple[int, str]]:
        """Return what there is, waiting for it at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        self._news.clear()
        with self._room:
            lines, self._lines, self._characters = self._lines, [], 0
            self._room.notify_all()
        return lines

    def close(self) -> None:
        """End the reading."""
        with self._room:
            self._closed = True
            end_reading = self._end_reading
            self._room.notify_all()
        if end_reading is not None:
            with contextlib.suppress(
                *FOREIGN_ERRORS, AttributeError
            ):  # the SDK looks into what has ended already
                end_reading()
