"""The line above every page: whether it is live, who feeds it, and what a person should know before trusting it."""

from __future__ import annotations

from datetime import datetime
from typing import assert_never

from dashboard import figures
from dashboard.hub import Frame
from dashboard.model import Phase, data_age, lost_events, phase
from dashboard.views.words import COLORS, ICONS, NAMES, REASONS, Badge, escape

_BLIP_SECONDS = 5.0


def state_badge(frame: Frame, now: datetime) -> Badge:
    """Tell whether what is on the page is now, and since when it is not."""
    age = data_age(frame.state, now)
    since = "no data yet" if age is None else f"stale since {figures.clock(now - age)}"
    match phase(frame.connection, frame.state, now):
        case Phase.LIVE:
            newest = "no reading yet" if age is None else f"{figures.span(age.total_seconds())} ago"
            return Badge(f"Live · {newest}", ":material/sensors:", "green", "Age of the newest reading")
        case Phase.CONNECTING:
            return Badge("Connecting", ":material/sync:", "gray", frame.connection.detail)
        case Phase.RECONNECTING:
            return Badge(
                f"Reconnecting · {since}", ":material/sync_problem:", "orange", frame.connection.detail
            )
        case Phase.STALE:
            return Badge(f"Connected · {since}", ":material/history_toggle_off:", "orange")
        case Phase.REFUSED:
            return Badge(f"Refused · {since}", ":material/block:", "red", frame.connection.detail)
        case unknown:
            assert_never(unknown)


def backend_badge(frame: Frame) -> Badge:
    """Tell which backend feeds this viewer, and why."""
    backend, rollout = frame.connection.backend, frame.rollout
    if backend is None:
        return Badge("No backend yet", ICONS[None], "gray")
    why = REASONS.get(rollout.reason, rollout.reason.lower())
    if backend is not rollout.wish:
        why = f"flags want {NAMES[rollout.wish]}"
    return Badge(f"Fed by {NAMES[backend]} · {why}", ICONS[backend], COLORS[backend], rollout.why)


def problems(frame: Frame, now: datetime) -> list[str]:
    """Return what a person should know before trusting the page, each with what to do."""
    found = []
    current = phase(frame.connection, frame.state, now)
    detail = escape(frame.connection.detail)
    if current is Phase.REFUSED:
        found.append(f"{detail}. `crossfade doctor` says what to do.")
    elif current is Phase.RECONNECTING and _down_seconds(frame, now) > _BLIP_SECONDS:
        down = figures.span(_down_seconds(frame, now))
        found.append(f"No feed for {down}: {detail or 'the backend does not answer'}. Trying again.")
    elif current is Phase.STALE:
        age = data_age(frame.state, now)
        quiet = figures.span(age.total_seconds()) if age is not None else "some time"
        found.append(
            f"{_feeder(frame)} answers but has sent no reading for {quiet}. "
            "`crossfade status` shows which part stands still."
        )
    lost = lost_events(frame.state)
    if lost:
        found.append(f"{figures.count(lost)} events never reached this viewer: their history is gone.")
    return found


def _feeder(frame: Frame) -> str:
    backend = frame.connection.backend
    return "The backend" if backend is None else NAMES[backend].capitalize()


def _down_seconds(frame: Frame, now: datetime) -> float:
    since = frame.connection.down_since
    return 0.0 if since is None else (now - since).total_seconds()
