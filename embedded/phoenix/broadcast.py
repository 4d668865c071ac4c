"""What is broadcast to a room, and the frames that carry it to clients of either protocol version.

Three kinds of message go around, as on the real server:

- `TextBroadcast`: a JSON payload that a client sent in a text frame, or a batch of the REST API. It is text for
  everybody.
- `UserBroadcast`: an event with a payload of bytes, from a binary frame of kind 3, from the database or from the
  REST API for one message. Clients of 2.0.0 get a binary frame of kind 4; those of 1.0.0 get text if the payload is
  JSON and nothing otherwise.
- `BinaryBroadcast`: the data of a binary frame of kind 0, handed on as kind 2 to clients of 2.0.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import orjson

from embedded.phoenix.frames import Vsn, binary_frame, text_frame

TOPIC_PREFIX: Final = "realtime:"
MAX_FIELD_BYTES: Final = 255
"""Sizes in binary frames are one byte."""

_BROADCAST_KIND: Final = 2
_USER_BROADCAST_KIND: Final = 4
_JSON: Final = 1
_BYTES: Final = 0


@dataclass(frozen=True, slots=True)
class Room:
    """Everybody who joined a topic; the public and the private room of one topic have nothing in common.

    `topic` is without the prefix `realtime:`, as `realtime.messages`, policies and the REST API have it.
    """

    topic: str
    private: bool

    @property
    def channel_topic(self) -> str:
        """The topic as frames have it."""
        return TOPIC_PREFIX + self.topic


@dataclass(frozen=True, slots=True)
class TextBroadcast:
    """A payload `{"event": …, "payload": …, "type": "broadcast"}` as JSON text, keys in order; it is not checked."""

    payload: bytes

    def frame(self, vsn: Vsn, room: Room) -> bytes | None:
        """Return the WebSocket frame for clients of this version."""
        return text_frame(_envelope(vsn, room, self.payload))


@dataclass(frozen=True, slots=True)
class UserBroadcast:
    """An event with its payload: JSON text if `is_json`, else any bytes.

    `meta` is a JSON object (`{"id":"…"}` of a message from the database), None where there is none. JSON of
    clients is not validated on its way in: what is not JSON reaches clients of 2.0.0, who see bytes that they can
    judge, and not those of 1.0.0, whose whole frame it would break (the real server breaks it).
    """

    event: str
    payload: bytes
    is_json: bool = True
    meta: bytes | None = None
    trusted: bool = False
    """The payload is known to be JSON: it comes from PostgreSQL or was parsed before."""

    def frame(self, vsn: Vsn, room: Room) -> bytes | None:
        """Return the WebSocket frame for clients of this version, None if they get nothing."""
        if vsn is Vsn.V2:
            return self._binary(room)
        return self._text(vsn, room)

    def _binary(self, room: Room) -> bytes | None:
        topic, event, meta = room.channel_topic.encode(), self.event.encode(), self.meta or b""
        if max(len(topic), len(event), len(meta)) > MAX_FIELD_BYTES:
            return self._text(Vsn.V2, room)  # does not fit into kind 4
        sizes = bytes(
            (_USER_BROADCAST_KIND, len(topic), len(event), len(meta), _JSON if self.is_json else _BYTES)
        )
        return binary_frame(sizes + topic + event + meta + self.payload)

    def _text(self, vsn: Vsn, room: Room) -> bytes | None:
        if not self.is_json or not (self.trusted or _is_json(self.payload)):
            return None
        meta = b"" if self.meta is None else b',"meta":' + self.meta
        event = orjson.dumps(self.event)
        payload = b'{"event":' + event + meta + b',"payload":' + self.payload + b',"type":"broadcast"}'
        return text_frame(_envelope(vsn, room, payload))


@dataclass(frozen=True, slots=True)
class BinaryBroadcast:
    """The data of a `broadcast` that a client pushed in a binary frame of kind 0."""

    data: bytes

    def frame(self, vsn: Vsn, room: Room) -> bytes | None:
        """Return the WebSocket frame; clients of 1.0.0 get nothing (the real server sends them broken JSON)."""
        topic, event = room.channel_topic.encode(), b"broadcast"
        if vsn is Vsn.V1 or len(topic) > MAX_FIELD_BYTES:
            return None
        return binary_frame(bytes((_BROADCAST_KIND, len(topic), len(event))) + topic + event + self.data)


@dataclass(frozen=True, slots=True)
class Diff:
    """Who came and went in a room's presence: `{"joins": …, "leaves": …}` as JSON text."""

    payload: bytes

    def frame(self, vsn: Vsn, room: Room) -> bytes | None:
        """Return the WebSocket frame for clients of this version."""
        return text_frame(_envelope(vsn, room, self.payload, event=b'"presence_diff"'))


Broadcast = TextBroadcast | UserBroadcast | BinaryBroadcast


def _envelope(vsn: Vsn, room: Room, payload: bytes, *, event: bytes = b'"broadcast"') -> bytes:
    topic = orjson.dumps(room.channel_topic)
    if vsn is Vsn.V2:
        return b"[null,null," + topic + b"," + event + b"," + payload + b"]"
    return b'{"ref":null,"event":' + event + b',"payload":' + payload + b',"topic":' + topic + b"}"


def _is_json(payload: bytes) -> bool:
    try:
        orjson.loads(payload)
    except orjson.JSONDecodeError:
        return False
    return True
