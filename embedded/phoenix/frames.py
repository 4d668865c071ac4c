"""Frames of the two versions of the Phoenix protocol, and their WebSocket framing.

vsn 1.0.0 is a JSON object, vsn 2.0.0 an array `[join_ref, ref, topic, event, payload]`. Server frames of 1.0.0
carry no join_ref and always a ref, in the key order `ref, event, payload, topic`; strict clients depend on the
keys being there (realtime-py drops a frame without `ref`).

vsn 2.0.0 has binary frames too: a byte for the kind, one for the size of each field (and for kind 3 one for the
encoding of the payload), the fields, and the payload up to the end. Clients send kind 0, a message whose payload is
bytes, and kind 3, a broadcast of theirs. What the server sends in binary is made in `broadcast`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

import orjson

from embedded.phoenix import numbers

MAX_FRAME_BYTES: Final = 5_000_000
"""Largest frame accepted from a client; a larger one closes the connection with 1009."""

_TEXT_FRAME: Final = 0x81  # FIN and opcode 1 (RFC 6455 section 5.2); a server does not mask
_BINARY_FRAME: Final = 0x82  # FIN and opcode 2
_LENGTH_16: Final = 126
_LENGTH_64: Final = 127
_V2_FIELDS: Final = 5
_PUSH_KIND: Final = 0
_USER_PUSH_KIND: Final = 3
_ENCODINGS: Final = {0: False, 1: True}
_DEEP: Final = 200
_RELAYED: Final = frozenset({"broadcast", "presence"})


class Vsn(StrEnum):
    """A protocol version that is spoken here."""

    V1 = "1.0.0"
    V2 = "2.0.0"


def parse_vsn(text: str | None) -> Vsn | None:
    """Return the version that the query parameter asks for (none asks for 1.0.0), None if it is not spoken.

    Phoenix matches `~> 1.0.0` and `~> 2.0.0`: any patch level will do, another minor version will not.
    """
    if text is None:
        return Vsn.V1
    major, _, rest = text.partition(".")
    minor, _, patch = rest.partition(".")
    if minor != "0" or not (patch.isascii() and patch.isdecimal()):
        return None
    return {"1": Vsn.V1, "2": Vsn.V2}.get(major)


@dataclass(frozen=True, slots=True)
class Message:
    """One frame. Refs and topic are whatever JSON the client put there: they are echoed, not judged."""

    join_ref: Any
    ref: Any
    topic: Any
    event: Any
    payload: Any


@dataclass(frozen=True, slots=True)
class UserPush:
    """The payload of a binary frame of kind 3: an event of the client's own; its metadata is dropped."""

    event: str
    data: bytes
    is_json: bool
    """As the client says; nobody has checked."""


