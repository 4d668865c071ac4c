"""Events as collectors write them, for the tests of alerts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from alerting.notices import Message
from monitoring.events import Event, StreamId

START = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def event(stream: str, kind: str, seconds: float, payload: Mapping[str, Any], seq: int = 1) -> Event:
    return Event(UUID(int=seq), StreamId(stream), 1, seq, kind, at(seconds), payload)


def cpu(device: str, seconds: float, usage: float | None) -> Event:
    return event(f"{device}/system", "metric_collected", seconds, {"cpu_usage": usage, "disks": []})


def containers(device: str, seconds: float, statuses: Mapping[str, str]) -> Event:
    listed = [
        {"name": name, "status": status, "running": status == "running"} for name, status in statuses.items()
    ]
    return event(
        f"{device}/containers", "containers_collected", seconds, {"available": True, "containers": listed}
    )


def told(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """Return (word, rule target) of each line of messages."""
    lines = [line for message in messages for line in message.body.splitlines()]
    found = []
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "NO":
            rest = rest.removeprefix("DATA ")
        found.append((word, rest.split(" ", 1)[1].partition(":")[0] if " " in rest else rest))
    return found
