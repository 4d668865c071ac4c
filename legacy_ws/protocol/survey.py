"""What a recording of somebody's server tells of how it speaks: its types of message, their fields and rates. Pure.

Guesses, for a person to check: a *type* is the value of the field that names one (``type``, ``event`` ...), or the name of
a Socket.IO event. A *time* is a field that reads as one of this century, an *id* differs in every message, a *device* and
a *kind* are short texts that repeat; where names suggest one, the name decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson

from legacy_ws.errors import MalformedMessage
from legacy_ws.protocol import socketio

_TYPES: Final = ("type", "event", "kind", "op", "action", "topic", "channel", "msg", "method")
_ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    "id": ("id", "uuid", "guid", "event_id", "message_id"),
    "device": ("device", "host", "hostname", "node", "server", "machine", "script_name", "container", "entity_id", "name"),
    "kind": ("kind", "event_type", "function_name", "action", "status", "level"),
}  # fmt: skip
_CENTURY: Final = (946_684_800.0, 4_102_444_800.0)  # 2000 to 2100 in seconds
_MOST_TYPES: Final = 200
_MOST_FIELDS: Final = 200
_MOST_VALUES: Final = 64
_DEPTH: Final = 3
_NEARLY: Final = 0.9
"""A field is there if so many messages of its type have it: the first ones of a server that just began may not."""


@dataclass(slots=True)
class Field:
    """A field of a type of message, by its path with dots."""

    path: str
    count: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    values: Counter[str] = field(default_factory=Counter)
    """The values seen, the first of them; no more are counted once there are too many."""
    times: int = 0
    example: str = ""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]


@dataclass(slots=True)
class MessageType:
    """Messages of one type."""

    name: str
    count: int = 0
    first_at: float = 0.0
    last_at: float = 0.0
    fields: dict[str, Field] = field(default_factory=dict)
    example: str = ""

    @property
    def rate(self) -> float:
        """Messages a second, between the first and the last."""
        seconds = self.last_at - self.first_at
        return (self.count - 1) / seconds if seconds > 0 else 0.0

    def role(self, role: str) -> str | None:
        """Return the path of the field that looks like the message's id, device, kind or time."""
        always = [each for each in self.fields.values() if each.count >= _NEARLY * self.count]
        if role == "time":
            found = [each for each in always if each.times == each.count]
            return min(found, key=_shallow).path if found else None
        names = _ROLES[role]
        found = [each for each in always if each.name.lower() in names and "text" in each.kinds]
        if role == "id":
            found = [each for each in found if len(each.values) >= min(self.count, _MOST_VALUES)]
        return min(found, key=lambda each: (names.index(each.name.lower()), *_shallow(each))).path if found else None  # fmt: skip


@dataclass(slots=True)
class Survey:
    """What was recorded. ``tag`` is the field that names the type; empty for Socket.IO and for servers with none."""

    messages: int = 0
    unreadable: int = 0
    seconds: float = 0.0
    socketio: int = 0
    """The protocol number of a Socket.IO server; 0 for any other."""
    tag: str = ""
    types: dict[str, MessageType] = field(default_factory=dict)


def survey(received: Sequence[tuple[float, str | bytes]], protocol: int = 0) -> Survey:
    """Return what messages of a server tell, with the seconds at which each came."""
    made = Survey(socketio=protocol if any(socketio.opened(text) for _, text in _texts(received[:1])) else 0)
    read: list[tuple[float, str, Any]] = []
    for at, frame in received:
        made.messages += 1
        made.seconds = at - received[0][0]
        try:
            if made.socketio:
                said = socketio.event(frame)
                if said is not None:
                    read.append((at, said[0], said[1][0] if said[1] else {}))
            else:
                read.append((at, "", orjson.loads(frame)))
        except (MalformedMessage, orjson.JSONDecodeError):
            made.unreadable += 1
    made.tag = "" if made.socketio else _tag(value for _, _, value in read)
    for at, name, value in read:
        found = (
            name
            or (str(value.get(made.tag, "")) if made.tag and isinstance(value, Mapping) else "")
            or "message"
        )
        if found not in made.types and len(made.types) >= _MOST_TYPES:
            continue
        _note(made.types.setdefault(found, MessageType(found, first_at=at)), at, value)
    return made


def _texts(received: Sequence[tuple[float, str | bytes]]) -> Iterator[tuple[float, str]]:
    for at, frame in received:
        if isinstance(frame, str):
            yield at, frame


def _tag(values: Iterable[Any]) -> str:
    """Return the field that most messages name their type by; the first of the usual names where several do."""
    counts: Counter[str] = Counter()
    total = 0
    for value in values:
        total += 1
        if isinstance(value, Mapping):
            counts.update(name for name in _TYPES if isinstance(value.get(name), str))
    return next((name for name in _TYPES if counts[name] > total / 2), "")


def _note(kind: MessageType, at: float, value: Any) -> None:
    kind.count += 1
    kind.last_at = at
    kind.example = kind.example or _short(value, 300)
    for path, each in _flat(value):
        if path not in kind.fields and len(kind.fields) >= _MOST_FIELDS:
            continue
        known = kind.fields.setdefault(path, Field(path))
        known.count += 1
        known.kinds[_json_kind(each)] += 1
        known.times += _is_time(each)
        known.example = known.example or _short(each, 60)
        if not isinstance(each, Mapping | list):
            shown = _short(each, 80)
            if shown in known.values or len(known.values) < _MOST_VALUES:
                known.values[shown] += 1


def _flat(value: Any, before: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        return
    for name, each in value.items():
        path = f"{before}{name}"
        yield path, each
        if depth < _DEPTH:
            yield from _flat(each, f"{path}.", depth + 1)


def _shallow(each: Field) -> tuple[int, str]:
    return each.path.count("."), each.path


def _json_kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "number"
        case str():
            return "text"
        case list():
            return "list"
        case _:
            return "object"


def _is_time(value: Any) -> bool:
    if isinstance(value, str) and len(value) >= len("2026-11-21"):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            return False
        return True
    if isinstance(value, int | float) and not isinstance(value, bool):
        return any(_CENTURY[0] <= value / unit < _CENTURY[1] for unit in (1, 1000))
    return False


def _short(value: Any, characters: int) -> str:
    text = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
    return text if len(text) <= characters else f"{text[: characters - 1]}…"
