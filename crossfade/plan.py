"""What is to run: settings and options made one frozen plan, and what a running installation says of itself."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossfade.addresses import Listener, free_port, join, reachable
from crossfade.errors import UsageError
from crossfade.locks import holder
from crossfade.paths import DataDir, read_json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from crossfade.settings import Settings

EMBEDDED = ("postgres", "migrations", "realtime")
PARTS = (*EMBEDDED, "legacy", "collect", "parity", "dashboard")
"""Every part of ``crossfade up``, in the order in which they start."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything is reached. ``supabase_url`` and ``database_url`` of a hosted Supabase are None here."""

    host: str
    port_supabase: int
    port_database: int
    port_legacy: int
    port_dashboard: int

    @classmethod
    def of(cls, settings: Settings) -> Addresses:
        """Return the settings' addresses with every port of 0 made a free one."""
        ports = (
            settings.port_supabase,
            settings.port_database,
            settings.port_legacy,
            settings.port_dashboard,
        )
        return cls(settings.host, *(port or free_port(settings.host) for port in ports))

    @property
    def near(self) -> str:
        """The host under which this machine reaches the listeners, ready for a URL."""
        host = reachable(self.host)
        return f"[{host}]" if ":" in host else host

    @property
    def supabase(self) -> str:
        """URL of the embedded Supabase."""
        return f"http://{self.near}:{self.port_supabase}"

    @property
    def legacy(self) -> str:
        """URL of the legacy server for clients."""
        return f"ws://{self.near}:{self.port_legacy}/ws"

    @property
    def legacy_link(self) -> str:
        """URL of the legacy server for the collector."""
        return f"ws://{self.near}:{self.port_legacy}/link"

    @property
    def dashboard(self) -> str:
        """URL of the dashboard."""
        return f"http://{self.near}:{self.port_dashboard}"

    def listeners(self, parts: Collection[str]) -> list[Listener]:
        """Return the addresses that have to be free for these parts."""
        table = [
            ("realtime", self.port_supabase, "--port-supabase"),
            ("postgres", self.port_database, "--port-database"),
            ("legacy", self.port_legacy, "--port-legacy"),
            ("dashboard", self.port_dashboard, "--port-dashboard"),
        ]
        return [Listener(part, self.host, port, option) for part, port, option in table if part in parts]

    def shown(self, part: str) -> str:
        """Return a part's address for people; empty for a part that listens nowhere."""
        return {
            "postgres": join(self.host, self.port_database),
            "realtime": self.supabase,
            "legacy": self.legacy,
            "dashboard": self.dashboard,
        }.get(part, "")

    def to_json(self) -> dict[str, Any]:
        """Return its form in ``state.json``."""
        return {
            "host": self.host,
            "port_supabase": self.port_supabase,
            "port_database": self.port_database,
            "port_legacy": self.port_legacy,
            "port_dashboard": self.port_dashboard,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of ``crossfade up``."""

    data: DataDir
    addresses: Addresses
    settings: Settings
    parts: tuple[str, ...]
    flags: Path
    device: str | None = None
    interval_seconds: float = 2.0
    docker: bool = True
    migrations: tuple[Path, ...] = ()
    """Directories of migrations to apply besides our own."""
    signup: bool = False
    """Whether anybody may sign up at the embedded Supabase."""

    @property
    def hosted(self) -> bool:
        """Whether Supabase is somewhere else."""
        return self.settings.hosted


def choose(only: Iterable[str], without: Iterable[str], *, hosted: bool) -> tuple[str, ...]:
    """Return the parts to run, in order; raises UsageError for a name that is none, or when none is left."""
    wanted, unwanted = set(_names(only)), set(_names(without))
    for name in wanted | unwanted:
        if name not in PARTS:
            raise UsageError(f"{name!r} is not a part; parts are {', '.join(PARTS)}")
    chosen = tuple(
        name
        for name in PARTS
        if (not wanted or name in wanted) and name not in unwanted and not (hosted and name in EMBEDDED)
    )
    if not chosen:
        raise UsageError("no part is left to run; change --only or --without")
    return chosen


def _names(given: Iterable[str]) -> list[str]:
    """Split names given one by one or with commas."""
    return [name.strip() for text in given for name in text.split(",") if name.strip()]


def running_state(data: DataDir) -> Mapping[str, Any] | None:
    """Return what the process that runs on the data directory says of itself; None when none runs."""
    held = holder(data)
    if held is None:
        return None
    state = read_json(data.state)
    return state if state is not None and state.get("pid") == held[0] else {"pid": held[0], "parts": []}


def known_addresses(data: DataDir, settings: Settings) -> Addresses:
    """Return the addresses of what runs on the data directory; the settings' when nothing does."""
    state = running_state(data)
    said = state.get("addresses") if state else None
    if isinstance(said, dict):
        try:
            return Addresses(**said)
        except TypeError:
            pass  # written by another version
    return Addresses(
        settings.host,
        settings.port_supabase,
        settings.port_database,
        settings.port_legacy,
        settings.port_dashboard,
    )


def flags_file(data: DataDir, settings: Settings) -> Path:
    """Return the flag file: the one that was named, the one of what runs, ``flags.yaml`` here, or the data directory's.

    The last one is made by ``crossfade up`` in a directory that has none.
    """
    wished = Path(os.path.abspath(settings.flags.expanduser()))  # noqa: PTH100 - resolve() would follow links
    if "flags" in settings.model_fields_set:
        return wished
    state = running_state(data)
    if state and isinstance(state.get("flags"), str):
        return Path(state["flags"])
    return wished if wished.exists() else data.root / "flags.yaml"
