"""The machinery itself: processes, delivery, collectors, spool."""

from __future__ import annotations

from datetime import datetime
from pathlib import PurePath

from dashboard import figures
from dashboard.hub import Frame
from dashboard.views.words import Columns, Figure

_READY = frozenset({"ready"})


def key_figures(frame: Frame) -> list[Figure]:
    """Return the figures of the first row."""
    system = frame.system
    ready = sum(part.state in _READY for part in system.parts)
    restarts = sum(int(part.restarts or 0) for part in system.parts)
    pending = [path.pending for path in system.paths if path.pending is not None]
    late = sum(int((each.late or 0) + (each.skipped or 0) + (each.failed or 0)) for each in system.collectors)
    lost = int(sum(path.lost for path in system.paths))
    spool = system.spool
    return [
        Figure(
            "Parts ready",
            f"{ready} of {len(system.parts)}" if system.parts else figures.UNKNOWN,
            f"{restarts} restarted" if restarts else "no restart" if system.parts else "",
        ),
        Figure(
            "On their way",
            figures.count(int(sum(pending))) if pending else figures.UNKNOWN,
            "events, unacknowledged",
        ),
        Figure("Not deliverable", figures.count(lost) if system.paths else figures.UNKNOWN, "events, of all"),
        Figure(
            "Readings missed",
            figures.count(late) if system.collectors else figures.UNKNOWN,
            "late, skipped or failed",
        ),
        Figure(
            "Spool",
            figures.size(spool.bytes) if spool else figures.UNKNOWN,
            f"of {figures.size(spool.limit_bytes)}" if spool else "",
        ),
    ]


def parts(frame: Frame) -> Columns:
    """Return one row a process; empty without any."""
    each = frame.system.parts
    if not each:
        return {}
    return {
        "Part": [part.name for part in each],
        "State": ["crash loop" if part.crash_loop else part.state for part in each],
        "For": [figures.span(part.up_seconds) for part in each],
        "Restarts": [figures.plain(part.restarts, 0) for part in each],
        "Address": [part.address for part in each],
        "Detail": [part.detail for part in each],
        "Log": [PurePath(part.log).name for part in each],
    }


def log_places(frame: Frame) -> str:
    """Return the directories that logs of parts are in, in a sentence; empty where there are none."""
    places = dict.fromkeys(str(PurePath(part.log).parent) for part in frame.system.parts if part.log)
    return f"Logs are in {', '.join(places)}" if places else ""


def paths(frame: Frame) -> Columns:
    """Return one row a path from the spool; empty without any."""
    each = frame.system.paths
    if not each:
        return {}
    return {
        "Path": [path.name for path in each],
        "State": ["connected" if path.connected else path.detail or "not connected" for path in each],
        "Sent": [figures.count(_whole(path.sent)) for path in each],
        "Waiting": [figures.count(_whole(path.pending)) for path in each],
        "Not deliverable": [figures.count(_whole(path.lost)) for path in each],
    }


def collectors(frame: Frame, now: datetime) -> Columns:
    """Return one row a collector; empty without any."""
    each = frame.system.collectors
    if not each:
        return {}
    return {
        "Collector": [one.name for one in each],
        "Newest": [figures.age(one.last_success, now) for one in each],
        "Read": [figures.count(_whole(one.read)) for one in each],
        "Failed": [figures.count(_whole(one.failed)) for one in each],
        "Late": [figures.count(_whole(one.late)) for one in each],
        "Skipped": [figures.count(_whole(one.skipped)) for one in each],
        "Last error": [one.last_error for one in each],
    }


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
