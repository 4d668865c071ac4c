"""Frames of the two versions of the Phoenix protocol, as text, and their WebSocket framing.

vsn 1.0.0 is a JSON object, vsn 2.0.0 an array `[join_ref, ref, topic, event, payload]`. Server frames of 1.0.0
carry no join_ref and always a ref, in the key order `ref, event, payload, topic`; strict clients depend on the
keys being there (realtime-py drops a frame without `ref`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import orjson

MAX_FRAME_BYTES: Final = 5_000_000
"""Largest frame accepted from a client; a larger one closes the connection with 1009."""

_TEXT_FRAME: Final = 0x81  # FIN and opcode 1 (RFC 6455 section 5.2); a server does not mask
_BINARY_FRAME: Final = 0x82  # FIN and opcode 2
_LENGTH_16: Final = 126
_LENGTH_64: Final = 127
_V2_FIELDS: Final = 5


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


def decode(vsn: Vsn, data: str | bytes) -> Message | None:
    """Return the message in a text frame, or None if it is malformed.

    Malformed frames are dropped and the connection stays open, as the real server has it.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if vsn is Vsn.V2:
        if not isinstance(value, list) or len(value) != _V2_FIELDS:
            return None
        return Message(*value)
    if not isinstance(value, dict) or not value.keys() >= {"topic", "event", "payload", "ref"}:
        return None
    return Message(value.get("join_ref"), value["ref"], value["topic"], value["event"], value["payload"])


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


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < _LENGTH_16:
        return bytes((first, size)) + payload
    if size < 1 << 16:
        return bytes((first, _LENGTH_16)) + size.to_bytes(2) + payload
    return bytes((first, _LENGTH_64)) + size.to_bytes(8) + payload
