"""Whether two recordings of one scenario say the same, connection by connection.

A connection's frames are cut into phases at each frame it sends and each SQL statement. Within a phase order does
not count (the real server does not fix it), and a frame may slip by two phases (timing). Left out of the comparison:
generated ids, refs of presence, times of now, ages in seconds, and which number a binding's id is (ids are numbered
by first use). Everything else has to be equal. Two recordings of the real server agree under these rules.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.conformance.transcript import Line

_GIVEN_IDS: Final = frozenset(
    ("11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222")
)
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NOW: Final = re.compile(r"20(?:2[6-9]|3\d)-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?")
_AGE: Final = re.compile(r"\d+ seconds ago")
_SLIP_PHASES: Final = 2
_V2_PARTS: Final = 5
_TRUNCATED_KEPT: Final = 200
_BROADCAST: Final = 4
_BINARY_HEADER: Final = 5

Ids = dict[int, int]
"""Binding ids of a connection, numbered by first use."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Something a connection received: in which phase, and what, as text that is equal when it counts as equal."""

    phase: int
    key: str


@dataclass(frozen=True, slots=True)
class Difference:
    """What a connection received in one recording and not in the other."""

    connection: str
    expected: bool
    """True: in the reference and not in ours. False: the other way round."""
    key: str

    def __str__(self) -> str:
        return f"{self.connection} {'-' if self.expected else '+'} {self.key}"


def differences(reference: Iterable[Line], ours: Iterable[Line]) -> list[Difference]:
    """Return what differs between two recordings, by connection; nothing means the same."""
    wanted, got = observations(reference), observations(ours)
    found: list[Difference] = []
    for connection in sorted(wanted.keys() | got.keys()):
        missing, extra = _unmatched(wanted.get(connection, []), got.get(connection, []))
        found += [Difference(connection, True, key) for key in missing]
        found += [Difference(connection, False, key) for key in extra]
    return found


def observations(lines: Iterable[Line]) -> dict[str, list[Seen]]:
    """Return what each connection received, `http` standing for requests without one."""
    own: Counter[str] = Counter()
    statements = 0
    ids: dict[str, Ids] = defaultdict(dict)
    seen: dict[str, list[Seen]] = defaultdict(list)
    for line in lines:
        name = line.get("conn", "http")
        match line["dir"]:
            case "send" | "http_request":
                own[name] += 1
                continue
            case "sql":
                statements += 1
                continue
            case "recv":
                key = json.dumps(frame(line, ids[name]), sort_keys=True, default=str)
            case "http_response":
                key = json.dumps(["http", line["status"], _scalar(line.get("body") or "")])
            case "open":
                key = "open"
            case "close":
                key = json.dumps(["close", line.get("code")])
            case _:
                continue
        seen[name].append(Seen(own[name] + statements, key))
    return dict(seen)


def _unmatched(reference: Sequence[Seen], ours: Sequence[Seen]) -> tuple[list[str], list[str]]:
    left: dict[str, list[int]] = defaultdict(list)
    for seen in ours:
        left[seen.key].append(seen.phase)
    missing: list[str] = []
    for seen in reference:
        phases = left[seen.key]
        # one near in time if there is one, so that equal frames pair up as they came
        near = next((phase for phase in phases if abs(phase - seen.phase) <= _SLIP_PHASES), None)
        if near is not None:
            phases.remove(near)
        elif phases:
            phases.pop(0)
        else:
            missing.append(seen.key)
    return missing, [key for key, phases in left.items() for _ in phases]


# -- normal form


def frame(line: Line, ids: Ids) -> Any:
    """Return a received frame in normal form; `ids` grows by the binding ids it brings."""
    if line.get("op") == "binary":
        return _binary(bytes.fromhex(line["hex"]), ids)
    text = str(line.get("data", ""))
    if line.get("truncated"):
        return ["truncated", _scalar(text[:_TRUNCATED_KEPT])]
    try:
        value = json.loads(text, parse_float=Decimal)
    except ValueError:
        return ["text", text]
    _number_bindings(value, ids)
    return _normal(value, None, ids)


def _number_bindings(value: Any, ids: Ids) -> None:
    """Give the bindings that a join reply lists their numbers."""
    if isinstance(value, dict):
        event, payload = value.get("event"), value.get("payload")
    elif isinstance(value, list) and len(value) == _V2_PARTS:
        event, payload = value[3], value[4]
    else:
        return
    response = payload.get("response") if event == "phx_reply" and isinstance(payload, dict) else None
    bindings = response.get("postgres_changes") if isinstance(response, dict) else None
    for binding in bindings or []:
        if isinstance(binding, dict) and isinstance(binding.get("id"), int):
            number = ids.setdefault(binding["id"], len(ids))
            binding["id"] = ["binding", number]


def _binary(data: bytes, ids: Ids) -> Any:
    if data[:1] != bytes([_BROADCAST]):
        return ["binary", data.hex()]
    parts: list[bytes] = []
    position = _BINARY_HEADER
    for size in data[1:4]:
        parts.append(data[position : position + size])
        position += size
    topic, event, meta = parts
    return [
        "kind4",
        data[4],
        topic.decode("utf-8", "replace"),
        event.decode("utf-8", "replace"),
        _json_or_hex(meta, ids) if meta else None,
        _json_or_hex(data[position:], ids),
    ]


def _json_or_hex(data: bytes, ids: Ids) -> Any:
    try:
        return _normal(json.loads(data), None, ids)
    except ValueError:
        return data.hex()


def _normal(value: Any, key: str | None, ids: Ids) -> Any:  # noqa: PLR0911  # one per rule
    match value:
        case dict():
            return {_scalar(name): _normal(item, name, ids) for name, item in value.items()}
        case list() if key == "ids":
            return [ids.setdefault(number, len(ids)) for number in value]
        case list():
            return [_normal(item, key, ids) for item in value]
        case None:
            return None
        case _ if key in ("phx_ref", "phx_ref_prev"):
            return "<ref>"
        case int() if key == "id" and value in ids:
            return ids[value]
        case str():
            return _scalar(value)
        case _:
            return value


def _scalar(text: str) -> str:
    text = _UUID.sub(lambda found: found[0] if found[0] in _GIVEN_IDS else "<uuid>", text)
    text = _NOW.sub("<now>", text)
    return _AGE.sub("<n> seconds ago", text)
