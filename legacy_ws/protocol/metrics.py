"""``/ws/metrics``: seed 003's consolidated updates every 3 s, its old form, and the phases it planned.

The seed fixes ``realtime_update`` and ``metrics_update`` and names ``connected``, ``heartbeat`` and ``error``. Ours, for its
phases 2 to 4: ``session_event`` / ``session_list``, ``system_alert`` / ``alert_list``, ``subscribe`` / ``subscribed``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar

from legacy_ws.errors import MalformedMessage, shown
from legacy_ws.protocol.application_states import ALERT_KINDS, SESSION_KINDS, Requests, Sessions
from legacy_ws.protocol.container_states import ContainerState, ContainerStates
from legacy_ws.protocol.dialect import Answer, Arrival, Dialect, Session, Telling, everybody
from legacy_ws.protocol.records import Codec, Message, encode, milliseconds
from monitoring.events import Event, Kind, device_of

UPDATE_SECONDS = 3.0
_HEARTBEAT = timedelta(seconds=15)
_HOST_STANDS = timedelta(minutes=15)
"""A host that told nothing for so long is left out of ``resources``; hosts behind SSH are read every five minutes."""
_MB = 1024 * 1024
_LISTED = 1_000
"""Entries of ``session_list`` and ``alert_list``."""
_ALERTS_KEPT = 10_000


class Section(StrEnum):
    """What a client may ask for."""

    METRICS = "metrics"
    CONTAINERS = "containers"
    SESSIONS = "sessions"
    SESSION_EVENTS = "session_events"
    ALERTS = "alerts"


class Form(StrEnum):
    """How the metrics are told."""

    REALTIME = "realtime_update"
    OLD = "metrics_update"


PAGES: Mapping[str, frozenset[Section]] = {
    "dashboard": frozenset({Section.METRICS, Section.CONTAINERS, Section.SESSIONS, Section.ALERTS}),
    "containers": frozenset({Section.CONTAINERS}),
    "sessions": frozenset({Section.SESSIONS, Section.SESSION_EVENTS}),
    "alerts": frozenset({Section.ALERTS}),
}
"""What each page of the seed's frontend shows."""
_PLAIN = frozenset({Section.METRICS, Section.CONTAINERS, Section.SESSIONS})
"""What a client gets that never subscribes: what the seed broadcasts."""


@dataclass(frozen=True, slots=True)
class Connected(Message):
    """Server: the first message."""

    TYPE: ClassVar[str] = "connected"
    timestamp: datetime
    interval_seconds: float
    sections: tuple[str, ...]
    pages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RealtimeUpdate(Message):
    """Server: every 3 s; ``data`` has ``metrics``, ``containers`` and ``sessions`` as far as they were asked for."""

    TYPE: ClassVar[str] = "realtime_update"
    timestamp: datetime
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MetricsUpdate(Message):
    """Server: every 3 s for clients of the old form; ``data`` has ``sessions`` and ``requests``."""

    TYPE: ClassVar[str] = "metrics_update"
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Heartbeat(Message):
    """Both sides: a sign of life; a client's is answered."""

    TYPE: ClassVar[str] = "heartbeat"
    timestamp: datetime | None = None


@dataclass(frozen=True, slots=True)
class ErrorMessage(Message):
    """Server: what it did not understand; the connection goes on."""

    TYPE: ClassVar[str] = "error"
    error: str
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class Subscribed(Message):
    """Server: what the client is sent from now on."""

    TYPE: ClassVar[str] = "subscribed"
    page: str | None
    sections: tuple[str, ...]
    form: str


@dataclass(frozen=True, slots=True)
class SessionEvent(Message):
    """Server: a session was ``created``, ``updated`` or ``destroyed``: the change to be made to the list."""

    TYPE: ClassVar[str] = "session_event"
    timestamp: datetime
    event: str
    session: Mapping[str, Any]
    sessions: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SessionList(Message):
    """Server: the active sessions, which session events change from now on."""

    TYPE: ClassVar[str] = "session_list"
    timestamp: datetime
    sessions: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class SystemAlert(Message):
    """Server: an alert was ``raised`` or ``resolved``."""

    TYPE: ClassVar[str] = "system_alert"
    timestamp: datetime
    event: str
    alert: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AlertList(Message):
    """Server: the alerts that stand, which system alerts change from now on."""

    TYPE: ClassVar[str] = "alert_list"
    timestamp: datetime
    alerts: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Subscribe(Message):
    """Client: send only what this page shows, or these sections; replaces what was asked for before."""

    TYPE: ClassVar[str] = "subscribe"
    page: str | None = None
    sections: tuple[str, ...] = ()
    form: str | None = None


@dataclass(frozen=True, slots=True)
class Unsubscribe(Message):
    """Client: send nothing but heartbeats until the next subscription."""

    TYPE: ClassVar[str] = "unsubscribe"