def decode(vsn: Vsn, data: str | bytes) -> Message | None:
    """Return the message in a text frame, or None if it is malformed.

    Malformed frames are dropped and the connection stays open, as the real server has it. Nesting so deep that it
    could not be written again counts as malformed.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    message = _message(vsn, value)
    if message is None or not _shallow(data, value):
        return None
    if isinstance(message.event, str) and message.event in _RELAYED:
        exact = numbers.exact(data, message.payload)
        if exact is not None:
            payload = exact[_V2_FIELDS - 1] if vsn is Vsn.V2 else exact["payload"]
            return Message(message.join_ref, message.ref, message.topic, message.event, payload)
    return message


def _message(vsn: Vsn, value: Any) -> Message | None:
    if vsn is Vsn.V2:
        return Message(*value) if isinstance(value, list) and len(value) == _V2_FIELDS else None
    if not isinstance(value, dict) or not value.keys() >= {"topic", "event", "payload", "ref"}:
        return None
    return Message(value.get("join_ref"), value["ref"], value["topic"], value["event"], value["payload"])


def _shallow(data: str | bytes, value: Any) -> bool:
    """Say whether the value can be encoded again: decoding goes deeper than encoding does."""
    brackets = (
        data.count("[") + data.count("{") if isinstance(data, str) else data.count(b"[") + data.count(b"{")
    )
    if brackets < _DEEP:
        return True
    try:
        # ten levels are kept for what goes around it in answers
        for _ in range(10):
            value = [value]
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        return False
    return True


def decode_binary(vsn: Vsn, data: bytes) -> Message | None:
    """Return the message in a binary frame, or None if it is malformed; 1.0.0 has no binary frames.

    The payload is `bytes` for kind 0 and a `UserPush` for kind 3. Refs are text, and "" where there is none.
    """
    kind = data[0] if data and vsn is Vsn.V2 else None
    if kind == _PUSH_KIND:
        found = _fields(data, 4, 5)
        if found is not None:
            (join_ref, ref, topic, event), rest = found
            return Message(join_ref, ref, topic, event, rest)
    if kind == _USER_PUSH_KIND:
        found = _fields(data, 5, 7)
        if found is not None and data[6] in _ENCODINGS:
            (join_ref, ref, topic, event, _), rest = found
            return Message(join_ref, ref, topic, "broadcast", UserPush(event, rest, _ENCODINGS[data[6]]))
    return None


def _fields(data: bytes, count: int, start: int) -> tuple[list[str], bytes] | None:
    """Return the fields, whose sizes follow the kind and whose text begins at `start`, and the rest."""
    if len(data) < start:
        return None
    fields: list[str] = []
    for size in data[1 : 1 + count]:
        if len(data) < start + size:
            return None
        try:
            fields.append(data[start : start + size].decode())
        except UnicodeDecodeError:
            return None
        start += size
    return fields, data[start:]


def encode(vsn: Vsn, message: Message) -> bytes:
    """Return the text of a frame to a client."""
    if vsn is Vsn.V2:
        return orjson.dumps([message.join_ref, message.ref, message.topic, message.event, message.payload])
    return orjson.dumps(
        {"ref": message.ref, "event": message.event, "payload": message.payload, "topic": message.topic}
    )


def reply(to: Message, join_ref: Any, *, status: str, response: Any) -> Message:
    """Return the phx_reply to a message; `join_ref` is the channel's, or null where there is none."""
    return Message(join_ref, to.ref, to.topic, "phx_reply", {"status": status, "response": response})


def close(join_ref: Any, topic: str) -> Message:
    """Return the phx_close of a channel: its join_ref is the ref too, the only place 1.0.0 can show it."""
    return Message(join_ref, join_ref, topic, "phx_close", {})


def system(join_ref: Any, topic: str, *, extension: str, status: str, text: str) -> Message:
    """Return a `system` message; realtime-py needs all four keys of its payload."""
    payload = {
        "message": text,
        "status": status,
        "extension": extension,
        "channel": topic.removeprefix("realtime:"),
    }
    return Message(join_ref, None, topic, "system", payload)


def text_frame(payload: bytes) -> bytes:
    """Return `payload` as one unmasked WebSocket text frame, ready for the transport (RFC 6455 section 5.2)."""
    return _frame(_TEXT_FRAME, payload)


def binary_frame(payload: bytes) -> bytes:
    """Return `payload` as one unmasked WebSocket binary frame, ready for the transport."""
    return _frame(_BINARY_FRAME, payload)


@lru_cache(maxsize=4096)
def text_head(size: int) -> bytes:
    """Return what comes before the payload in a text frame with a payload of so many bytes."""
    return _head(_TEXT_FRAME, size)


def _frame(first: int, payload: bytes) -> bytes:
    return _head(first, len(payload)) + payload


def _head(first: int, size: int) -> bytes:
    if size < _LENGTH_16:
        return bytes((first, size))
    if size < 1 << 16:
        return bytes((first, _LENGTH_16)) + size.to_bytes(2)
    return bytes((first, _LENGTH_64)) + size.to_bytes(8)
