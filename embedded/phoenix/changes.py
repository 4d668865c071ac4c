"""The data of a change as JSON bytes, and the frames that carry it.

A change is encoded once for each view of it (which columns, which error); the frame around it differs in topic
and ids only and is spliced from bytes, which costs a third of encoding it anew.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

from embedded.phoenix.frames import Vsn, text_frame

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_CHANGE_BYTES: Final = 1_048_576
"""A change whose JSON is larger loses its values over 64 bytes, and says error 413."""
_KEPT_VALUE_BYTES: Final = 64

UNAUTHORIZED: Final = "Error 401: Unauthorized"
NO_PRIMARY_KEY: Final = "Error 400: Bad Request, no primary key"
TOO_LARGE: Final = "Error 413: Payload Too Large"

_STRING_END: Final = json.decoder.scanstring  # type: ignore[attr-defined]  # the C scanner of the standard library


@dataclass(frozen=True, slots=True)
class ChangeData:
    """One change as somebody may see it. `record` and `old_record` are JSON objects; None leaves the key out.

    `columns` is the JSON list of names and types; `timestamp` the commit time in UTC with three decimals, None
    where the real server does not say it (errors 400 and 401).
    """

    schema: str
    table: str
    type: str
    record: bytes | None
    old_record: bytes | None
    columns: bytes
    timestamp: str | None
    error: str | None = None

    def encoded(self) -> bytes:
        """Return the object, keys in the real server's order."""
        parts = [b'{"table":', orjson.dumps(self.table), b',"type":"', self.type.encode()]
        if self.record is not None:
            parts += (b'","record":', self.record, b',"columns":')
        else:
            parts.append(b'","columns":')
        parts += (
            self.columns,
            b',"errors":',
            orjson.dumps(None if self.error is None else [self.error]),
            b',"schema":',
            orjson.dumps(self.schema),
            b',"commit_timestamp":',
            orjson.dumps(self.timestamp),
        )
        if self.old_record is not None:
            parts += (b',"old_record":', self.old_record)
        parts.append(b"}")
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What stands around the data in the frames of one channel: everything but the data itself."""

    before: bytes
    after: bytes

    @classmethod
    def of(cls, vsn: Vsn, topic: str, ids: Iterable[int]) -> Envelope:
        """Return the envelope of a `postgres_changes` event."""
        name, numbers = orjson.dumps(topic), orjson.dumps(list(ids))
        if vsn is Vsn.V2:
            return cls(b"[null,null," + name + b',"postgres_changes",{"data":', b',"ids":' + numbers + b"}]")
        return cls(
            b'{"ref":null,"event":"postgres_changes","payload":{"data":',
            b',"ids":' + numbers + b'},"topic":' + name + b"}",
        )

    @classmethod
    def legacy(cls, vsn: Vsn, topic: str, change_type: str) -> Envelope:
        """Return the envelope for a channel joined without `config`: the event is the type, the data the payload."""
        name, event = orjson.dumps(topic), orjson.dumps(change_type)
        if vsn is Vsn.V2:
            return cls(b"[null,null," + name + b"," + event + b",", b"]")
        return cls(b'{"ref":null,"event":' + event + b',"payload":', b',"topic":' + name + b"}")

    def frame(self, data: bytes) -> bytes:
        """Return the WebSocket frame, ready for the transport."""
        return text_frame(self.before + data + self.after)


def columns_json(columns: Iterable[tuple[str, str]]) -> bytes:
    """Return names and types as the real server prints them, which is how PostgreSQL prints jsonb."""
    text = ", ".join(
        f'{{"name": {json.dumps(name, ensure_ascii=False)}, "type": {json.dumps(type_name, ensure_ascii=False)}}}'
        for name, type_name in columns
    )
    return f"[{text}]".encode()


def only(record: bytes, names: frozenset[str]) -> bytes:
    """Return the members of a record with these names, in their order."""
    return _joined((key, value) for key, value in members(record) if key in names)


def without_large(record: bytes) -> bytes:
    """Return the members of a record whose values are short enough for error 413."""
    return _joined((k, v) for k, v in members(record) if len(v.encode()) <= _KEPT_VALUE_BYTES)


def members(record: bytes) -> list[tuple[str, str]]:
    """Return the members of a JSON object as pairs of key and value text.

    Values are cut out, not decoded: numbers keep all their digits. The record comes from our own decoder, so
    it is well-formed with `: ` and `, ` between things; ValueError says that it is not.
    """
    text = record.decode()
    result: list[tuple[str, str]] = []
    position = 1
    while text[position] != "}":
        key, position = _STRING_END(text, text.index('"', position) + 1)
        start = text.index(":", position) + 1
        position = _value_end(text, start)
        result.append((key, text[start:position].strip()))
        if text[position] == ",":
            position += 1
    return result


def _value_end(text: str, position: int) -> int:
    """Return where the value that starts here ends: the next comma or closing brace of the same level."""
    depth = 0
    while True:
        char = text[position]
        if char == '"':
            _, position = _STRING_END(text, position + 1)
            continue
        if char in "[{":
            depth += 1
        elif char in "]}":
            if not depth:
                return position
            depth -= 1
        elif char == "," and not depth:
            return position
        position += 1


def _joined(pairs: Iterable[tuple[str, str]]) -> bytes:
    body = ", ".join(f"{json.dumps(key, ensure_ascii=False)}: {value}" for key, value in pairs)
    return f"{{{body}}}".encode()