SERVER = Codec(
    Connected,
    RealtimeUpdate,
    MetricsUpdate,
    Heartbeat,
    ErrorMessage,
    Subscribed,
    SessionEvent,
    SessionList,
    SystemAlert,
    AlertList,
)
"""What a server sends."""
CLIENT = Codec(Subscribe, Unsubscribe, Heartbeat)
"""What a client sends."""


@dataclass(frozen=True, slots=True)
class Audience:
    """What a client is sent."""

    sections: frozenset[Section]
    form: Form


class MetricsSession(Session):
    """One connection."""

    def __init__(self, dialect: MetricsDialect, form: Form) -> None:
        self._dialect = dialect
        self._audience = Audience(_PLAIN, form)

    @property
    def audience(self) -> Audience:
        """The sections it asked for, and their form."""
        return self._audience

    def opened(self, now: datetime) -> Iterable[Answer]:
        """Return ``connected`` and the first update, so that no page is empty for 3 s."""
        sections = _words(self._audience.sections)
        yield encode(Connected(now, UPDATE_SECONDS, sections, tuple(PAGES)))
        yield from self._first(now)

    def received(self, text: str, now: datetime) -> Iterable[Answer]:
        """Answer a subscription or a heartbeat."""
        match CLIENT.read(text):
            case Heartbeat():
                return (encode(Heartbeat(now)),)
            case Unsubscribe():
                self._audience = Audience(frozenset(), self._audience.form)
                return (encode(Subscribed(None, (), self._audience.form)),)
            case Subscribe(page, sections, form):
                self._audience = Audience(_chosen(page, sections), _form(form) or self._audience.form)
                answer = Subscribed(page, _words(self._audience.sections), self._audience.form)
                return (encode(answer), *self._first(now))
        return ()

    def refused(self, reason: str, now: datetime) -> bytes:
        """Return an ``error``."""
        return encode(ErrorMessage(reason, now))

    def _first(self, now: datetime) -> Iterable[bytes]:
        """Return where what it asked for stands."""
        messages = (telling(self._audience) for telling in self._dialect.filled(now))
        return [message for message in messages if message is not None]


class MetricsDialect(Dialect):
    """The consolidated updates, in the new form unless a client asks for the old one."""

    name: ClassVar[str] = "metrics"
    path: ClassVar[str] = "/ws/metrics"
    tick_seconds = UPDATE_SECONDS
    form: ClassVar[Form] = Form.REALTIME

    def __init__(self) -> None:
        self._containers = ContainerStates()
        self._sessions = Sessions()
        self._requests = Requests()
        self._hosts: dict[str, tuple[datetime, Mapping[str, Any]]] = {}
        self._alerts: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._last_heartbeat: datetime | None = None

    def session(self) -> Session:
        """Return the session of a new connection."""
        return MetricsSession(self, self.form)

    def subscriptions(self, audience: Audience) -> Iterable[str]:
        """Return the sections."""
        return _words(audience.sections)

    def take(self, arrival: Arrival, *, news: bool) -> Telling | None:
        """Keep what updates are made of; tell sessions and alerts at once."""
        event = arrival.event
        self._containers.take(event)
        self._requests.take(event)
        if event.kind == Kind.METRIC_COLLECTED:
            self._hosts[device_of(event.stream)] = (event.occurred_at, event.payload)
        told: Telling | None = None
        if self._sessions.take(event):
            told = _about(Section.SESSION_EVENTS, lambda: self._session_event(event))
        elif self._take_alert(event):
            told = _about(Section.ALERTS, lambda: _system_alert(event))
        return told if news else None

    def tick(self, now: datetime) -> Iterable[Telling]:
        """Tell the updates, and a heartbeat every fifth time."""
        yield lambda audience: self.update(audience, now)
        if self._last_heartbeat is None or now - self._last_heartbeat >= _HEARTBEAT:
            self._last_heartbeat = now
            yield everybody(lambda: encode(Heartbeat(now)))

    def filled(self, now: datetime) -> Iterable[Telling]:
        """Tell where things stand to who asked before it was known; a session tells its client the same at first."""
        yield lambda audience: self.update(audience, now)
        yield _about(Section.SESSION_EVENTS, lambda: self.session_list(now))
        yield _about(Section.ALERTS, lambda: self.alert_list(now))

    def update(self, audience: Audience, now: datetime) -> bytes | None:
        """Write what the audience is sent every 3 s, if it asked for any of it."""
        if audience.form is Form.OLD:
            if Section.METRICS not in audience.sections:
                return None
            metrics = self._metrics(now)
            return encode(MetricsUpdate({key: metrics[key] for key in ("sessions", "requests")}))
        parts: Mapping[Section, Callable[[], Any]] = {
            Section.METRICS: lambda: self._metrics(now),
            Section.CONTAINERS: self._container_figures,
            Section.SESSIONS: self._sessions.summary,
        }
        data = {part.value: make() for part, make in parts.items() if part in audience.sections}
        return encode(RealtimeUpdate(now, data)) if data else None

    def session_list(self, now: datetime) -> bytes:
        """Write the active sessions, the newest ones when there are many."""
        active = list(self._sessions.active.items())[-_LISTED:]
        sessions = ({**payload, "id": id_, "application": app} for (app, id_), payload in active)
        return encode(SessionList(now, tuple(sessions)))

    def alert_list(self, now: datetime) -> bytes:
        """Write the alerts that stand."""
        return encode(AlertList(now, tuple(list(self._alerts.values())[-_LISTED:])))

    def _session_event(self, event: Event) -> bytes:
        session = {**event.payload, "id": event.payload["session_id"], "application": device_of(event.stream)}
        what = SESSION_KINDS[event.kind]
        return encode(SessionEvent(event.occurred_at, what, session, self._sessions.summary()))

    def _take_alert(self, event: Event) -> bool:
        rule = event.payload.get("rule")
        if event.kind not in ALERT_KINDS or not isinstance(rule, str):
            return False
        key = (event.stream, rule)
        self._alerts.pop(key, None)
        if ALERT_KINDS[event.kind] == "raised":
            self._alerts[key] = _alert(event)
            if len(self._alerts) > _ALERTS_KEPT:
                del self._alerts[next(iter(self._alerts))]
        return True

    def _metrics(self, now: datetime) -> dict[str, Any]:
        return {
            "sessions": {"active": len(self._sessions.active), "total": self._sessions.total},
            "requests": {"total": self._requests.total, "per_second": self._requests.per_second(now)},
            "resources": _resources([host for at, host in self._hosts.values() if now - at < _HOST_STANDS]),
        }

    def _container_figures(self) -> dict[str, Any]:
        states = self._containers.all
        cpu = [state.cpu_percent for state in states if state.cpu_percent is not None]
        used = sum(state.memory_used_bytes or 0 for state in states)
        memory = sum(_memory(host).get("total_bytes") or 0 for _, host in self._hosts.values())
        return {
            "aggregated": {
                "total_cpu_percent": round(sum(cpu), 2),
                "total_memory_mb": round(used / _MB, 2),
                "total_memory_percent": round(100 * used / memory, 2) if memory else None,
                "container_count": len(states),
            },
            "containers": [_figures(state) for state in states],
        }


