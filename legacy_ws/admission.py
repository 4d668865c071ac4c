"""Who may connect: origins of web pages, bearer tokens, and how fast a client may speak. Pure."""

from __future__ import annotations

import hmac
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

BEARER = "bearer"
"""The subprotocol under which a web page, which cannot set headers, names its token as the next one."""
_BURST = 100
_PER_SECOND = 50.0


def admits(origin: str | None, host: str, allowed: Collection[str]) -> bool:
    """Tell whether a page of this origin may connect.

    A browser lets any page open a WebSocket to this machine (RFC 6455, 10.2); programs send no origin.
    """
    if origin is None or origin in allowed:
        return True
    try:
        name = urlsplit(origin).hostname or ""
        own = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    # A name that equals our own proves nothing: its owner can point it here (DNS rebinding). An address does.
    address = _address(name)
    return name == "localhost" or (address is not None and (address.is_loopback or name == own))


def shows_token(authorization: Sequence[str], subprotocols: Sequence[str], token: str) -> bool:
    """Tell whether a handshake carries the bearer token, in its one Authorization header or as a subprotocol."""
    if len(authorization) == 1:
        return _same(authorization[0], f"Bearer {token}")
    offered = [name.strip() for line in subprotocols for name in line.split(",")]
    return not authorization and offered[:1] == [BEARER] and len(offered) > 1 and _same(offered[1], token)


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(errors="surrogateescape"), wanted.encode())


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


@dataclass(slots=True)
class Allowance:
    """How fast one client's messages are read: 100 at once, then 50 a second. The rest waits in its own socket."""

    at: float
    left: float = _BURST

    def spend(self, now: float) -> float:
        """Count a message read at a time in seconds; returns how long to wait before the next one is."""
        self.left = min(_BURST, self.left + (now - self.at) * _PER_SECOND) - 1
        self.at = now
        return max(0.0, -self.left / _PER_SECOND)
