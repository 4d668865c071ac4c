"""What applications tell of themselves: categories, kinds and payloads; docs/push.md describes each. Pure.

An application is a device to the rest of Crossfade: ``app-7/sessions``, ``app-7/connections`` and so on are its streams.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

SESSIONS: Final = "sessions"
CONNECTIONS: Final = "connections"
SEMAPHORES: Final = "semaphores"
REQUESTS: Final = "requests"

SESSION_CREATED: Final = "session_created"
SESSION_UPDATED: Final = "session_updated"
SESSION_DESTROYED: Final = "session_destroyed"
CONNECTION_EVENT: Final = "connection_event"
SEMAPHORE_GAUGE: Final = "semaphore_gauge"
HTTP_REQUESTS: Final = "http_requests"

SESSIONS_KEPT = 10_000
"""Active sessions of an application that are remembered; the migration and the legacy server have the same bound."""


class SessionList:
    """The active sessions of one application, and the change that each event makes to the list.

    Every change says all that is known of its session, so a reader that missed the ones before is right again.
    """

    def __init__(self) -> None:
        self._active: dict[str, dict[str, Any]] = {}
        self._total = 0

    def created(self, session_id: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Add a session, or replace one of the same id; return the payload of ``session_created``."""
        self._total += session_id not in self._active
        self._active.pop(session_id, None)
        if len(self._active) >= SESSIONS_KEPT:
            del self._active[next(iter(self._active))]
        self._active[session_id] = dict(attributes)
        return self._payload(session_id, self._active[session_id])

    def updated(self, session_id: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Change attributes of a session; return the payload of ``session_updated``, which names those that changed.

        A session that is not known (an earlier process of the application made it) is known from now on.
        """
        if session_id not in self._active:
            self.created(session_id, {})
        known = self._active[session_id]
        changed = [name for name, value in attributes.items() if name not in known or known[name] != value]
        known.update(attributes)
        return self._payload(session_id, known) | {"changed": changed}

    def destroyed(self, session_id: str, reason: str | None) -> dict[str, Any]:
        """Take a session off the list; return the payload of ``session_destroyed``."""
        attributes = self._active.pop(session_id, {})
        return self._payload(session_id, attributes) | {"reason": reason}

    def _payload(self, session_id: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "session_id": session_id,
            "attributes": dict(attributes),
            "sessions": {"active_count": len(self._active), "total_count": self._total},
        }
