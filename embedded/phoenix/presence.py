"""Who is present in a room: the state that newcomers are sent and the differences that everybody is sent.

Each channel has at most one entry, under the key it joined with; several channels may share a key (one user in two
windows), which then has several metas. A changed entry is a join with a new `phx_ref`, which names the old one as
`phx_ref_prev`, together with a leave of the old one (Phoenix.Presence has it so, and clients count on it).
"""

from __future__ import annotations

import base64
import itertools
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

from embedded.phoenix.broadcast import Diff

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

EMPTY_STATE: Final = b"{}"


@dataclass(frozen=True, slots=True)
class Meta:
    """One channel's entry. `payload` is a JSON object as the client sent it, keys in order."""

    key: str
    ref: str
    payload: bytes
    previous: str | None = None

    def encoded(self) -> bytes:
        """Return the object that clients see: the refs first, then what was tracked."""
        refs = b'{"phx_ref":"' + self.ref.encode() + b'"'
        if self.previous is not None:
            refs += b',"phx_ref_prev":"' + self.previous.encode() + b'"'
        if self.payload == b"{}":
            return refs + b"}"
        return refs + b"," + self.payload[1:]


class Presences:
    """The presence of one room. Owners are whatever identifies a channel."""

    def __init__(self) -> None:
        self._metas: dict[Hashable, Meta] = {}
        self._refs = _refs()

    def __len__(self) -> int:
        """Return how many channels are present."""
        return len(self._metas)

    def track(self, owner: Hashable, key: str, payload: bytes) -> Diff | None:
        """Make or change the owner's entry; None if there is nothing new in it."""
        old = self._metas.get(owner)
        if old is None:
            new = Meta(key, next(self._refs), payload)
            self._metas[owner] = new
            return _diff([new], [])
        if old.payload == payload:
            return None
        new = Meta(old.key, next(self._refs), payload, old.ref)
        self._metas[owner] = new
        return _diff([new], [old])

    def untrack(self, owner: Hashable) -> Diff | None:
        """Take the owner's entry away; None if it had none."""
        old = self._metas.pop(owner, None)
        return None if old is None else _diff([], [old])

    def state(self) -> bytes:
        """Return the JSON object of everybody who is present."""
        return _grouped(self._metas.values())


def _diff(joins: Iterable[Meta], leaves: Iterable[Meta]) -> Diff:
    return Diff(b'{"joins":' + _grouped(joins) + b',"leaves":' + _grouped(leaves) + b"}")


def _grouped(metas: Iterable[Meta]) -> bytes:
    by_key: dict[str, list[bytes]] = {}
    for meta in metas:
        by_key.setdefault(meta.key, []).append(meta.encoded())
    parts = [
        orjson.dumps(key) + b':{"metas":[' + b",".join(entries) + b"]}"
        for key, entries in sorted(by_key.items())
    ]
    return b"{" + b",".join(parts) + b"}"


def _refs() -> Iterator[str]:
    """Yield refs of 16 characters that are unique in this room, in the alphabet of the real ones."""
    start = secrets.randbits(88)
    for number in itertools.count():
        yield base64.urlsafe_b64encode(((start + number) % (1 << 96)).to_bytes(12)).decode()
