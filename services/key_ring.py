"""The keys of applications that push, in memory: checked without the database, which may be away while events are kept."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from uuid import UUID

from services.problems import Kind, Problem

_FORM = re.compile(r"cfk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_START = "cfk_"


@dataclass(frozen=True, slots=True)
class Key:
    """One key, as it is kept: its secret's hash. ``expires_at`` is in seconds since 1970, None for never."""

    id: UUID
    name: str
    prefix: str
    hash: bytes
    application: str | None
    expires_at: float | None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made: ``text`` is shown once and kept nowhere."""

    text: str
    prefix: str
    hash: bytes


def make_key() -> NewKey:
    """Return a key of 256 random bits."""
    prefix, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    return NewKey(f"{_START}{prefix}_{secret}", prefix, hashlib.sha256(secret.encode()).digest())


def is_key(token: str) -> bool:
    """Tell whether a bearer token is meant as a key."""
    return token.startswith(_START)


class KeyRing:
    """The keys that are valid now, kept up to date by somebody else."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._keys: dict[str, Key] | None = None
        self._used: set[UUID] = set()

    def replace(self, keys: Iterable[Key]) -> None:
        """Hold these keys, and no others."""
        self._keys = {key.prefix: key for key in keys}

    def take_used(self) -> set[UUID]:
        """Return the keys that were shown since the last time."""
        used, self._used = self._used, set()
        return used

    def find(self, token: str) -> Key:
        """Return the key that a bearer token is; raises Problem. What is wrong with it is not told apart."""
        if self._keys is None:
            raise Problem(
                Kind.DATABASE_AWAY,
                "keys cannot be checked before the database has answered once; try again",
                headers={"Retry-After": "1"},
            )
        found = _FORM.fullmatch(token)
        key = self._keys.get(found[1]) if found else None
        shown = hashlib.sha256(found[2].encode() if found else b"").digest()
        # Compared whether there is such a key or not, so that the time tells nothing either.
        same = hmac.compare_digest(shown, key.hash if key is not None else bytes(32))
        if key is None or not same or (key.expires_at is not None and key.expires_at <= self._clock()):
            raise Problem(
                Kind.UNAUTHORIZED,
                "this key is not valid, or not any more; crossfade keys create makes another",
                headers={"WWW-Authenticate": "Bearer"},
            )
        self._used.add(key.id)
        return key
