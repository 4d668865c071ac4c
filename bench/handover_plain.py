"""A client as one writes it without us: it closes one backend and opens the other, and counts what it did not get.

    python bench/handover_plain.py --data-dir D --device NAME

Reads the same flags as everybody, as client ``plain``. On the legacy server it reads ``event`` messages, on Supabase
rows of ``cf_events`` with the official client; a connection that ends is opened again. Ends with its standard input,
and says then, as JSON, how many events came, how many were missing between the first and the last, and how many came
twice.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

import structlog
import websockets
from realtime import AsyncRealtimeClient

from crossfade.paths import DataDir
from crossfade.plan import known_addresses
from crossfade.settings import Settings
from crossfade.wiring import Wiring
from monitoring.flags.evaluation import evaluate
from monitoring.service import Backend

LOOK_SECONDS = 0.1
RETRY_SECONDS = 1.0


class Count:
    """Seqs per stream."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._seqs: dict[tuple[str, int], list[int]] = {}
        self.switches = 0

    def take(self, event: dict[str, Any]) -> None:
        if event["stream"].startswith(f"{self._device}/"):
            self._seqs.setdefault((event["stream"], event["epoch"]), []).append(event["seq"])

    def result(self) -> dict[str, int]:
        got = sum(map(len, self._seqs.values()))
        different = sum(len(set(seqs)) for seqs in self._seqs.values())
        spanned = sum(max(seqs) - min(seqs) + 1 for seqs in self._seqs.values())
        return {
            "events": got,
            "missing": spanned - different,
            "twice": got - different,
            "switches": self.switches,
        }


async def legacy(url: str, count: Count) -> None:
    async with websockets.connect(url, max_size=None, proxy=None) as socket:
        async for text in socket:
            message = json.loads(text)
            if message["type"] == "event" and "event" in message["metadata"]:
                count.take(message["metadata"]["event"])


async def supabase(wiring: Wiring, device: str, count: Count) -> None:
    url, key, token = wiring.supabase()
    client = AsyncRealtimeClient(f"{url}/realtime/v1", key)
    try:
        await client.connect()
        await client.set_auth(token() if token else key)
        channel = client.channel("plain")
        channel.on_postgres_changes(
            "INSERT",
            schema="public",
            table="cf_events",
            filter=f"device=eq.{device}",
            callback=lambda payload: count.take(payload["data"]["record"]),
        )
        await channel.subscribe()
        await asyncio.Event().wait()
    finally:
        with contextlib.suppress(Exception):
            await client.close()


async def follow(wiring: Wiring, device: str, count: Count) -> None:
    """Be where the flags say, for ever."""
    flags = wiring.flags()
    url = known_addresses(wiring.data, wiring.settings).legacy
    here: Backend | None = None
    connection: asyncio.Task[None] | None = None
    retry_at = 0.0
    loop = asyncio.get_running_loop()
    try:
        while True:
            wish = evaluate(flags.refresh(), "plain").value
            if wish is not here or (connection is not None and connection.done() and loop.time() > retry_at):
                if connection is not None:
                    connection.cancel()
                    await asyncio.wait({connection})
                count.switches += here not in (None, wish)
                here, retry_at = wish, loop.time() + RETRY_SECONDS
                opening = legacy(url, count) if wish is Backend.LEGACY else supabase(wiring, device, count)
                connection = asyncio.ensure_future(opening)
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        if connection is not None:
            connection.cancel()
            await asyncio.wait({connection})


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--device", required=True)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    data = DataDir.of(arguments.data_dir)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    count = Count(arguments.device)
    following = asyncio.ensure_future(
        follow(Wiring(data, Settings(data_dir=data.root)), arguments.device, count)
    )
    await reader.read()
    following.cancel()
    await asyncio.wait({following})
    print(json.dumps(count.result()), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
