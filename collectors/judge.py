"""Who tells the status of a device or a check: takes what its readings found, tells the changes, remembers them.

What is remembered outlives the process, so that a restart neither tells again what everybody knows nor forgets how far
an outage has been proven (docs/adr/0014).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from monitoring.device_status import Condition, Hysteresis, Outcome, Status, observe, stop
from monitoring.events import Draft, Kind, StreamId, format_time, stream_id


class Judge:
    """Tells the status of one subject, which several collectors may read."""

    def __init__(
        self,
        subject: str,
        stream: StreamId,
        *,
        kind: str = Kind.DEVICE_STATUS_CHANGED,
        named: Mapping[str, Any] | None = None,
        remembered: Condition | None = None,
        rule: Hysteresis | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Tell of ``subject`` in ``stream``; each event says ``named`` as well."""
        self.subject = subject
        self.stream = stream
        self.condition = remembered or Condition()
        self._kind = kind
        self._named = dict(named or {})
        self._rule = rule or Hysteresis()
        self._clock = clock

    def observe(self, source: str, outcome: Outcome, reason: str) -> Sequence[Draft]:
        """Take what one reading found; return the change that follows from it, if one does."""
        return self._become(
            observe(self.condition, outcome, source=source, reason=reason, at=self._clock(), rule=self._rule)
        )

    def stop(self, reason: str) -> Sequence[Draft]:
        """Nobody reads any more: return the change to ``unknown``."""
        return self._become(stop(self.condition, reason=reason, at=self._clock()))

    def _become(self, after: Condition) -> Sequence[Draft]:
        before, self.condition = self.condition, after
        if after.status == before.status:
            return []
        at = after.since or self._clock()
        payload = {
            **self._named,
            "old_status": before.status.value,
            "new_status": after.status.value,
            "since": format_time(at),
            "previous_since": format_time(before.since) if before.since else None,
            "reason": after.reason,
        }
        return [Draft(self.stream, self._kind, at, payload)]


def device_judge(device: str, remembered: Mapping[str, Condition]) -> Judge:
    """Return the judge of a device, told in ``device/system``; raises InvalidEvent for a name without address."""
    subject = f"device {device}"
    return Judge(subject, stream_id(device, "system"), remembered=remembered.get(subject))


def to_json(condition: Condition) -> dict[str, Any]:
    """Return a condition as plain JSON."""
    return {
        "status": condition.status.value,
        "since": format_time(condition.since) if condition.since else None,
        "reason": condition.reason,
        "lost": condition.lost.value if condition.lost else None,
        "losses": condition.losses,
        "alike": condition.alike,
        "goods": condition.goods,
        "partial": dict(condition.partial),
    }


def from_json(value: Mapping[str, Any]) -> Condition:
    """Return the condition that `to_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
    return Condition(
        status=Status(value["status"]),
        since=datetime.fromisoformat(value["since"]) if value["since"] else None,
        reason=str(value["reason"]),
        lost=Outcome(value["lost"]) if value["lost"] else None,
        losses=int(value["losses"]),
        alike=int(value["alike"]),
        goods=int(value["goods"]),
        partial={str(source): int(count) for source, count in value["partial"].items()},
    )
