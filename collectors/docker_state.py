"""What containers there are and what changed: pure. Events are hints, the list is the truth.

Docker Engine API 1.40 and later: `Type`, `Action`, `Actor`, `timeNano` of events (the legacy fields are gone since 1.52),
`State`, `Status` and, since 1.52, `Health` of the list. Podman answers on the same paths, but (4.3, recorded in
tests/fixtures/podman-4.3):

- its list has no health, so that what is known stands until an inspection says otherwise;
- its health is in the event's `HealthStatus`, not in the action;
- a container that is gone was `remove`d, not `destroy`ed, and there is no `oom`;
- `restart` comes before the `die` and `start` it causes, not after.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any


class Engine(StrEnum):
    """Whose daemon answers."""

    DOCKER = "Docker"
    PODMAN = "Podman"


EVENTS = (
    "create",
    "destroy",
    "die",
    "died",
    "health_status",
    "kill",
    "oom",
    "pause",
    "remove",
    "rename",
    "start",
    "unpause",
)
"""The actions that change what is told; health probes alone emit three others every time. Podman filters by its own word
``died``, and tells it as ``die``."""

_STATUS_AFTER = {
    "create": "created",
    "start": "running",
    "die": "exited",
    "pause": "paused",
    "unpause": "running",
}

_STATUSES = frozenset({"running", "exited", "paused", "created", "restarting", "dead"})
_PODMANS_STATUSES = {"configured": "created", "initialized": "created", "stopped": "exited"}
_GONE = frozenset({"destroy", "remove"})

_NEVER = "0001-01-01T00:00:00Z"
"""Docker's zero time: not started yet."""


@dataclass(frozen=True, slots=True)
class Container:
    """One container; ``started_at`` and ``restarts`` are None until it was inspected.

    ``exit_code``, ``oom_killed`` and ``signal`` (the newest that was sent to it) are of the run that ended last, or of
    this one.
    """

    id: str
    name: str
    image: str
    status: str
    health: str | None = None
    started_at: str | None = None
    restarts: int | None = None
    exit_code: int | None = None
    oom_killed: bool = False
    signal: str | None = None

    @property
    def running(self) -> bool:
        """Whether its processes run now."""
        return self.status == "running"


@dataclass(frozen=True, slots=True)
class Change:
    """A container that is not as it was; ``before`` is None for a new one, ``now`` for one that is gone.

    Of the action ``oom`` neither status nor health need differ: some process of the container was killed.
    """

    before: Container | None
    now: Container | None
    action: str

    def payload(self) -> dict[str, Any]:
        """Return the payload of ``container_status_changed``."""
        container = self.now or self.before
        if container is None:
            raise ValueError("a change of nothing to nothing")
        return {
            "container": {"id": short_id(container.id), "name": container.name, "image": container.image},
            "previous": _told(self.before),
            "current": _told(self.now),
            "action": self.action,
            "exit_code": container.exit_code if self.action == "die" else None,
            "signal": container.signal if self.action == "die" else None,
            "oom_killed": container.oom_killed,
        }


def _told(container: Container | None) -> dict[str, Any] | None:
    if container is None:
        return None
    return {
        "name": container.name,
        "status": container.status,
        "health": container.health,
        "running": container.running,
    }


def short_id(container_id: str) -> str:
    """Return the 12 digits that ``docker ps`` shows."""
    return container_id[:12]


def engine_of(version: Mapping[str, Any]) -> Engine:
    """Read the answer of ``GET /version``."""
    components = version.get("Components") or ()
    podman = any("podman" in str(each.get("Name", "")).lower() for each in components)
    return Engine.PODMAN if podman else Engine.DOCKER


def parse_listing(entries: Iterable[Mapping[str, Any]]) -> dict[str, Container]:
    """Read the answer of ``GET /containers/json``: id -> container."""
    found: dict[str, Container] = {}
    for entry in entries:
        names = entry.get("Names") or []
        status = str(entry.get("State") or "").lower()
        status = _PODMANS_STATUSES.get(status, status)
        container = Container(
            id=str(entry["Id"]),
            name=str(names[0]).lstrip("/") if names else short_id(str(entry["Id"])),
            image=str(entry.get("Image") or ""),
            # "removing" is on its way out; what a newer engine adds is no state that anybody can act on
            status=status if status in _STATUSES else "dead",
            health=_health_of(entry),
        )
        found[container.id] = container
    return found


