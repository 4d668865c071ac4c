"""Addresses of listeners: is one free, and whose is it if not."""

from __future__ import annotations

import contextlib
import errno
import socket
from dataclasses import dataclass

import psutil

from crossfade.errors import PortTaken, UsageError


@dataclass(frozen=True, slots=True)
class Listener:
    """An address that a part listens on, and the option that moves it."""

    part: str
    host: str
    port: int
    option: str

    @property
    def address(self) -> str:
        """``host:port``, with brackets around an IPv6 host."""
        return join(self.host, self.port)


def join(host: str, port: int) -> str:
    """Return ``host:port``, with brackets around an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable(host: str) -> str:
    """Return the host under which a client of this machine reaches a listener: any-addresses become loopback."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)


def is_everywhere(host: str) -> bool:
    """Tell whether the address is all addresses of the machine."""
    return host in {"0.0.0.0", "::", ""}


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach the address."""
    return host in {"localhost", "::1"} or host.startswith("127.")


def require_free(listener: Listener) -> None:
    """Raise PortTaken when something listens there already, or UsageError when nobody could listen there."""
    if listener.port == 0:
        return
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            listener.host or None, listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror:
        raise UsageError(f"--host {listener.host}: no such address; try 127.0.0.1") from None
    with socket.socket(family, kind, protocol) as probe:
        # As the parts do: connections that are still closing (TIME_WAIT) are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as error:
            raise _cannot_listen(listener, error) from None


def _cannot_listen(listener: Listener, error: OSError) -> PortTaken | UsageError:
    if error.errno == errno.EADDRINUSE:
        return PortTaken(
            listener.part, listener.host, listener.port, owner_of(listener.port), listener.option
        )
    if error.errno == errno.EACCES:
        return UsageError(
            f"{listener.part} may not listen on port {listener.port}; choose one above 1023 with {listener.option} PORT"
        )
    return UsageError(f"{listener.part} cannot listen on {listener.address}: {error.strerror}; change --host")


def owner_of(port: int) -> str:
    """Describe the process that listens on a TCP port of this machine, as far as we may know."""
    unknown = "another process (not visible to this user)"
    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:
        return unknown
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            if connection.pid is None:
                return unknown
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(connection.pid)
                command = " ".join(process.cmdline()) or process.name()
                return f"pid {connection.pid} ({command[:80]}, user {process.username()})"
            return f"pid {connection.pid}"
    return unknown
