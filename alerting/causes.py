"""Which alerts are open, by rule and device: what inhibition, composites and every look at the open ones ask. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from alerting.lifecycle import Alert, Key, State

SETTLE = timedelta(seconds=30)
"""How long after a cause is gone its effects may still stand: a host is back before its containers are."""


class Causes:
    """An index over alerts; ``note`` keeps it up to date."""

    def __init__(self) -> None:
        self._all: dict[tuple[str, str], dict[Key, Alert]] = {}
        self._open: dict[Key, None] = {}

    def note(self, alert: Alert) -> None:
        """Take an alert as it is now."""
        self._all.setdefault((alert.key.rule, alert.key.device), {})[alert.key] = alert
        if alert.state is not State.OK or alert.told:
            self._open[alert.key] = None
        else:
            self._open.pop(alert.key, None)

    def drop(self, key: Key) -> None:
        """Forget an alert."""
        self._open.pop(key, None)
        group = self._all.get((key.rule, key.device))
        if group is not None:
            group.pop(key, None)
            if not group:
                del self._all[key.rule, key.device]

    def open(self) -> Sequence[Key]:
        """Return the alerts that are not well, or whose resolve is still to be told."""
        return tuple(self._open)

    def items_of(self, rule: str, device: str) -> Sequence[Key]:
        """Return a rule's alerts of a device, open or not."""
        return tuple(self._all.get((rule, device), ()))

    def of(self, rule: str) -> Iterable[Key]:
        """Return a rule's open alerts."""
        return [key for key in self._open if key.rule == rule]

    def fires(self, rule: str, device: str) -> bool:
        """Tell whether a rule fires for a device, or an item of it."""
        return any(alert.firing for alert in self._all.get((rule, device), {}).values())

    def devices(self, rules: Sequence[str]) -> set[str]:
        """Return the devices for which any of some rules fires."""
        return {key.device for key in self._open if key.rule in rules and self.fires(key.rule, key.device)}

    def covers(self, rule: str, device: str, now: datetime) -> bool:
        """Tell whether a rule is, is about to be, or was until a moment ago a cause on a device."""
        return any(
            alert.firing
            or alert.state is State.PENDING
            or (alert.resolved_at is not None and now - alert.resolved_at < SETTLE)
            for alert in self._all.get((rule, device), {}).values()
        )
