from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from collectors.docker_state import Container, Engine
from collectors.docker_stats import NOTHING, Counters, container_payload, cpu_percent, parse_stats

V2: dict[str, Any] = {
    "cpu_stats": {
        "cpu_usage": {"total_usage": 5_000_000_000, "usage_in_kernelmode": 1, "usage_in_usermode": 2},
        "system_cpu_usage": 100_000_000_000,
        "online_cpus": 4,
    },
    "precpu_stats": {"cpu_usage": {"total_usage": 0}},
    "memory_stats": {"usage": 1000, "limit": 5000, "stats": {"inactive_file": 300, "anon": 600}},
    "networks": {"eth0": {"rx_bytes": 10, "tx_bytes": 1}, "eth1": {"rx_bytes": 5, "tx_bytes": 2}},
    "blkio_stats": {
        "io_service_bytes_recursive": [
            {"major": 8, "minor": 0, "op": "read", "value": 100},
            {"major": 8, "minor": 0, "op": "write", "value": 7},
            {"major": 8, "minor": 16, "op": "read", "value": 1},
        ]
    },
}
"""As Engine 25 answers one-shot on cgroup v2."""

V1: dict[str, Any] = {
    "cpu_stats": {
        "cpu_usage": {"total_usage": 5_000_000_000, "percpu_usage": [1, 2]},
        "system_cpu_usage": 100_000_000_000,
    },
    "memory_stats": {
        "usage": 1000,
        "limit": 5000,
        "stats": {"total_inactive_file": 200, "inactive_file": 900},
    },
    "blkio_stats": {"io_service_bytes_recursive": [{"op": "Read", "value": 3}, {"op": "Total", "value": 9}]},
}
"""As Engine 20.10 answers on cgroup v1, network mode host."""


def test_cgroup_v2_is_read() -> None:
    assert parse_stats(V2) == Counters(5_000_000_000, 100_000_000_000, 4, 700, 5000, 15, 3, 101, 7)


def test_cgroup_v1_is_read() -> None:
    assert parse_stats(V1) == Counters(5_000_000_000, 100_000_000_000, 2, 800, 5000, None, None, 3, 0)


@pytest.mark.parametrize(
    "empty", [{}, {"cpu_stats": {"cpu_usage": {"total_usage": 0}}, "memory_stats": {}, "networks": None}]
)
def test_a_stopped_container_has_no_numbers(empty: dict[str, Any]) -> None:
    assert parse_stats(empty) == NOTHING


def test_memory_falls_back_to_anon_where_usage_is_not_counted() -> None:
    assert parse_stats({"memory_stats": {"usage": 0, "stats": {"anon": 77}}}).memory_used == 77


def test_cpu_is_100_a_core_as_docker_stats_shows_it() -> None:
    before = parse_stats(V2)
    now = replace(before, cpu=7_000_000_000, system=108_000_000_000)  # one core of four, for two seconds
    assert cpu_percent(now, before) == 100.0


@pytest.mark.parametrize(
    "changes",
    [{"cpu": 4_000_000_000}, {"system": 100_000_000_000}, {"system": None}, {"cpu": None}, {"cores": None}],
)
def test_cpu_is_unknown_after_a_restart_or_without_the_host_s_clock(changes: dict[str, Any]) -> None:
    before = parse_stats(V2)
    assert (
        cpu_percent(
            replace(before, system=101_000_000_000, **changes)
            if "system" not in changes
            else replace(before, **changes),
            before,
        )
        is None
    )


def test_cpu_is_unknown_at_first() -> None:
    assert cpu_percent(parse_stats(V2), None) is None


def test_the_payload_has_every_key_even_when_nothing_is_known() -> None:
    payload = container_payload(Container("c" * 64, "web", "nginx", "exited"), NOTHING, None)
    assert payload == {
        "id": "c" * 12, "name": "web", "image": "nginx", "status": "exited", "health": None, "running": False,
        "started_at": None, "restarts": None, "exit_code": None, "oom_killed": False, "cpu_percent": None, "memory_used_bytes": None,
        "memory_limit_bytes": None, "rx_bytes": None, "tx_bytes": None, "read_bytes": None, "write_bytes": None,
    }  # fmt: skip


def test_podman_s_cpu_is_measured_by_the_clock() -> None:
    recorded = Path(__file__).parents[2] / "fixtures" / "podman-4.3"
    before, now = (json.loads((recorded / f"stats-{number}.json").read_text()) for number in (1, 2))
    used = now["cpu_stats"]["cpu_usage"]["total_usage"] - before["cpu_stats"]["cpu_usage"]["total_usage"]
    percent = cpu_percent(parse_stats(now, Engine.PODMAN), parse_stats(before, Engine.PODMAN))
    assert percent is not None
    # Two requests with a second and a half in between, as the recording was made.
    assert used / 1.7e9 * 100 < percent < used / 1.4e9 * 100
    assert percent < (cpu_percent(parse_stats(now), parse_stats(before)) or 0) / 2
    assert parse_stats(now, Engine.PODMAN).memory_used == now["memory_stats"]["usage"]
    assert parse_stats({"cpu_stats": {"online_cpus": 2}}, Engine.PODMAN).system is None
