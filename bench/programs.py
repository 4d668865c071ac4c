"""Programs that the measurements run: processes that are spoken with line by line, and what the machine is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
ROOT = HERE.parent


class Program:
    """A process that is spoken with line by line; its standard error goes to a file."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self, seconds: float = 60.0) -> str:
        """Return its next line; raises RuntimeError when it has ended."""
        assert self.process.stdout is not None
        async with asyncio.timeout(seconds):
            text = (await self.process.stdout.readline()).decode().strip()
        if not text:
            raise RuntimeError(f"process {self.process.pid} ended instead of answering")
        return text

    def tell(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")

    def hang_up(self) -> None:
        """End its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def cpu_seconds(self) -> float:
        """Return what it has used so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)


@contextlib.asynccontextmanager
async def program(errors: Path, *argv: str | Path, **environment: str) -> AsyncIterator[Program]:
    """Run a Python program of ours, for as long as the block."""
    with errors.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *map(str, argv),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            limit=1 << 22,
        )
    try:
        yield Program(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


def machine() -> dict[str, Any]:
    """Return what else the machine was doing: figures of a shared machine are an order of magnitude."""
    return {"cores": psutil.cpu_count(), "load": [round(each, 2) for each in os.getloadavg()]}
