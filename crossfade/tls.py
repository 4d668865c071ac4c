"""TLS for the HTTP services: a listener of its own beside the plain one, which so can stay on loopback for our own parts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crossfade.errors import UsageError
from crossfade.tls_handshakes import server_context

if TYPE_CHECKING:
    from crossfade.settings import Settings

_PORT = re.compile(r"([a-z]+)=([0-9]{1,5})", re.ASCII)
_LARGEST = 65_535


@dataclass(frozen=True, slots=True)
class Tls:
    """Where services speak TLS: a port for each, and the certificate that they show there."""

    certificate: Path
    key: Path
    host: str
    ports: Mapping[str, int]

    def check(self) -> None:
        """Raise UsageError unless certificate and key can be used together."""
        try:
            server_context(self.certificate, self.key)
        except OSError as error:  # ssl.SSLError is one
            reason = error.strerror or error
            raise UsageError(f"TLS: {self.certificate} and {self.key} cannot be used: {reason}") from error


def parse_ports(text: str) -> dict[str, int]:
    """Return ports by part of ``query=8443,control=8444``; raises ValueError."""
    ports: dict[str, int] = {}
    for each in filter(None, (piece.strip() for piece in text.split(","))):
        found = _PORT.fullmatch(each)
        if found is None or not 0 < int(found[2]) <= _LARGEST:
            raise ValueError(f"{each!r} is no PART=PORT, as in query=8443,control=8444")
        if found[1] in ports:
            raise ValueError(f"{found[1]} is there twice")
        ports[found[1]] = int(found[2])
    return ports


def tls_of(settings: Settings) -> Tls | None:
    """Return where the services speak TLS, None for nowhere; raises UsageError for settings that do not go together."""
    ports = parse_ports(settings.tls_ports)
    if settings.tls_cert is None and settings.tls_key is None and not ports:
        return None
    if settings.tls_cert is None or settings.tls_key is None or not ports:
        raise UsageError(
            "TLS needs all three: CROSSFADE_TLS_CERT, CROSSFADE_TLS_KEY and CROSSFADE_TLS_PORTS (query=8443,...)"
        )
    found = Tls(
        settings.tls_cert.absolute(), settings.tls_key.absolute(), settings.tls_host or settings.host, ports
    )
    found.check()
    return found