def _health_of(entry: Mapping[str, Any]) -> str | None:
    stated = entry.get("Health")
    if isinstance(stated, Mapping):
        return _health(stated.get("Status"))
    text = str(entry.get("Status") or "")  # "Up 2 hours (healthy)", "Up 3 seconds (health: starting)"
    return _health(text.rpartition("(")[2].rstrip(")").removeprefix("health:")) if "(" in text else None


def _health(text: Any) -> str | None:
    word = str(text or "").strip().lower()
    return word if word in {"healthy", "unhealthy", "starting"} else None


def inspected(container: Container, detail: Mapping[str, Any]) -> Container:
    """Return the container with what only ``GET /containers/{id}/json`` tells."""
    state = detail.get("State") or {}
    started_at = state.get("StartedAt")
    health = state.get("Health")
    ended = state.get("Status") == container.status == "exited"
    return replace(
        container,
        started_at=started_at if started_at and started_at != _NEVER else None,
        restarts=detail.get("RestartCount"),
        exit_code=state.get("ExitCode") if ended else container.exit_code,
        oom_killed=state.get("OOMKilled") is True if ended else container.oom_killed,
        # An inspection shows the moment it was made; a container that left "running" since has no health.
        health=_health(health.get("Status")) if isinstance(health, Mapping) and container.running else None,
    )


def apply_event(
    known: Mapping[str, Container], event: Mapping[str, Any]
) -> tuple[dict[str, Container], Change | None]:
    """Return the containers after an event, and what it changed; an event that says nothing new changes nothing."""
    after = dict(known)
    actor = event.get("Actor") or {}
    container_id = actor.get("ID")
    action, _, suffix = str(event.get("Action") or "").partition(":")  # "health_status: unhealthy"
    if event.get("Type") != "container" or not container_id:
        return after, None
    attributes = actor.get("Attributes") or {}
    before = known.get(container_id)
    base = before or Container(
        container_id,
        name=str(attributes.get("name") or short_id(container_id)),
        image=str(attributes.get("image") or ""),
        status="created",
    )
    now: Container
    if action in _GONE:
        after.pop(container_id, None)
        return after, Change(before, None, "destroy") if before else None
    if action == "health_status":
        now = replace(base, health=_health(suffix or event.get("HealthStatus")))
    elif action == "rename":
        now = replace(base, name=str(attributes.get("name") or base.name).lstrip("/"))
    elif action == "kill":
        now = replace(base, signal=str(attributes["signal"]) if "signal" in attributes else None)
    elif action == "oom":
        now = replace(base, oom_killed=True)
    elif action in _STATUS_AFTER:
        now = _after(action, base, attributes)
    else:
        return after, None
    after[container_id] = now
    if action == "oom" or before is None or _telling(before) != _telling(now):
        return after, Change(before, now, action)
    return after, None


def _after(action: str, base: Container, attributes: Mapping[str, Any]) -> Container:
    kept = base.health if action in {"pause", "unpause"} else None
    now = replace(base, status=_STATUS_AFTER[action], health=kept)
    match action:
        case "start":  # to be inspected again
            return replace(now, started_at=None, restarts=None, exit_code=None, oom_killed=False, signal=None)
        case "die":
            return replace(now, exit_code=_exit_code(attributes))
        case _:
            return now


def _telling(container: Container) -> tuple[str, str, str | None]:
    """Return what a change is told of."""
    return container.name, container.status, container.health


def _exit_code(attributes: Mapping[str, Any]) -> int | None:
    text = str(attributes.get("exitCode", ""))
    return int(text) if text.lstrip("-").isdecimal() else None


def reconcile(
    known: Mapping[str, Container], listed: Mapping[str, Container], engine: Engine = Engine.DOCKER
) -> tuple[dict[str, Container], list[Change]]:
    """Take the list as the truth: return the containers, and the changes that no event told."""
    after: dict[str, Container] = {}
    changes: list[Change] = []
    for container_id, found in listed.items():
        before = known.get(container_id)
        if before is not None and before.status == found.status:
            health = before.health if engine is Engine.PODMAN else found.health
            now = replace(before, name=found.name, image=found.image, health=health)
        else:
            now = found
        after[container_id] = now
        if before is None or _telling(before) != _telling(now):
            changes.append(Change(before, now, "listed"))
    changes += [Change(before, None, "listed") for key, before in known.items() if key not in listed]
    return after, changes
