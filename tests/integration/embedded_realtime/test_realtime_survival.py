"""The faults of bench/realtime_survival.py in small: the gateway as a process of its own, killed, flooded, neglected."""

import shutil

import pytest

from tests.benches import measured


@pytest.mark.skipif(
    shutil.which("cc") is None, reason="the receivers are written in C and there is no compiler"
)
@pytest.mark.parametrize(
    "fault", ["large-transaction", "idle-connections", "never-reads", "kill-postgresql", "kill-gateway"]
)
async def test_the_gateway_survives(fault):
    output = await measured("realtime_survival.py", "--quick", fault)
    assert output.startswith(f"{fault}: ")
