"""Silences: what people asked not to be told of, for a while. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from alerting.lifecycle import Key
from alerting.rules import Maintenance, matches


@dataclass(frozen=True, slots=True)
class Silence:
    """Patterns of what is not told between two times, by whom, and why."""

    id: str
    rules: Sequence[str]
    devices: Sequence[str]
    items: Sequence[str]
    starts_at: datetime
    ends_at: datetime
    by: str
    comment: str = ""

    def covers(self, key: Key, at: datetime) -> bool:
        """Tell whether an alert is silenced now."""
        return (
            self.starts_at <= at < self.ends_at
            and matches(self.rules, key.rule)
            and matches(self.devices, key.device)
            and matches(self.items, key.item)
        )


def silence_of(payload: Mapping[str, Any]) -> Silence | None:
    """Return the silence of an ``alert_silenced`` event's payload; None when it cannot be meant."""
    try:
        starts_at = datetime.fromisoformat(payload["starts_at"])
        ends_at = datetime.fromisoformat(payload["ends_at"])
        if starts_at.tzinfo is None or ends_at.tzinfo is None:
            return None
        return Silence(
            str(UUID(payload["id"])),
            _patterns(payload.get("rules")),
            _patterns(payload.get("devices")),
            _patterns(payload.get("items")),
            starts_at,
            ends_at,
            str(payload.get("by", "")),
            str(payload.get("comment", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _patterns(value: object) -> tuple[str, ...]:
    found = tuple(each for each in value if isinstance(each, str)) if isinstance(value, list | tuple) else ()
    return found or ("*",)


def in_maintenance(windows: Sequence[Maintenance], key: Key, at: datetime) -> str | None:
    """Return the name of an open maintenance window that covers an alert."""
    for window in windows:
        if (
            matches(window.rules, key.rule)
            and matches(window.devices, key.device)
            and matches(window.items, key.item)
            and window.open_at(at)
        ):
            return window.name
    return None
