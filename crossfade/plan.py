"""What is to run: settings and options made one frozen plan, and what a running installation says of itself."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossfade.addresses import Listener, join, reachable
from crossfade.errors import UsageError
from crossfade.locks import holder
from crossfade.paths import DataDir, read_json
from crossfade.tls import parse_ports
from embedded.ports import free_port
from legacy_ws.mounts import parse_mounts
from legacy_ws.protocol.catalogue import catalogue

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from crossfade.settings import Settings

EMBEDDED = ("postgres", "migrations", "realtime")
PARTS = (
    *EMBEDDED,
    "query",
    "analytics",
    "control",
    "mcp",
    "legacy",
    "collect",
    "bridge",
    "parity",
    "rollout",
    "gateway",
    "alerts",
    "dashboard",
)
"""Every part of ``crossfade up``, in the order in which they start."""
OPTIONAL = ("analytics", "control", "mcp")
"""Parts that run only when asked for: by ``--with``, by ``--only``, by ``CROSSFADE_WITH``.

Without analytics as a part the query service has its routes. Control changes things on machines, and is off unless wanted.
"""
ALIASES = {"push": "legacy"}
"""Other names of parts: the legacy WebSocket server is the push service of the seeds."""
REPLACED = ("legacy", "parity", "rollout")
"""What another's server stands in for: our own, and the comparison by identities, which it has none of, with what decides
by it."""
ONE_SIDED = ("collect",)
"""Left out beside another's server unless asked for: what only one backend has keeps clients from being moved."""
CHECKING = ("query", "analytics", "control", "mcp")
"""Parts that check the tokens of their callers, for which they need the JWT secret."""


LISTENING = ("realtime", "postgres", "query", "analytics", "control", "mcp", "legacy", "dashboard")
"""Parts with a port of their own."""
_PORT_NAMES = {"realtime": "supabase", "postgres": "database"}
"""Their ports' names, where those are not the parts'."""


def port_name(part: str) -> str:
    """Return the field of `Addresses` and of the settings that has a part's port."""
    return f"port_{_PORT_NAMES.get(part, part)}"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything is reached. ``supabase_url`` and ``database_url`` of a hosted Supabase are None here."""

    host: str
    port_supabase: int
    port_database: int
    port_query: int
    port_legacy: int
    port_dashboard: int
    legacy_mounts: str = ""
    """Where the legacy server speaks its dialects besides."""
    gateway_mounts: str = ""
    """Where the gateway speaks dialects."""
    tls_host: str = ""
    tls_ports: str = ""
    """Where HTTP services speak TLS besides, ``PART=PORT``."""

    port_control: int = 8002
    port_analytics: int = 8004
    port_mcp: int = 9102

    @classmethod
    def of(cls, settings: Settings) -> Addresses:
        """Return the settings' addresses with every port of 0 made a free one."""
        wished = cls.wished(settings)
        return wished.at(**{name: port or free_port(wished.host) for name, port in wished.ports.items()})

    @classmethod
    def wished(cls, settings: Settings) -> Addresses:
        """Return the addresses as the settings have them."""
        return cls(**{each.name: getattr(settings, each.name) for each in fields(cls)})

    def at(self, **ports: int) -> Addresses:
        """Return the addresses with other ports, by the names of their fields."""
        return Addresses(**{**asdict(self), **ports})

    @property
    def ports(self) -> dict[str, int]:
        """Every port by the name of its field."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name.startswith("port_")}

    def port(self, part: str) -> int:
        """Return the port of a part that has one; raises AttributeError."""
        return int(getattr(self, port_name(part)))

    def http(self, part: str) -> str:
        """Return the URL of a part that speaks HTTP on a port of its own."""
        return f"http://{self.near}:{self.port(part)}"

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
    def query(self) -> str:
        """URL of the query service."""
        return f"http://{self.near}:{self.port_query}"

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
        own = [
            Listener(part, self.host, self.port(part), f"--{port_name(part).replace('_', '-')}")
            for part in LISTENING
            if part in parts
        ]
        own += [
            Listener(f"{part} over TLS", self.tls_host or self.host, port, "--tls-port")
            for part, port in parse_ports(self.tls_ports).items()
            if part in parts
        ]
        if "legacy" in parts:
            mounted = self._mounted("legacy", self.legacy_mounts, "--legacy-mount")
            own += [one for one in mounted if (one.host, one.port) != (self.host, self.port_legacy)]
        if "gateway" in parts:
            own += self._mounted("gateway", self.gateway_mounts, "--gateway")
        return own

    def _mounted(self, part: str, mounts: str, option: str) -> list[Listener]:
        """Return the addresses of a part's mounts, each once."""
        listeners: dict[tuple[str, int], Listener] = {}
        for mount in parse_mounts(mounts, catalogue()):
            place = (mount.host or self.host, mount.port)
            listeners.setdefault(place, Listener(f"{part}, {mount.dialect} at {mount.path},", *place, option))
        return list(listeners.values())

    @property
    def gateway_place(self) -> tuple[str, int]:
        """Host and port under which this machine reaches the gateway's first mount."""
        mount = parse_mounts(self.gateway_mounts, catalogue())[0]
        return reachable(mount.host or self.host), mount.port

    @property
    def gateway(self) -> str:
        """URL of the gateway's first mount; empty when it has none."""
        mounts = parse_mounts(self.gateway_mounts, catalogue())
        return f"ws://{join(*self.gateway_place)}{mounts[0].path}" if mounts else ""

    def shown(self, part: str) -> str:
        """Return a part's address for people; empty for a part that listens nowhere."""
        return {
            "postgres": join(self.host, self.port_database),
            "realtime": self.supabase,
            "query": self.query,
            "legacy": self.legacy,
            "gateway": self.gateway,
            "dashboard": self.dashboard,
            "analytics": self.http("analytics"),
            "control": self.http("control"),
            "mcp": f"{self.http('mcp')}/mcp",
        }.get(part, "")

    def to_json(self) -> dict[str, Any]:
        """Return its form in ``state.json``."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of ``crossfade up``."""

    data: DataDir
    addresses: Addresses
    settings: Settings
    parts: tuple[str, ...]
    flags: Path
    alerts: Path = Path("alerts.yaml")
    """The rule file."""
    device: str | None = None
    interval_seconds: float = 2.0
    docker: bool = True
    migrations: tuple[Path, ...] = ()
    """Directories of migrations to apply besides our own."""
    project: Path | None = None
    """The ``supabase`` directory whose seed files fill a new database."""
    signup: bool = False
    """Whether anybody may sign up at the embedded Supabase."""
    habits: tuple[str, ...] = ()
    """What the embedded Supabase is to do as badly as the real one."""
    elsewhere: tuple[str, ...] = ()
    """Parts of the same installation that somebody else runs."""

    def has(self, part: str) -> bool:
        """Tell whether a part runs, here or elsewhere."""
        return part in self.parts or part in self.elsewhere

    @property
    def hosted(self) -> bool:
        """Whether Supabase is somewhere else."""
        return self.settings.hosted


