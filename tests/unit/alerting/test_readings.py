"""From events to readings, whatever is in them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from alerting.readings import Reading, observe
from tests.fakes.alert_events import event

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=30,
)


def test_numbers_words_and_the_items_of_lists_are_readings() -> None:
    payload = {
        "cpu_usage": 12.5,
        "memory": {"used_bytes": 3},
        "networks": [{"name": "eth0", "rx_bytes": 7, "up": True}],
        "disks": [{"mount": "/", "used_bytes": 80, "available_bytes": 20, "total_bytes": 105}],
        "load": [1.0, 2.0],
    }
    found = observe(event("web-1/system", "metric_collected", 0, payload))
    assert set(found.readings) >= {
        Reading("system.cpu_usage", "", 12.5),
        Reading("system.memory.used_bytes", "", 3.0),
        Reading("system.networks.rx_bytes", "eth0", 7.0),
        Reading("system.networks.up", "eth0", "true"),
        Reading("system.disks.used_percent", "/", 80.0),
    }
    assert found.complete == {
        "system.networks": frozenset({"eth0"}),
        "system.disks": frozenset({"/"}),
    }


def test_a_removed_container_is_gone() -> None:
    payload = {"container": {"name": "a"}, "current": None}
    found = observe(event("web-1/containers", "container_status_changed", 0, payload))
    assert Reading("containers.status", "a", "gone") in found.readings


def test_a_device_that_changes_says_so() -> None:
    found = observe(event("web-1/system", "device_status_changed", 0, {"new_status": "degraded"}))
    assert list(found.readings) == [Reading("device.status", "", "degraded")]


@given(
    kind=st.sampled_from(["metric_collected", "containers_collected", "container_status_changed", "other"]),
    payload=st.dictionaries(
        st.sampled_from(["containers", "container", "current", "disks", "x", "available"]), JSON, max_size=4
    ),
)
def test_no_payload_is_too_strange(kind: str, payload: dict[str, Any]) -> None:
    found = observe(event("web-1/system", kind, 0, payload))
    assert len(found.readings) <= 2_100
    assert all(isinstance(reading.value, float | str) for reading in found.readings)
