"""The part of PostgreSQL's frontend/backend protocol that a replication client speaks, as bytes in and values out.

PostgreSQL documentation, "Frontend/Backend Protocol": message formats, and "Streaming Replication Protocol".
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from embedded.errors import ProtocolError, ServerError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROTOCOL_3_0 = 196608
_LARGEST_MESSAGE_BYTES = 1 << 30  # PostgreSQL's own limit of a message
_HEADER = struct.Struct("!BI")
_STATUS = struct.Struct("!cQQQqB")
_XLOG_HEADER = struct.Struct("!cQQq")
_KEEPALIVE = struct.Struct("!cQqB")
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

AUTHENTICATION: Final = ord("R")
COPY_BOTH: Final = ord("W")
COPY_DATA: Final = ord("d")
COPY_DONE: Final = ord("c")
DATA_ROW: Final = ord("D")
ERROR: Final = ord("E")
READY: Final = ord("Z")


def timestamp(microseconds: int) -> datetime:
    """Return PostgreSQL's count of microseconds since 2000 as a point in time."""
    return _EPOCH + timedelta(microseconds=microseconds)


def microseconds(moment: datetime) -> int:
    """Return a point in time as PostgreSQL's count of microseconds since 2000."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def lsn_text(lsn: int) -> str:
    """Write a WAL position as PostgreSQL does, ``16/B374D848``."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def parse_lsn(text: str) -> int:
    """Read a WAL position. Raises ProtocolError."""
    high, _slash, low = text.partition("/")
    try:
        return (int(high, 16) << 32) + int(low, 16)
    except ValueError as error:
        raise ProtocolError(f"{text!r} is not a WAL position.") from error


# ---- to the server ----


def startup(parameters: Mapping[str, str]) -> bytes:
    """The first message of a connection."""
    pairs = "".join(f"{name}\0{value}\0" for name, value in parameters.items()).encode()
    body = struct.pack("!I", _PROTOCOL_3_0) + pairs + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def query(sql: str) -> bytes:
    """A simple query; also carries replication commands."""
    body = sql.encode() + b"\0"
    return _HEADER.pack(ord("Q"), len(body) + 4) + body


def terminate() -> bytes:
    """The orderly end of a connection."""
    return _HEADER.pack(ord("X"), 4)


def standby_status(received: int, flushed: int, now: datetime) -> bytes:
    """How far we are: ``received`` seen, ``flushed`` dealt with, so that the server may forget it."""
    body = _STATUS.pack(b"r", received, flushed, flushed, microseconds(now), 0)
    return _HEADER.pack(COPY_DATA, len(body) + 4) + body


# ---- from the server ----


class Frames:
    """Cuts a byte stream into messages, however it arrives in pieces."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return the messages that are complete now, as (tag, payload). Raises ProtocolError."""
        if self._rest:
            self._rest += data
            if len(self._rest) < _HEADER.size:
                return []
            if len(self._rest) <= _HEADER.unpack_from(self._rest)[1] <= _LARGEST_MESSAGE_BYTES:
                return []  # a large message in many pieces is copied once, at its end
            data = bytes(self._rest)
            self._rest.clear()
        messages = []
        position, end = 0, len(data)
        while end - position >= _HEADER.size:
            tag, length = _HEADER.unpack_from(data, position)
            if not 4 <= length <= _LARGEST_MESSAGE_BYTES:  # noqa: PLR2004 - the length counts itself
                raise ProtocolError(
                    f"PostgreSQL sent a message of {length} bytes; the stream cannot be read on."
                )
            following = position + 1 + length
            if following > end:
                break
            messages.append((tag, data[position + 5 : following]))
            position = following
        if position < end:
            self._rest += data[position:]
        return messages


def parse_error(payload: bytes) -> ServerError:
    """Read an ErrorResponse."""
    fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in payload.split(b"\0") if part}
    return ServerError(
        fields.get(b"C", "XX000"),
        fields.get(b"M", "no message"),
        fields.get(b"H") or fields.get(b"D"),
        fields.get(b"V", "ERROR"),
    )


def parse_authentication(payload: bytes) -> int:
    """Read which kind of authentication the server asks for; 0 when it is content. Raises ProtocolError."""
    if len(payload) < 4:  # noqa: PLR2004 - an int32
        raise ProtocolError("PostgreSQL sent an authentication request that is cut short.")
    return int.from_bytes(payload[:4], "big")


def parse_row(payload: bytes) -> tuple[str | None, ...]:
    """Read a DataRow in text format. Raises ProtocolError."""
    values: list[str | None] = []
    count = int.from_bytes(payload[:2], "big")
    position = 2
    for _ in range(count):
        length = int.from_bytes(payload[position : position + 4], "big", signed=True)
        position += 4
        if length < 0:
            values.append(None)
            continue
        values.append(payload[position : position + length].decode("utf-8", "replace"))
        position += length
    if position != len(payload):
        raise ProtocolError("PostgreSQL sent a row that is cut short.")
    return tuple(values)


class XLogData(NamedTuple):
    """One message of the output plugin. ``wal_end`` is where the server's WAL ends."""

    wal_start: int
    wal_end: int
    data: bytes


class Keepalive(NamedTuple):
    """The server lives; everything up to ``wal_end`` was sent, and it may want to know how far we are."""

    wal_end: int
    reply_requested: bool


def parse_copy_data(payload: bytes) -> XLogData | Keepalive:
    """Read what a CopyData message of the replication stream carries. Raises ProtocolError."""
    kind = payload[:1]
    if kind == b"w" and len(payload) >= _XLOG_HEADER.size:
        _kind, start, end, _sent_at = _XLOG_HEADER.unpack_from(payload)
        return XLogData(start, end, payload[_XLOG_HEADER.size :])
    if kind == b"k" and len(payload) == _KEEPALIVE.size:
        _kind, end, _sent_at, reply = _KEEPALIVE.unpack(payload)
        return Keepalive(end, bool(reply))
    raise ProtocolError(f"PostgreSQL sent a replication message of an unknown kind {kind!r}.")
