"""A server's WebSocket frames, found in a stream of bytes and repeated (RFC 6455, section 5.2). Pure."""

from __future__ import annotations

_SWITCHED = b"HTTP/1.1 101"
_HEAD_END = b"\r\n\r\n"
_HEAD_BYTES = 16 * 1024
_FINAL = 0x80
_MASKED = 0x80
_DATA = (0x1, 0x2)
"""Text and binary. Repeated control frames would be a closing handshake or a pong that nobody asked for."""


class Duplicator:
    """Passes a server's bytes on, each whole data message twice if asked to; one for each connection.

    Anything but a WebSocket passes unchanged. A message in fragments passes once: its parts repeated would be invalid.
    """

    def __init__(self) -> None:
        self._pending = b""
        self._passing = 0  # bytes of the frame that is on its way
        self._upgraded: bool | None = None  # None until the head of the answer is there
        self.messages = 0
        """Messages that were sent twice."""

    def receive(self, data: bytes, *, twice: bool) -> bytes:
        """Take bytes, return what can be passed on; the rest comes with what completes it, or at the end (b"")."""
        if self._upgraded is False:
            return data
        if not data:
            rest, self._pending = self._pending, b""
            return rest
        self._pending += data
        out = b""
        if self._upgraded is None:
            out = self._head()
        return out + self._frames(twice=twice) if self._upgraded else out

    def _head(self) -> bytes:
        """Return the answer's head once it is there and the upgrade, if any, is known."""
        if self._pending[: len(_SWITCHED)] != _SWITCHED[: len(self._pending)]:
            self._upgraded = False
        elif _HEAD_END in self._pending:
            head, separator, self._pending = self._pending.partition(_HEAD_END)
            self._upgraded = True
            return head + separator
        elif len(self._pending) > _HEAD_BYTES:
            self._upgraded = False
        if self._upgraded is False:
            rest, self._pending = self._pending, b""
            return rest
        return b""

    def _frames(self, *, twice: bool) -> bytes:
        out = bytearray()
        while self._pending:
            if self._passing:
                part, self._pending = self._pending[: self._passing], self._pending[self._passing :]
                self._passing -= len(part)
                out += part
            elif (size := _size(self._pending)) is None:
                break
            elif not (twice and self._pending[0] & _FINAL and self._pending[0] & 0x0F in _DATA):
                self._passing = size
            elif len(self._pending) < size:
                break
            else:
                frame, self._pending = self._pending[:size], self._pending[size:]
                self.messages += 1
                out += frame * 2
        return bytes(out)


def _size(data: bytes) -> int | None:
    """Return the whole length of the frame that begins the data; None while it does not show yet."""
    if len(data) < 2:
        return None
    masked = 4 if data[1] & _MASKED else 0
    length = data[1] & 0x7F
    extended = {126: 2, 127: 8}.get(length, 0)
    if len(data) < 2 + extended:
        return None
    if extended:
        length = int.from_bytes(data[2 : 2 + extended])
    return 2 + extended + masked + length
