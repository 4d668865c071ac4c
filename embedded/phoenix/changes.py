"""The data of a change as JSON bytes, and the frames that carry it.

A change is encoded once for each view of it (which columns, which error); the frame around it differs in topic
and ids only and is spliced from bytes, for all changes at hand at once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from embedded.phoenix.frames import Vsn, text_head

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_CHANGE_BYTES: Final = 1_048_576
"""A change whose entry in the real server's log is larger loses its values over 64 bytes, and says error 413."""
_LOG_ENTRY: Final = len(
    '{"pk": [], "table": "", "action": "I", "schema": "", "columns": [], "identity": [], '
    '"timestamp": "2026-11-20 23:45:46.784000+00"}'
)
_LOG_COLUMN: Final = len('{"name": "", "type": "", "value": , "typeoid": 20}, ') - len('"": , ')
_KEPT_VALUE_BYTES: Final = 64

UNAUTHORIZED: Final = "Error 401: Unauthorized"
NO_PRIMARY_KEY: Final = "Error 400: Bad Request, no primary key"
TOO_LARGE: Final = "Error 413: Payload Too Large"

_STRING_END: Final = json.decoder.scanstring  # type: ignore[attr-defined]  # the C scanner of the standard library


class ChangeData(NamedTuple):
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
        head, named = _constant_parts(self.schema, self.table, self.type, self.columns, self.error)
        timestamp = b"null" if self.timestamp is None else b'"%b"' % self.timestamp.encode()
        record = b"" if self.record is None else b'"record":%b,' % self.record
        old_record = b"" if self.old_record is None else b',"old_record":%b' % self.old_record
        return b"".join((head, record, named, timestamp, old_record, b"}"))


@lru_cache(maxsize=1024)
def _constant_parts(
    schema: str, table: str, change_type: str, columns: bytes, error: str | None
) -> tuple[bytes, bytes]:
    """Return what is the same for many changes: all before the record, and all between it and the time."""
    head = b'{"table":%b,"type":"%b",' % (orjson.dumps(table), change_type.encode())
    errors = orjson.dumps(None if error is None else [error])
    named = b'"columns":%b,"errors":%b,"schema":%b,"commit_timestamp":'
    return head, named % (columns, errors, orjson.dumps(schema))


@dataclass(frozen=True, slots=True)
class Envelope:
    """What stands around the data in the frames of a channel, but for the channel's topic.

    Frames of many channels differ in nothing but the topic, which each has once: so what comes before and behind it
    is made once for all of them. `topic_first` says on which side of the data it is.
    """

    start: bytes
    middle: bytes
    end: bytes
    topic_first: bool

    @classmethod
    def of(cls, vsn: Vsn, ids: Iterable[int]) -> Envelope:
        """Return the envelope of a `postgres_changes` event."""
        numbers = b',"ids":' + orjson.dumps(list(ids))
        if vsn is Vsn.V2:
            return cls(b"[null,null,", b',"postgres_changes",{"data":', numbers + b"}]", topic_first=True)
        before = b'{"ref":null,"event":"postgres_changes","payload":{"data":'
        return cls(before, numbers + b'},"topic":', b"}", topic_first=False)

    @classmethod
    def legacy(cls, vsn: Vsn, change_type: str) -> Envelope:
        """Return the envelope for a channel joined without `config`: the event is the type, the data the payload."""
        event = orjson.dumps(change_type)
        if vsn is Vsn.V2:
            return cls(b"[null,null,", b"," + event + b",", b"]", topic_first=True)
        before = b'{"ref":null,"event":' + event + b',"payload":'
        return cls(before, b',"topic":', b"}", topic_first=False)

    def around(self, data: bytes) -> tuple[bytes, bytes]:
        """Return all that comes before and behind the topic's JSON."""
        if self.topic_first:
            return self.start, b"".join((self.middle, data, self.end))
        return b"".join((self.start, data, self.middle)), self.end


def spliced(pieces: Iterable[tuple[bytes, bytes]], topic_bytes: int) -> list[bytes]:
    """Return the WebSocket frames of several messages, with holes for a topic whose JSON has so many bytes.

    The pieces are what comes before and behind the topic of each message. `topic.join(...)` of the result fills
    the holes: one copy for any number of messages.
    """
    parts: list[bytes] = []
    behind = b""
    for before, after in pieces:
        parts.append(b"".join((behind, text_head(len(before) + topic_bytes + len(after)), before)))
        behind = after
    parts.append(behind)
    return parts


def is_too_large(sizes: Iterable[int], columns: Iterable[tuple[str, str]]) -> bool:
    """Say whether a change gets error 413; `sizes` are those of its record and old record as JSON.

    The real server measures the entry of wal2json, which names and types every value: about 60 bytes more for each
    than the record has. Type names are spelled otherwise there, so that a few bytes are uncertain.
    """
    sizes = tuple(sizes)
    if sum(sizes) > MAX_CHANGE_BYTES:
        return True
    described = sum(_LOG_COLUMN + len(type_name) for _, type_name in columns)
    return _LOG_ENTRY + sum(size + described for size in sizes if size) > MAX_CHANGE_BYTES


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
