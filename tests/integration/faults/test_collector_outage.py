"""bench/collector_outage.py in small: the measurement fails by itself when something was lost or came twice."""

from __future__ import annotations

import json

from tests.benches import measured


async def test_a_stopped_database_and_a_killed_collector_lose_nothing() -> None:
    output = await measured("collector_outage.py", "--down", "6", "--rate", "300", "--json")
    found = json.loads(output.splitlines()[-1])
    assert found["promised"] > 6 * 300 / 2
    assert found["in_database"] >= found["promised"]
    assert found["lost_in_database"] == found["lost_at_client"] == found["twice_at_client"] == 0
    assert found["down_seconds"] >= 6
