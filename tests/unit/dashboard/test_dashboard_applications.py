"""What applications push, folded into figures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from dashboard import applications
from dashboard.applications import KINDS, SESSIONS_KEPT, Application, Connections, applied
from monitoring.applications import SessionList
from monitoring.events import Event, StreamId

T0 = datetime(2026, 11, 21, 8, tzinfo=UTC)


def event(kind: str, payload: dict[str, Any], seq: int = 1) -> Event:
    return Event(UUID(int=seq), StreamId("shop/x"), 1, seq, kind, T0 + timedelta(seconds=seq), payload)


def run(*events: Event) -> Application:
    app = Application("shop")
    for each in events:
        app = applied(app, each)
    return app


def test_sessions_are_listed_while_they_are_active() -> None:
    told = SessionList()
    app = run(
        event("session_created", told.created("s-1", {"user": "ann"})),
        event("session_created", told.created("s-2", {})),
        event("session_updated", told.updated("s-1", {"page": "/cart"}), 5),
        event("session_destroyed", told.destroyed("s-2", "signed out")),
    )
    assert list(app.sessions) == ["s-1"]
    assert app.sessions["s-1"].attributes == {"user": "ann", "page": "/cart"}
    assert app.sessions["s-1"].seen == T0 + timedelta(seconds=5)
    assert (app.active_sessions, app.total_sessions) == (1, 2)


def test_the_list_of_sessions_is_bounded() -> None:
    told = SessionList()
    app = run(*(event("session_created", told.created(f"s-{n}", {}), n) for n in range(SESSIONS_KEPT + 5)))
    assert len(app.sessions) == SESSIONS_KEPT
    assert "s-4" not in app.sessions
    assert app.active_sessions == SESSIONS_KEPT + 5


def test_connections_are_counted_by_type() -> None:
    app = run(
        event("connection_event", {"connection_type": "redis", "response_time_ms": 1.5, "error": None}),
        event("connection_event", {"connection_type": "redis", "error": "refused"}, 2),
        event("connection_event", {"connection_type": "http"}, 3),
    )
    assert app.connections["redis"] == Connections(2, 1, T0 + timedelta(seconds=2), 1.5)
    assert app.connections["http"].count == 1


def test_semaphores_and_requests_are_the_newest_told() -> None:
    app = run(
        event("semaphore_gauge", {"name": "db", "limit": 10, "in_use": 9, "waiting": 3}),
        event("semaphore_gauge", {"name": "db", "limit": 10, "in_use": 2}, 2),
        event("http_requests", {"count": 50, "errors": 5, "interval_seconds": 5}),
    )
    assert app.semaphores["db"].in_use == 2
    assert app.semaphores["db"].waiting is None
    assert (app.requests_per_second, app.error_share) == (10, 0.1)
    nothing = run(event("http_requests", {"count": 0, "errors": 0, "interval_seconds": 5}))
    assert (nothing.requests_per_second, nothing.error_share) == (0, None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = (
    "session_id",
    "sessions",
    "attributes",
    "connection_type",
    "error",
    "name",
    "limit",
    "count",
    "interval_seconds",
)


@given(st.sampled_from(sorted(KINDS)), st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_whatever_an_application_says_is_no_error(kind: str, payload: dict[str, Any]) -> None:
    assert isinstance(applications.applied(Application("shop"), event(kind, payload)), Application)
