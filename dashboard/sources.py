"""Where the dashboard gets everything from; the composition root provides it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from dashboard.actions import Actions
from dashboard.identity import Viewer
from dashboard.place import Place
from dashboard.records import Records
from monitoring.flags.model import Flags
from monitoring.service import MonitoringService

Report = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sources:
    """``connect`` returns a viewer's service and closes it on exit; it is entered inside the loop that follows it.

    It raises Unreachable or Refused. ``flags`` returns the flags in force and what is wrong with their file. This and the
    reports may block for a moment; they are called in a thread.
    """

    connect: Callable[[Viewer], AbstractAsyncContextManager[MonitoringService]]
    flags: Callable[[], tuple[Flags, str | None]]
    parity: Callable[[], Report | None]
    collect: Callable[[], Report | None]
    processes: Callable[[], Report | None]
    run: Callable[[], Coroutine[Any, Any, None]] | None = None
    """What has to run in the same loop for all viewers, for as long as there may be any."""
    actions: Actions | None = None
    """What viewers can do; None where there is nothing but to look."""
    records: Records | None = None
    """What pages look up beyond the feed; None where there is nothing but the feed."""
    place: Place = field(default_factory=Place)
    """The installation, as commands name it."""
