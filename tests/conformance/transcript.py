"""Recorded conversations: their lines, and what in them has to be moved to the present before it is sent again."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from embedded import keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SECRET: Final = "super-secret-jwt-token-with-at-least-32-characters-long"
"""What the recorded tokens are signed with."""
_KEPT_CHARACTERS: Final = 20_000
_HEAD_CHARACTERS: Final = 1500
_TAIL_CHARACTERS: Final = 300
_FILLER: Final = "y"
_NEAR_SECONDS: Final = 6 * 3600
_JWT: Final = re.compile(r"eyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_SINCE: Final = re.compile(r'(\\?"since\\?":\s*)(\d{13})')

Line = dict[str, Any]
"""One line of a transcript: `t` in seconds since the start, `dir` says what happened, the rest depends on it."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """One recorded scenario; `started_at` is its wall-clock time at t=0, in seconds since 1970."""

    name: str
    lines: tuple[Line, ...]
    started_at: float

    @property
    def description(self) -> str:
        """What the recording says of itself."""
        return str(self.lines[0].get("desc", ""))


def load(path: Path) -> Transcript:
    """Return the transcript in a file; raises ValueError when a line is no JSON."""
    lines = tuple(json.loads(line) for line in path.read_text().splitlines() if line)
    return Transcript(path.stem, lines, _started_at(lines))


def save(path: Path, lines: Sequence[Line]) -> None:
    """Write lines in the form `load` reads."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _started_at(lines: Sequence[Line]) -> float:
    """Return the latest start that an answer proves: their dates are whole seconds, cut off."""
    answers = [
        line for line in lines if line["dir"] in ("open", "http_response") and "date" in line["headers"]
    ]
    return max(
        (parsedate_to_datetime(line["headers"]["date"]).timestamp() - float(line["t"]) for line in answers),
        default=0.0,
    )


def received(text_or_bytes: str | bytes) -> Line:
    """Return the fields that record a received frame; long text keeps its head and tail, as in the recordings."""
    if isinstance(text_or_bytes, bytes):
        return {"op": "binary", "hex": text_or_bytes.hex(), "repr": repr(text_or_bytes)}
    text = text_or_bytes
    if len(text) <= _KEPT_CHARACTERS:
        return {"op": "text", "data": text}
    return {
        "op": "text",
        "data": text[:_HEAD_CHARACTERS],
        "truncated": True,
        "length": len(text),
        "tail": text[-_TAIL_CHARACTERS:],
    }


def sent(line: Mapping[str, Any]) -> str | bytes:
    """Return the frame of a `send` line in full; the middle of long ones is one repeated letter."""
    if line.get("op") == "binary":
        return bytes.fromhex(line["hex"])
    head = str(line["data"])
    if not line.get("truncated"):
        return head
    tail = str(line.get("tail", ""))
    if (
        not tail
    ):  # cut off within the filler: the string, and every object and array around it, end with the frame
        tail = '"' + _closers(head)
    return head + _FILLER * (int(line["length"]) - len(head) - len(tail)) + tail


def _closers(text: str) -> str:
    """Return what closes the objects and arrays that JSON text, cut off within a string, has open."""
    outside = re.sub(r'"(?:[^"\\]|\\.)*(?:"|$)', "", text)
    stack: list[str] = []
    for char in outside:
        if char in "[{":
            stack.append("]" if char == "[" else "}")
        elif char in "]}":
            stack.pop()
    return "".join(reversed(stack))


class Present:
    """Moves what depends on the time of the recording to now: tokens about to expire, and `since` of a replay.

    A token keeps its distance to the moment it is first sent at; the same token becomes the same token.
    """

    def __init__(self, started_at: float) -> None:
        self._started_at = started_at
        self._moved: dict[str, str] = {}

    def text(self, text: str, *, t: float, now: float) -> str:
        """Return a text of the recording at `t`, as it has to be at `now` (seconds since 1970)."""
        shift = now - (self._started_at + t)
        moved = _JWT.sub(lambda found: self._token(found[0], shift), text)
        return _SINCE.sub(lambda found: f"{found[1]}{int(found[2]) + round(shift * 1000)}", moved)

    def _token(self, token: str, shift: float) -> str:
        known = self._moved.get(token)
        if known is None:
            known = self._moved[token] = self._resigned(token, shift)
        return known

    def _resigned(self, token: str, shift: float) -> str:
        claims = _claims(token)
        expiry = claims.get("exp")
        if not isinstance(expiry, int) or abs(expiry - self._started_at) > _NEAR_SECONDS:
            return token
        if keys.sign(claims, SECRET) != token:
            return token  # forged on purpose
        return keys.sign({**claims, "exp": round(expiry + shift)}, SECRET)


def _claims(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValueError, binascii.Error):
        return {}
    return claims if isinstance(claims, dict) else {}
