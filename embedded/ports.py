"""Ports that are free, for whoever does not mind which."""

from __future__ import annotations

import random
import socket

_CHOICE = range(10_000, 32_000)
"""Below those that systems give to outgoing connections: one of those is soon taken by whatever connects next."""
_TRIES = 100
_random = random.SystemRandom()


def free_port(host: str) -> int:
    """Return a TCP port of ``host`` that nobody listened on a moment ago; raises OSError for another machine's address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in _random.sample(_CHOICE, _TRIES):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    # Whatever the system has; where the address is not this machine's, this says so.
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