class OldMetricsDialect(MetricsDialect):
    """The same for clients that know only the old form, and cannot ask for it."""

    name: ClassVar[str] = "metrics_update"
    path: ClassVar[str] = "/ws/metrics_update"
    form: ClassVar[Form] = Form.OLD


def _about(section: Section, write: Callable[[], bytes]) -> Telling:
    """Tell a message to those who asked for a section."""
    written = everybody(write)
    return lambda audience: written(audience) if section in audience.sections else None


def _chosen(page: str | None, sections: tuple[str, ...]) -> frozenset[Section]:
    if page is not None and page not in PAGES:
        raise MalformedMessage(f"unknown page {shown(page)}; pages are {', '.join(PAGES)}")
    unknown = [one for one in sections if one not in set(Section)]
    if unknown:
        raise MalformedMessage(f"unknown section {shown(unknown[0])}; sections are {', '.join(Section)}")
    named = frozenset(map(Section, sections))
    return (PAGES[page] if page else frozenset()) | named or _PLAIN


def _form(text: str | None) -> Form | None:
    if text is not None and text not in set(Form):
        raise MalformedMessage(f"unknown form {shown(text)}; forms are {', '.join(Form)}")
    return Form(text) if text else None


def _words(sections: Iterable[Section]) -> tuple[str, ...]:
    return tuple(one.value for one in Section if one in sections)


def _system_alert(event: Event) -> bytes:
    return encode(SystemAlert(event.occurred_at, ALERT_KINDS[event.kind], _alert(event)))


def _alert(event: Event) -> dict[str, Any]:
    return {**event.payload, "device": device_of(event.stream), "at": milliseconds(event.occurred_at)}


def _resources(hosts: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean CPU and the share of all memory in use; null when no host told it."""
    cpu = [value for host in hosts if isinstance(value := host.get("cpu_usage"), int | float)]
    shares = [value for host in hosts if isinstance(value := host.get("memory_usage"), int | float)]
    used = sum(_memory(host).get("used_bytes") or 0 for host in hosts)
    total = sum(_memory(host).get("total_bytes") or 0 for host in hosts)
    mean = round(sum(shares) / len(shares), 2) if shares else None
    return {
        "cpu_percent": round(sum(cpu) / len(cpu), 2) if cpu else None,
        "memory_percent": round(100 * used / total, 2) if total else mean,
    }


def _memory(host: Mapping[str, Any]) -> Mapping[str, Any]:
    memory = host.get("memory")
    if not isinstance(memory, Mapping):
        return {}
    return {key: value for key, value in memory.items() if type(value) is int and value >= 0}


def _figures(state: ContainerState) -> dict[str, Any]:
    used, limit = state.memory_used_bytes, state.memory_limit_bytes
    return {
        "name": state.full_name,
        "cpu": state.cpu_percent,
        "memory": {
            "usage_mb": round(used / _MB, 2) if used is not None else None,
            "usage_percent": round(100 * used / limit, 2) if used is not None and limit else None,
        },
        "status": state.status,
    }
