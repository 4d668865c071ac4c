"""A viewer of a Streamlit page without a browser: keeps the timers of its fragments, counts what comes.

A browser tab is a WebSocket on which it says "run this script", and then, each time a fragment's timer is over, "run this
fragment". That is all the server sees of it, so that fifty viewers need fifty sockets and not fifty browsers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Self
from urllib.parse import urlsplit

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect

_MOST_BYTES = 64 << 20


class Viewer:
    """One open tab. ``speed`` is by how much its timers are faster than a browser's."""

    def __init__(self, url: str, page: str = "", *, speed: float = 1.0) -> None:
        parts = urlsplit(url)
        self._url = f"ws://{parts.netloc}/_stcore/stream"
        self._page = page
        self._speed = speed
        self._timers: dict[str, asyncio.Task[None]] = {}
        self._intervals: dict[str, float] = {}
        self._asked: dict[str, float] = {}
        self.bytes = 0
        self.runs = 0
        """Runs of fragments that its timers asked for."""
        self.drawn = 0
        """Fragments that the server drew without being asked."""
        self.errors: list[str] = []
        self.run_seconds: list[float] = []
        """How long each run of a fragment took, from asking to its end."""

    async def __aenter__(self) -> Self:
        self._stack = contextlib.AsyncExitStack()
        self._socket: ClientConnection = await self._stack.enter_async_context(
            connect(self._url, max_size=_MOST_BYTES, subprotocols=["streamlit"])  # type: ignore[list-item]  # a NewType
        )
        self._reading = asyncio.create_task(self._read())
        self._first = asyncio.Event()
        message = BackMsg()
        message.rerun_script.page_name = self._page
        await self._socket.send(message.SerializeToString())
        async with asyncio.timeout(60):
            await self._first.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (*self._timers.values(), self._reading):
            task.cancel()
        await asyncio.gather(*self._timers.values(), self._reading, return_exceptions=True)
        await self._stack.aclose()

    async def _read(self) -> None:
        ended = ForwardMsg.ScriptFinishedStatus
        async for data in self._socket:
            if isinstance(data, str):
                continue
            self.bytes += len(data)
            message = ForwardMsg()
            message.ParseFromString(data)
            match message.WhichOneof("type"):
                case "auto_rerun":
                    self._keep(message.auto_rerun.fragment_id, message.auto_rerun.interval)
                case "new_session":
                    self.drawn += len(set(message.metadata.run.fragment_ids) - self._asked.keys())
                case "delta" if message.delta.new_element.WhichOneof("type") == "exception":
                    self.errors.append(message.delta.new_element.exception.message)
                case "script_finished":
                    if message.script_finished == ended.FINISHED_SUCCESSFULLY:
                        self._first.set()
                    for fragment, asked in list(self._asked.items()):
                        self.run_seconds.append(time.monotonic() - asked)
                        self.runs += 1
                        del self._asked[fragment]

    def _keep(self, fragment: str, interval: float) -> None:
        self._intervals[fragment] = interval
        if fragment not in self._timers:
            self._timers[fragment] = asyncio.create_task(self._tick(fragment))

    async def _tick(self, fragment: str) -> None:
        while True:
            await asyncio.sleep(self._intervals[fragment] / self._speed)
            if fragment in self._asked:
                continue  # a browser, too, waits for the run that it asked for
            self._asked[fragment] = time.monotonic()
            message = BackMsg()
            message.rerun_script.page_name = self._page
            message.rerun_script.fragment_id = fragment
            await self._socket.send(message.SerializeToString())
