"""What one check found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from monitoring.device_status import Outcome


@dataclass(frozen=True, slots=True)
class Result:
    """``reason`` is a sentence for people; ``details`` is plain JSON, null where something is not known."""

    outcome: Outcome
    reason: str
    latency_seconds: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


def milliseconds(seconds: float | None) -> float | None:
    """Return a duration as it is told."""
    return None if seconds is None else round(seconds * 1000, 2)
