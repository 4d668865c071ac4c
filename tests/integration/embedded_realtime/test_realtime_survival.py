"""The faults of bench/realtime_survival.py in small: the gateway as a process of its own, killed, flooded, neglected."""

import asyncio
import shutil
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "bench" / "realtime_survival.py"


@pytest.mark.skipif(
    shutil.which("cc") is None, reason="the receivers are written in C and there is no compiler"
)
@pytest.mark.parametrize(
    "fault", ["large-transaction", "idle-connections", "never-reads", "kill-postgresql", "kill-gateway"]
)
async def test_the_gateway_survives(fault):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        PROGRAM,
        "--quick",
        fault,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(120):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    assert process.returncode == 0, (output + errors).decode()
    assert output.decode().startswith(f"{fault}: ")
