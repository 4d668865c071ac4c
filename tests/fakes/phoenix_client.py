"""A raw client of the Phoenix protocol in either version: frames in and out, no reconnecting, no heartbeat of its own."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any


class PhoenixClient:
    """Speaks over an open socket of `websockets`; `ref` counts up as real clients' do."""

    def __init__(self, socket: Any, vsn: str) -> None:
        self.socket = socket
        self.vsn = vsn
        self._refs = itertools.count(1)

    async def send(
        self, topic: str, event: str, payload: Any, *, join_ref: str | None = None, ref: str | None = None
    ) -> str:
        """Send a message and return its ref; that of a join is its join_ref, too."""
        ref = str(next(self._refs)) if ref is None else ref
        join_ref = ref if event == "phx_join" else join_ref
        fields = {"join_ref": join_ref, "ref": ref, "topic": topic, "event": event, "payload": payload}
        await self.socket.send(json.dumps(list(fields.values()) if self.vsn == "2.0.0" else fields))
        return ref

    async def raw(self, seconds: float = 10.0) -> Any:
        """Return the next frame as it is."""
        async with asyncio.timeout(seconds):
            return await self.socket.recv()

    async def frame(self, seconds: float = 10.0) -> list[Any]:
        """Return [join_ref, ref, topic, event, payload] of the next frame, which is text."""
        text = await self.raw(seconds)
        assert isinstance(text, str), text
        frame = json.loads(text)
        if isinstance(frame, dict):
            return [None, frame["ref"], frame["topic"], frame["event"], frame["payload"]]
        return list(frame)

    async def silent(self) -> None:
        """Assert that nothing was on its way: the answer to a heartbeat is the next frame."""
        ref = await self.send("phoenix", "heartbeat", {})
        frame = await self.frame()
        assert frame[1:4] == [ref, "phoenix", "phx_reply"], frame
