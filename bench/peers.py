"""Other people's programs that ours are measured beside, installed for one run."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psutil

from embedded.ports import free_port

_INSTALL_SECONDS = 300.0
_START_SECONDS = 60.0


class NotMeasured(Exception):  # noqa: N818 - named for what it is
    """A peer that could not be installed or started; its text says why."""


@contextlib.asynccontextmanager
async def glances(directory: Path) -> AsyncIterator[tuple[str, psutil.Process]]:
    """Yield the address of a Glances web server of its own, and its process; raises NotMeasured."""
    venv = directory / "glances"
    install = [str(venv / "bin" / "pip"), "install", "--quiet", "glances[web,containers]"]
    for command in ([sys.executable, "-m", "venv", str(venv)], install):
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=_INSTALL_SECONDS
        )
        if done.returncode:
            raise NotMeasured(f"Glances could not be installed: {done.stderr.strip().splitlines()[-1:]}")
    url = f"http://127.0.0.1:{(port := free_port('127.0.0.1'))}"
    arguments = ["-w", "-B", "127.0.0.1", "-p", str(port), "--disable-check-update"]
    with (directory / "glances.log").open("wb") as log:
        process = subprocess.Popen([str(venv / "bin" / "glances"), *arguments], stdout=log, stderr=log)
    try:
        try:
            async with asyncio.timeout(_START_SECONDS), httpx.AsyncClient() as client:
                while not await _answers(client, f"{url}/api/4/all"):
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise NotMeasured("Glances was installed and did not answer within a minute") from None
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return (await client.get(url)).is_success
    return False
