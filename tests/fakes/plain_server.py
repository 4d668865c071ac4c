"""A monitoring server as seed 001 describes it, by somebody who never heard of Crossfade: JSON, and no ids."""

from __future__ import annotations

import json
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from monitoring.events import Event, category_of, device_of, format_time


def message(event: Event) -> dict[str, Any]:
    """Return what such a server broadcasts when the event happens: nothing of its identity."""
    return {
        "type": "event",
        "connection_type": category_of(event.stream),
        "direction": "inbound",
        "script_name": device_of(event.stream),
        "function_name": event.kind,
        "data_size_bytes": len(json.dumps(event.payload)),
        "response_time_ms": 150,
        "error": None,
        "metadata": event.payload,
        "broadcast_time": format_time(event.occurred_at),
    }


class PlainServer:
    """Broadcasts to every dashboard and remembers its last ``remembers`` events until it is restarted."""

    def __init__(self, *, remembers: int = 50) -> None:
        self.remembers = remembers
        self.port = 0
        self.recent: deque[dict[str, Any]] = deque(maxlen=remembers)
        self.greets = True
        self.connections = 0
        self._clients: set[ServerConnection] = set()
        self._server: Server | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    async def start(self) -> None:
        self._server = await serve(self._serve, "127.0.0.1", self.port, compression=None)
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and cut every client off; what it remembers stays, as in a process that goes on."""
        if self._server is not None:
            for client in list(self._clients):
                client.transport.abort()
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def broadcast(self, *events: Event) -> None:
        await self.say(*(message(event) for event in events))

    async def say(self, *messages: dict[str, Any]) -> None:
        for each in messages:
            self.recent.append(each)
            for client in list(self._clients):
                with suppress(ConnectionClosed):  # a dashboard that was killed is nobody else's concern
                    await client.send(json.dumps(each))

    async def _serve(self, client: ServerConnection) -> None:
        self.connections += 1
        if self.greets:
            await client.send(json.dumps(self._stats("initial_stats")))
        self._clients.add(client)
        try:
            with suppress(ConnectionClosed):
                async for text in client:
                    if json.loads(text).get("type") == "stats":
                        await client.send(json.dumps(self._stats("stats")))
        finally:
            self._clients.discard(client)

    def _stats(self, kind: str) -> dict[str, Any]:
        sections: dict[str, Any] = {name: {} for name in ("websocket", "redis", "supabase", "kimi", "glm")}
        sections["websocket"] = {"connected": len(self._clients)}
        return {
            "type": kind,
            "stats": sections,
            "session_metrics": {},
            "semaphore_metrics": {},
            "websocket_health": {},
            "recent_events": list(self.recent),
            "timestamp": "2026-11-21T09:00:00Z",
        }
