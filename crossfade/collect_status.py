"""What the collecting process keeps and tells of itself: the intake in front of the spool, and its status file."""

from __future__ import annotations

import logging
import os
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from adapters.spool import PATHS
from adapters.spool_file import SpoolError
from monitoring.errors import InvalidEvent
from monitoring.events import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adapters.outbox import PathName
    from adapters.postgres_writer import WriterStatus
    from adapters.publisher import PublisherStatus
    from adapters.spool import Spool, SpoolState
    from collectors.docker import DockerCollector
    from collectors.schedule import Schedule
    from crossfade.checks_file import ChecksFile
    from monitoring.events import Draft, StreamId

log = logging.getLogger(__name__)


class Intake:
    """Puts the collectors' drafts on the spool. What it refuses is counted and said once, never raised into a collector."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self.events: Counter[StreamId] = Counter()
        """Events that were taken, per stream, since the process began."""
        self.refused = 0
        self._errors: dict[StreamId, str] = {}

    @property
    def last_error(self) -> str | None:
        """Why the newest batch of some stream was refused; None when all were taken."""
        return next(reversed(self._errors.values()), None)

    def publish(self, drafts: Sequence[Draft]) -> None:
        """Append a batch of one collector: all of it or, said and counted, nothing."""
        if not drafts:
            return
        stream = drafts[0].stream
        try:
            events = self._spool.append(drafts)
        except (SpoolError, InvalidEvent) as error:
            self.refused += len(drafts)
            kind = type(error).__name__
            if not self._errors.get(stream, "").startswith(
                kind
            ):  # the same again, perhaps with another count in it
                log.error("spool: %s", error)  # noqa: TRY400 - a full disk needs no traceback
            self._errors[stream] = f"{kind}: {error}"
            return
        if self._errors.pop(stream, None):
            log.info("spool: takes events of %s again; %d were refused so far", stream, self.refused)
        self.events.update(event.stream for event in events)


def held_back(state: SpoolState, since: Mapping[PathName, datetime | None]) -> dict[str, Any] | None:
    """Return which path holds the spool back and since when, once more than half of its bounds is used; or None.

    ``since`` is when the oldest event that waits for each path happened. ``detail`` is a sentence for people.
    """
    path = max(PATHS, key=lambda name: state.waiting.get(name, 0))
    pending = state.waiting.get(path, 0)
    if not pending or (pending <= state.limit / 2 and state.used_bytes <= state.limit_bytes / 2):
        return None
    at = since.get(path)
    told = format_time(at) if at else None
    return {
        "path": path,
        "pending": pending,
        "since": told,
        "detail": f"path {path} holds the spool back: {pending} events{f' since {told}' if told else ''} wait for it; "
        f"at {state.limit} events or {state.limit_bytes} bytes (now {state.used_bytes}) no more are taken, for either "
        "path. Bring the path back, or switch it off",
    }


def _waiting_since(spool: Spool) -> dict[PathName, datetime | None]:
    try:
        return {path: spool.waiting_since(path) for path in PATHS}
    except SpoolError as error:
        log.debug(
            "spool: the oldest events cannot be read: %s", error
        )  # the forwarders read it too, and say so
        return {}


def report(
    *,
    device: str,
    running: bool,
    started_at: datetime,
    spool: Spool,
    intake: Intake,
    publisher: PublisherStatus,
    schedules: Sequence[Schedule],
    docker: DockerCollector | None,
    checks: ChecksFile,
) -> dict[str, Any]:
    """Return the status as plain JSON; ``detail`` is the one sentence that matters most now."""
    state = publisher.spool
    paths: dict[str, dict[str, Any]] = {
        "supabase": {
            "enabled": True,
            **asdict(publisher.supabase),
            "lost": sorted(publisher.supabase.lost),
        },
        "legacy": {"enabled": True, **asdict(publisher.legacy)} if publisher.legacy else {"enabled": False},
    }
    since = _waiting_since(spool)
    holding = held_back(state, since)
    for name in PATHS:
        oldest = since.get(name)
        paths[name]["pending"] = state.waiting.get(name, 0)
        paths[name]["pending_since"] = format_time(oldest) if oldest else None
    streams = {
        stream: {
            "epoch": position.epoch,
            "seq": position.seq,
            "events": intake.events[stream],
            "open": spool.is_open(stream),
        }
        for stream, position in sorted(spool.heads().items())
    }
    return {
        "pid": os.getpid(),
        "running": running,
        "device": device,
        "started_at": format_time(started_at),
        "updated_at": format_time(datetime.now(UTC)),
        "detail": _detail(intake, holding, publisher.supabase, schedules, streams) if running else "stopped",
        "streams": streams,
        "paths": paths,
        "spool": {
            "position": state.position,
            "retained": state.retained,
            "limit": state.limit,
            "bytes": state.used_bytes,
            "limit_bytes": state.limit_bytes,
            "held_back": holding,
            "refused": intake.refused,
            "refused_by_reason": dict(state.refused),
            "last_error": intake.last_error,
        },
        "collectors": {schedule.collector.name: _told(schedule) for schedule in schedules},
        "checks": {"file": str(checks.path), "count": len(checks.checks), "problem": checks.problem},
        "docker": {
            "available": bool(docker and docker.available),
            "detail": docker.detail if docker else "Docker is not watched (--no-docker)",
        },
    }


def _detail(
    intake: Intake,
    holding: Mapping[str, Any] | None,
    database: WriterStatus,
    schedules: Sequence[Schedule],
    streams: Mapping[StreamId, Any],
) -> str:
    if intake.last_error:
        return intake.last_error
    if holding:
        return str(holding["detail"])
    if not any(stream["open"] for stream in streams.values()):
        if database.lost:
            return (
                f"another owner has the lease of {', '.join(sorted(database.lost))}; waiting until it is free"
            )
        return f"waiting for the database to open the streams: {database.detail}"
    failing = [
        f"{schedule.collector.name}: {schedule.ticks.last_error}"
        for schedule in schedules
        if schedule.ticks.last_error
    ]
    return "; ".join(failing) or "collecting"


def _told(schedule: Schedule) -> dict[str, Any]:
    last = schedule.ticks.last_success
    return {
        **asdict(schedule.ticks),
        "last_success": format_time(last) if last else None,
        "interval_seconds": schedule.interval_seconds,
        "status": schedule.judge.condition.status if schedule.judge else None,
    }
