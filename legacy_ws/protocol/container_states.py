"""Which containers there are, folded from events: pure. What changed is what differs, however it was told.

A list (``containers_collected``) is the truth about its device; a change (``container_status_changed``) comes sooner. A list
that says its Docker is away changes nothing: the last known state stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from monitoring.events import Event, Kind, device_of

_SECONDS = {
    "years": 365 * 86400,
    "months": 30 * 86400,
    "weeks": 7 * 86400,
    "days": 86400,
    "hours": 3600,
    "minutes": 60,
    "seconds": 1,
}
_FROM = {"hours": 1, "minutes": 1}
"""A unit is used from two of it on; these from one."""
_ONE = {"hours": "About an hour", "minutes": "About a minute"}
_REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class ContainerState:
    """One container as it was last told. Numbers that nobody measured are None."""

    device: str
    full_name: str
    id: str
    status: str
    health: str | None
    running: bool
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    cpu_percent: float | None = None
    memory_used_bytes: int | None = None
    memory_limit_bytes: int | None = None

    def detail(self, now: datetime) -> str:
        """Return the sentence that ``docker ps`` shows, for example ``Up 2 hours (healthy)``."""
        if self.status in {"running", "paused"}:
            up = f"Up {span(now - self.started_at)}" if self.started_at else "Up"
            if self.status == "paused":
                return f"{up} (Paused)"
            words = f"health: {self.health}" if self.health == "starting" else self.health
            return f"{up} ({words})" if words else up
        if self.status == "exited":
            code = f" ({self.exit_code})" if self.exit_code is not None else ""
            return f"Exited{code} {span(now - self.ended_at)} ago" if self.ended_at else f"Exited{code}"
        return self.status.capitalize()


@dataclass(frozen=True, slots=True)
class StateChange:
    """A container whose status, health or running state is not as it was; ``before`` is None for a new one."""

    before: ContainerState | None
    now: ContainerState


def span(duration: timedelta) -> str:
    """Return a duration in Docker's words (docker/go-units, ``HumanDuration``)."""
    seconds = max(0, int(duration.total_seconds()))
    if seconds <= 1:
        return "1 second" if seconds else "Less than a second"
    half_an_hour = 1800 if seconds >= _SECONDS["minutes"] * 60 else 0  # hours and longer are rounded
    unit = next(one for one, size in _SECONDS.items() if seconds + half_an_hour >= _FROM.get(one, 2) * size)
    count = (seconds + half_an_hour) // _SECONDS[unit]
    return _ONE[unit] if count == 1 else f"{count} {unit}"


class ContainerStates:
    """The last known containers of every device, by device and name."""

    def __init__(self) -> None:
        self._devices: dict[str, dict[str, ContainerState]] = {}
        self._away: set[str] = set()

    @property
    def all(self) -> tuple[ContainerState, ...]:
        """Every container, by device and name."""
        return tuple(states[name] for _, states in sorted(self._devices.items()) for name in sorted(states))

    @property
    def stale(self) -> bool:
        """Whether some device's Docker does not answer, so that its containers are as they were last seen."""
        return bool(self._away)

    def take(self, event: Event) -> tuple[StateChange, ...]:
        """Fold an event in and return what it changed; what cannot be read changes nothing."""
        device = device_of(event.stream)
        match event.kind, event.payload:
            case Kind.CONTAINERS_COLLECTED, {"available": False}:
                self._away.add(device)
                return ()
            case Kind.CONTAINERS_COLLECTED, {"containers": [*entries]}:
                self._away.discard(device)
                return self._listed(device, entries, event.occurred_at)
            case Kind.CONTAINER_STATUS_CHANGED, {
                "container": {"name": str(name), "id": str(id_)},
                "current": current,
            }:
                return self._changed(device, name, id_, current, event)
            case _:
                return ()

    def _listed(self, device: str, entries: Iterable[Any], at: datetime) -> tuple[StateChange, ...]:
        before = self._devices.get(device, {})
        after = {}
        for entry in entries:
            state = _entry(device, entry, before)
            if state is not None:
                after[state.full_name] = state
        self._devices[device] = after
        gone = [_gone(state, at) for name, state in before.items() if name not in after]
        changed = [StateChange(before.get(name), state) for name, state in after.items()]
        return (*gone, *(change for change in changed if _differs(change)))

    def _changed(
        self, device: str, name: str, id_: str, current: Any, event: Event
    ) -> tuple[StateChange, ...]:
        states = self._devices.setdefault(device, {})
        before = states.get(name)
        at = event.occurred_at
        if current is None:
            if before is None or before.id != id_:  # its successor has the name already
                return ()
            del states[name]
            return (_gone(before, at),)
        if not isinstance(current, Mapping) or not isinstance(current.get("status"), str):
            return ()
        renamed = [state for state in states.values() if state.id == id_ and state.full_name != name]
        if renamed:  # peers know containers by name: the old one is gone, and there is a new one
            for state in renamed:
                del states[state.full_name]
            now = states[name] = replace(renamed[0], full_name=name)
            told = [*(_gone(state, at) for state in renamed), StateChange(None, now)]
            return (*told, *self._changed(device, name, id_, current, event))
        status = current["status"]
        base = (
            before
            if before is not None and before.id == id_
            else ContainerState(device, name, id_, status, None, False)
        )
        started = event.payload.get("action") == "start"
        exit_code = event.payload.get("exit_code")
        now = states[name] = replace(
            base,
            status=status,
            health=_text(current.get("health")),
            running=current.get("running") is True,
            started_at=at if started else base.started_at,
            ended_at=at if status == "exited" else None,
            exit_code=exit_code if isinstance(exit_code, int) else None,
        )
        change = StateChange(before, now)
        return (change,) if _differs(change) else ()


def _entry(device: str, entry: Any, before: Mapping[str, ContainerState]) -> ContainerState | None:
    match entry:
        case {"name": str(name), "id": str(id_), "status": str(status)}:
            known = before.get(name)
            same = known is not None and known.id == id_ and known.status == status
            return ContainerState(
                device,
                name,
                id_,
                status,
                health=_text(entry.get("health")),
                running=entry.get("running") is True,
                # A list tells the start only when the container was inspected; what a change told stands until then.
                started_at=_time(entry.get("started_at")) or (known.started_at if known and same else None),
                ended_at=known.ended_at if known and same else None,
                exit_code=_whole(entry["exit_code"])
                if "exit_code" in entry
                else (known.exit_code if known and same else None),
                cpu_percent=_number(entry.get("cpu_percent")),
                memory_used_bytes=_number(entry.get("memory_used_bytes")),
                memory_limit_bytes=_number(entry.get("memory_limit_bytes")),
            )
        case _:
            return None


def _differs(change: StateChange) -> bool:
    before, now = change.before, change.now
    return before is None or (before.status, before.health, before.running) != (
        now.status,
        now.health,
        now.running,
    )


def _gone(state: ContainerState, at: datetime) -> StateChange:
    return StateChange(state, replace(state, status=_REMOVED, health=None, running=False, ended_at=at))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _time(value: Any) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
