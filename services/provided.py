"""What an application is given, and how its handlers get at it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastapi import Request

from monitoring.flags.model import Flags
from monitoring.intake import Intake
from services.access import Tokens
from services.components import Component
from services.database import Database
from services.key_ring import KeyRing


class FlagSource(Protocol):
    """The flags in force, kept up to date by somebody else."""

    def current(self) -> Flags:
        """Return the last good flags."""
        ...

    def problem(self) -> str | None:
        """Return what is wrong with their file now; None when nothing is."""
        ...


@dataclass(frozen=True, slots=True)
class Backends:
    """Where the backends are. ``everywhere`` says that they listen on all addresses of their machine.

    ``legacy_url`` is None where there is no legacy server; ``supabase_ours`` tells an embedded Supabase from a hosted one.
    """

    supabase_url: str
    supabase_key: str
    legacy_url: str | None
    supabase_ours: bool = True
    everywhere: bool = False


class Reports(Protocol):
    """What the parts that listen nowhere say of themselves."""

    def collect(self) -> tuple[Mapping[str, Any] | None, float | None]:
        """Return the collecting process's report and its age in seconds; None and None when there is none."""
        ...

    def parts(self) -> Sequence[Mapping[str, Any]]:
        """Return the supervisor's parts."""
        ...


class NoReports:
    """For a service alone."""

    def collect(self) -> tuple[None, None]:
        """Return nothing."""
        return None, None

    def parts(self) -> Sequence[Mapping[str, Any]]:
        """Return no part."""
        return ()


class ReportKeeper(Protocol):
    """Where the reports of clients elsewhere are kept."""

    def keep(self, owner: str, process: str, clients: Mapping[str, Any], sees: Mapping[str, Any]) -> bool:
        """Keep one process's report in place of its last; False when its owner has too many. Blocks on the disk."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What every service is given by whoever starts it. Routes that more than one service has depend on this alone."""

    database: Database
    tokens: Tokens
    version: str
    reports: Reports = field(default_factory=NoReports)
    components: Sequence[Component] = ()
    """What it leans on besides the database."""
    queues: Callable[[], Mapping[str, int]] = dict
    """What waits in it."""
    installation: bool = False
    """Whether its metrics tell of the whole installation, for which one service is enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provided(Shared):
    """What the query service is given."""

    flags: FlagSource
    backends: Backends
    intake: Intake
    """Opened and closed by whoever made it."""
    client_reports: ReportKeeper
    container_prefix: str = ""
    """What the short names of containers leave out."""
    keys: KeyRing = field(default_factory=KeyRing)
    """Of applications that push; kept up to date by whoever made it."""


async def shared(request: Request) -> Shared:
    """Return what the application of a request was given, whichever it is.

    A coroutine, as every dependency here: FastAPI would call a function in a thread, which costs more than it does.
    """
    found: Shared = request.app.state.provided
    return found


async def provided(request: Request) -> Provided:
    """Return what the query service was given."""
    found: Provided = request.app.state.provided
    return found
