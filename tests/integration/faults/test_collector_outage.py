"""bench/collector_outage.py in small: the measurement fails by itself when something was lost or came twice."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


async def test_a_stopped_database_and_a_killed_collector_lose_nothing() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, ROOT / "bench" / "collector_outage.py", "--down", "6", "--rate", "300", "--json"),
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(240):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    assert process.returncode == 0, (output + errors).decode()
    found = json.loads(output.decode().splitlines()[-1])
    assert found["promised"] > 6 * 300 / 2
    assert found["in_database"] >= found["promised"]
    assert found["lost_in_database"] == found["lost_at_client"] == found["twice_at_client"] == 0
    assert found["down_seconds"] >= 6
