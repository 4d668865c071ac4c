"""The controllers that `docker_push_vs_poll.py` compares, each to be a process of its own.

    python bench/docker_controllers.py poll-sdk | poll-bare PORT
    python bench/docker_controllers.py push DIRECTORY ws://HOST:PORT/link TOKEN

The polling ones are seed 002's as it was: Docker is asked every 2 s, ``GET /api/data`` tells what it said. They are as
cheap as that can be made: the answer is written once for all who ask within 2 s, by a server with a parser in C.
``push`` is our collector with its spool and link, told to follow and to ask for no numbers: what seed 002 shows is status.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker
from aiohttp import web

from adapters.legacy_link import LegacyLink
from adapters.spool import Spool
from collectors.docker import DockerCollector
from collectors.docker_connection import from_environment
from monitoring.events import stream_id

POLL_SECONDS = 2.0
DEVICE = "bench-1"


def _shown(name: str, status: str, detail: str, health: str | None, key: str) -> dict[str, Any]:
    """Return a container as the seed shows it."""
    return {
        "name": name, "full_name": name, "status": status, "status_detail": detail, "running": status == "running",
        "health": health, "id": key[:12], "created": True,
    }  # fmt: skip


def by_sdk(client: docker.APIClient) -> list[dict[str, Any]]:
    """Ask as the SDK's documentation does, which inspects each container."""
    wrapped = docker.DockerClient.__new__(docker.DockerClient)
    wrapped.api = client
    shown = []
    for container in wrapped.containers.list(all=True):
        state = container.attrs["State"]
        health = state.get("Health", {}).get("Status")
        detail = f"Up since {state['StartedAt']}" if state["Running"] else f"Exited ({state['ExitCode']})"
        shown.append(_shown(container.name, container.status, detail, health, container.id))
    return shown


def by_list(client: docker.APIClient) -> list[dict[str, Any]]:
    """Ask for the list alone, as cheaply as it can be asked."""
    return [
        _shown(entry["Names"][0].removeprefix("/"), entry["State"], entry["Status"], None, entry["Id"])
        for entry in client.containers(all=True)
    ]


async def poll(ask: Callable[[docker.APIClient], list[dict[str, Any]]], port: int) -> None:
    """Ask Docker every 2 s, and answer whoever asks."""
    client = from_environment()
    loop = asyncio.get_running_loop()
    told = b"{}"

    async def data(_: web.Request) -> web.Response:
        return web.Response(body=told, content_type="application/json")

    app = web.Application()
    app.router.add_get("/api/data", data)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    due = loop.time()
    while True:
        containers = await asyncio.to_thread(ask, client)
        told = json.dumps({"timestamp": datetime.now(UTC).isoformat(), "containers": containers}).encode()
        due += POLL_SECONDS
        await asyncio.sleep(max(0.0, due - loop.time()))


async def push(directory: Path, url: str, token: str) -> None:
    """Follow Docker, and tell the legacy server."""
    with Spool.open(directory / "controller.db") as spool:
        spool.set_enabled("supabase", enabled=False)
        spool.set_enabled("legacy", enabled=True)
        spool.open_stream(stream_id(DEVICE, "containers"), 1, None, datetime.now(UTC))
        collector = DockerCollector(DEVICE)
        async with asyncio.TaskGroup() as group:
            group.create_task(collector.watch(spool.append))
            group.create_task(LegacyLink(spool, url, token).run())
            while not collector.available:
                await asyncio.sleep(0.05)
            spool.append(await collector.collect())  # where things stand; from here on only what changes


def main() -> None:
    what, *rest = sys.argv[1:]
    if what == "push":
        asyncio.run(push(Path(rest[0]), rest[1], rest[2]))
    else:
        asyncio.run(poll({"poll-sdk": by_sdk, "poll-bare": by_list}[what], int(rest[0])))


if __name__ == "__main__":
    main()
