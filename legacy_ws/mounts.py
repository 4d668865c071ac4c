"""Mounts: which dialect is spoken at which address, port and path."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Self

from legacy_ws.errors import InvalidMount

_MOUNT = re.compile(
    r"(?:(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/=\[\]]+):)?(?P<port>\d{1,5})(?P<path>/[!-~]*)=(?P<dialect>[a-z_]+)\Z"
)
_RESERVED = ("/link", "/health", "/exports")
_MOST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Mount:
    """A dialect at an address; ``host`` is None for the server's own."""

    port: int
    path: str
    dialect: str
    host: str | None = None

    @classmethod
    def parse(cls, text: str, dialects: Collection[str]) -> Self:
        """Read ``[HOST:]PORT/PATH=DIALECT``; raises InvalidMount."""
        found = _MOUNT.match(text.strip())
        if found is None:
            raise InvalidMount(
                text, "it must look like 8090/ws/containers=containers, or HOST:8080/ws=dashboard"
            )
        port, path, dialect = int(found["port"]), found["path"], found["dialect"]
        if dialect not in dialects:
            raise InvalidMount(text, f"{dialect!r} is no dialect; dialects are {', '.join(dialects)}")
        if port > _MOST_PORT:
            raise InvalidMount(text, f"{port} is no port")
        if "?" in path or "#" in path:
            raise InvalidMount(text, "a path has no ? and no #")
        if any(path == one or path.startswith(f"{one}/") for one in _RESERVED):
            raise InvalidMount(text, f"{', '.join(_RESERVED)} are the server's own paths")
        return cls(port, path, dialect, found["host"].strip("[]") if found["host"] else None)

    def __str__(self) -> str:
        host = "" if self.host is None else f"[{self.host}]:" if ":" in self.host else f"{self.host}:"
        return f"{host}{self.port}{self.path}={self.dialect}"


def parse_mounts(text: str, dialects: Collection[str]) -> tuple[Mount, ...]:
    """Read several, separated by commas; raises InvalidMount, also for an address that is named twice."""
    mounts = [Mount.parse(one, dialects) for one in text.split(",") if one.strip()]
    _require_distinct(mounts)
    return tuple(mounts)


def _require_distinct(mounts: Iterable[Mount]) -> None:
    seen: set[tuple[str | None, int, str]] = set()
    for mount in mounts:
        place = (mount.host, mount.port, mount.path)
        if place in seen:
            raise InvalidMount(str(mount), f"{mount.port}{mount.path} is named twice")
        seen.add(place)
