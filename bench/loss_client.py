"""One client of ``cf_events`` in a process of its own: the official one as documented, or ours.

    python bench/loss_client.py plain|ours --url URL --key KEY --secret FILE --out FILE [--life S] [--renew-after S]

Prints a JSON line for everything that an application is told, with the moment; at the end of its standard input it
writes what it received to ``--out``: a line per event with the moment (monotonic), and ends.

The token lasts ``--life`` seconds. The plain client hands the server a new one ``--renew-after`` seconds later, or
never. Ours takes a function: it returns the first token until then, or always a new one if there is no such moment.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import structlog
from realtime import AsyncRealtimeClient, RealtimeSubscribeStates

from adapters.supabase_realtime import SupabaseRealtime
from embedded.keys import sign
from monitoring.events import Event
from monitoring.service import Gap
from monitoring.topics import GLOBAL

LOOK_SECONDS = 0.02
COUNT_SECONDS = 0.5


class Received:
    """What has arrived, and what was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def event(self, stream: str, epoch: int, seq: int) -> None:
        self.lines.append(f"{stream} {epoch} {seq} {time.monotonic():.6f}\n")


def tell(state: str, text: str = "") -> None:
    print(json.dumps({"at": time.monotonic(), "state": state, "text": text}), flush=True)


class Tokens:
    """Access tokens of a viewer."""

    def __init__(self, secret: str, life: float, renew_after: float | None) -> None:
        self._secret = secret
        self._life = life
        self._renew_at = None if renew_after is None else time.monotonic() + renew_after
        self._first = self.new()

    def new(self) -> str:
        claims = {
            "role": "authenticated",
            "sub": "00000000-0000-4000-8000-000000000001",
            "exp": int(time.time() + self._life),
            "app_metadata": {"crossfade_role": "viewer"},
        }
        return sign(claims, self._secret)

    def current(self) -> str:
        if self._renew_at is not None and time.monotonic() < self._renew_at:
            return self._first
        if self._renew_at is not None:
            self._renew_at, self._life = None, 3600
        return self.new()


@contextlib.asynccontextmanager
async def plain(
    url: str, key: str, tokens: Tokens, received: Received, renew_after: float | None
) -> AsyncIterator[None]:
    """The official client as its documentation has it, all defaults."""
    client = AsyncRealtimeClient(f"{url}/realtime/v1", key)
    await client.connect()
    await client.set_auth(tokens.new())

    def on_insert(payload: dict[str, Any]) -> None:
        row = payload["data"]["record"]
        received.event(row["stream"], row["epoch"], row["seq"])

    def on_state(state: RealtimeSubscribeStates, error: Exception | None) -> None:
        tell("live" if state is RealtimeSubscribeStates.SUBSCRIBED else state.value, str(error or ""))

    channel = client.channel("bench")
    channel.on_postgres_changes("INSERT", schema="public", table="cf_events", callback=on_insert)
    await channel.subscribe(on_state)
    renewing = asyncio.ensure_future(_renew(client, tokens, renew_after))
    try:
        yield
    finally:
        renewing.cancel()
        with contextlib.suppress(Exception):  # it may have given up
            await client.close()


async def _renew(client: AsyncRealtimeClient, tokens: Tokens, after: float | None) -> None:
    if after is not None:
        await asyncio.sleep(after)
        await client.set_auth(tokens.current())


@contextlib.asynccontextmanager
async def ours(url: str, key: str, tokens: Tokens, received: Received) -> AsyncIterator[None]:
    """Our client, through the port."""
    service = SupabaseRealtime(url, key, tokens.current)
    subscription = service.subscribe([GLOBAL])

    async def read() -> None:
        async for item in subscription:
            if isinstance(item, Event):
                received.event(item.stream, item.epoch, item.seq)
            elif isinstance(item, Gap):
                tell("gap", f"{item.stream} epoch {item.epoch} from {item.from_seq} to {item.to_seq}")

    async def watch() -> None:
        before = None
        while True:
            health = await service.health()
            if (health.status, health.detail) != before:
                before = health.status, health.detail
                tell(health.status.value, health.detail)
            await asyncio.sleep(LOOK_SECONDS)

    tasks = [asyncio.ensure_future(read()), asyncio.ensure_future(watch())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        health = await service.health()
        print(json.dumps({"counters": dict(health.counters)}), flush=True)
        await service.close()


async def count(received: Received) -> None:
    """Say how much has arrived, whenever that has changed."""
    before = 0
    while True:
        await asyncio.sleep(COUNT_SECONDS)
        if len(received.lines) != before:
            before = len(received.lines)
            print(json.dumps({"count": before}), flush=True)


async def _end_of_input() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["plain", "ours"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--secret", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--life", type=float, default=3600)
    parser.add_argument("--renew-after", type=float)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    received = Received()
    tokens = Tokens(arguments.secret.read_text(), arguments.life, arguments.renew_after)
    opened: Callable[[], contextlib.AbstractAsyncContextManager[None]] = (
        (lambda: plain(arguments.url, arguments.key, tokens, received, arguments.renew_after))
        if arguments.kind == "plain"
        else (lambda: ours(arguments.url, arguments.key, tokens, received))
    )
    tell("began")
    counting = asyncio.ensure_future(count(received))
    async with opened():
        await _end_of_input()
    counting.cancel()
    arguments.out.write_text("".join(received.lines))
    print(json.dumps({"done": len(received.lines)}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
