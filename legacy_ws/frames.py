"""WebSocket text frames of a server (RFC 6455, 5.2; RFC 7692), made once for all who get them.

The library would frame, and compress, each message anew for each connection. Compressed without context a frame is the
same for everybody, costs as much as one of its receivers' writes, and makes each of the writes cheaper.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

Framing = Callable[[bytes], bytes]
"""Returns UTF-8 text as one unmasked frame."""

WINDOW_BITS: Final = 12
"""The window that compressed frames need of their reader (RFC 7692, 7.1.2)."""
_FIN_TEXT = 0x81
_RSV1 = 0x40
_SHORT, _MEDIUM = 126, 1 << 16
_SAVES_FROM_BYTES = 200
"""Shorter messages lose less than a packet has for headers."""
_LEVEL, _MEMORY = 1, 5
"""Of messages of a few kB higher ones save a tenth more, for twice the time."""
_SYNC_TAIL = 4
"""Octets that every flush ends with, and the reader adds by itself (RFC 7692, 7.2.1)."""


def text_frame(message: bytes) -> bytes:
    """Return the message as it is."""
    return _frame(_FIN_TEXT, message)


def deflated_frame(message: bytes) -> bytes:
    """Return the message compressed where that saves something, for who has negotiated permessage-deflate."""
    if len(message) < _SAVES_FROM_BYTES:
        return text_frame(message)
    squeeze = zlib.compressobj(_LEVEL, zlib.DEFLATED, -WINDOW_BITS, _MEMORY)
    body = (squeeze.compress(message) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-_SYNC_TAIL]
    return _frame(_FIN_TEXT | _RSV1, body) if len(body) < len(message) else text_frame(message)


def _frame(first: int, body: bytes) -> bytes:
    size = len(body)
    if size < _SHORT:
        return bytes((first, size)) + body
    if size < _MEDIUM:
        return bytes((first, 126)) + size.to_bytes(2, "big") + body
    return bytes((first, 127)) + size.to_bytes(8, "big") + body
