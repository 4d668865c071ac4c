"""Measurements of `bench/` run in small: each fails by itself when what it measures does not hold."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


async def measured(program: str, *options: str | Path, seconds: float = 240) -> str:
    """Run a bench to its end and return what it printed; fails with all it said unless it exits with 0."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, ROOT / "bench" / program, *options),
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    assert process.returncode == 0, (output + errors).decode()
    return output.decode()