def choose(
    only: Iterable[str],
    without: Iterable[str],
    with_: Iterable[str] = (),
    *,
    hosted: bool,
    secret: bool = True,
    foreign: bool = False,
    gateway: bool = False,
) -> tuple[str, ...]:
    """Return the parts to run, in order; raises UsageError for a name that is none, or when none is left.

    On a hosted Supabase the embedded parts are left out, and without its JWT ``secret`` also those that check tokens.
    With a ``foreign`` server its bridge is run, and what it replaces is not. The ``gateway`` runs only when it has been
    told where to listen, and over servers whose events have identities.
    """
    elsewhere: tuple[str, ...] = () if not hosted else EMBEDDED if secret else (*EMBEDDED, *CHECKING)
    elsewhere += REPLACED if foreign else ("bridge",)
    elsewhere += () if gateway else ("gateway",)
    wanted, unwanted, added = set(part_names(only)), set(part_names(without)), set(part_names(with_))
    unwanted |= set(OPTIONAL) - wanted - added
    wanted |= added if wanted else set()
    if "gateway" in wanted and not gateway:
        raise UsageError("the gateway has to be told where to listen: --gateway [HOST:]PORT/PATH=DIALECT")
    if foreign and gateway:
        raise UsageError(
            "the gateway needs our own legacy server: another's events have no identity, so a client of the gateway that "
            "moves back to it would be shown nothing, or everything twice; leave out --gateway, and let old clients stay on "
            "that server until they can use crossfade.connect"
        )
    if foreign:
        unwanted |= set(ONE_SIDED) - wanted
    chosen = tuple(
        name
        for name in PARTS
        if (not wanted or name in wanted) and name not in unwanted and name not in elsewhere
    )
    if not chosen:
        raise UsageError("no part is left to run; change --only or --without")
    return chosen


def part_names(given: Iterable[str]) -> list[str]:
    """Return the names of parts, given one by one or with commas; raises UsageError for a name that is none."""
    names = [ALIASES.get(word.strip(), word.strip()) for text in given for word in text.split(",")]
    for name in filter(None, names):
        if name not in PARTS:
            raise UsageError(f"{name!r} is not a part; parts are {', '.join(PARTS)}")
    return list(filter(None, names))


def running_state(data: DataDir) -> Mapping[str, Any] | None:
    """Return what the process that runs on the data directory says of itself; None when none runs."""
    held = holder(data)
    if held is None:
        return None
    state = read_json(data.state)
    return state if state is not None and state.get("pid") == held[0] else {"pid": held[0], "parts": []}


def parts_running(data: DataDir) -> tuple[str, ...]:
    """Return the names of the parts of what runs on the data directory, in no order; none when nothing does."""
    state = running_state(data) or {}
    return tuple(str(each.get("name")) for each in state.get("parts", []))


def known_addresses(data: DataDir, settings: Settings) -> Addresses:
    """Return the addresses of what runs on the data directory; the settings' when nothing does."""
    state = running_state(data)
    said = state.get("addresses") if state else None
    if isinstance(said, dict):
        try:
            return Addresses(**said)
        except TypeError:
            pass  # written by another version
    return Addresses.wished(settings)


def flags_file(data: DataDir, settings: Settings) -> Path:
    """Return the flag file: the one that was named, the one of what runs, ``flags.yaml`` here, or the data directory's.

    The last one is made by ``crossfade up`` in a directory that has none.
    """
    return _found("flags", settings.flags, data, settings)


def alerts_file(data: DataDir, settings: Settings) -> Path:
    """Return the rule file, found as the flag file is."""
    return _found("alerts", settings.alerts, data, settings)


def _found(name: str, wish: Path, data: DataDir, settings: Settings) -> Path:
    wished = Path(os.path.abspath(wish.expanduser()))  # noqa: PTH100 - resolve() would follow links
    if name in settings.model_fields_set:
        return wished
    state = running_state(data)
    if state and isinstance(state.get(name), str):
        return Path(state[name])
    return wished if wished.exists() else data.root / f"{name}.yaml"
