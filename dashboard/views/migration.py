"""The migration: who is served by what, and the moves of this viewer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dashboard import figures
from dashboard.hub import Frame
from dashboard.model import Move
from dashboard.readings import number, text, time_of
from dashboard.reports import Rollout
from dashboard.views.words import NAMES, REASONS, Columns, escape
from monitoring.flags.description import describe
from monitoring.flags.model import DEFAULT_COHORT, Flags
from monitoring.flags.planning import FlagPlan
from monitoring.flags.routing import evaluate_route, polled
from monitoring.flags.stages import MEANINGS
from monitoring.service import Backend

_SHOWN = 3
_NAMED = 12


def share(rollout: Rollout) -> str:
    """Return who is served by Supabase, in a few words."""
    if rollout.kill:
        return "Kill switch is on: every client is on legacy"
    return f"**{rollout.percent_text} %** of clients on Supabase"


def facts(frame: Frame) -> list[tuple[str, str]]:
    """Return the flags, and what they mean for this viewer."""
    rollout = frame.rollout
    place = "none: it has no id" if rollout.bucket_percent is None else f"{rollout.bucket_percent} %"
    why = REASONS.get(rollout.reason, rollout.reason.lower())
    return [
        ("This viewer belongs on", f"**{NAMES[rollout.wish]}**, by {why}"),
        ("Its place in the split", place),
        ("Allow · deny", f"{_clients(rollout.allow)} · {_clients(rollout.deny)}"),
        ("Kill switch", "**on**" if rollout.kill else "off"),
    ]


@dataclass(frozen=True, slots=True)
class StageCard:
    """One stage of the migration."""

    name: str
    answers: str
    icon: str
    current: bool


def stages(frame: Frame) -> list[StageCard]:
    """Return the stages in their order, the one in force marked."""
    wish = frame.flags.stage
    limit = frame.flags.ceiling.of(DEFAULT_COHORT).stage
    current = min(wish, limit, key=lambda stage: stage.rank)
    return [
        StageCard(stage, meaning.answers, ":material/my_location:", stage is current)
        for stage, meaning in MEANINGS.items()
    ]


def wish(frame: Frame) -> list[tuple[str, str]]:
    """Return what the flag file wants, cohort by cohort, and what of it the rollout lets through."""
    flags, rollout = frame.flags, frame.rollout
    extents = flags.extents()
    return [
        *((name, "legacy alone" if extent is None else str(extent)) for name, extent in extents.items()),
        ("Allow · deny", f"{_clients(rollout.allow)} · {_clients(rollout.deny)}"),
        ("Kill switch", "**on**" if rollout.kill else "off"),
        ("Polled, not pushed", ", ".join(sorted(polled(flags))) or "nothing"),
    ]


def connected(clients: Mapping[str, str]) -> str:
    """Return how many clients each backend serves."""
    counts = Counter(clients.values())
    return " · ".join(f"{count} on {_name(backend)}" for backend, count in sorted(counts.items()))


def clients(frame: Frame, known: Mapping[str, str]) -> Columns:
    """Return one row a connected client; empty without any."""
    if not known:
        return {}
    each = sorted(known.items())
    wishes = [evaluate_route(frame.flags, client) for client, _ in each]
    return {
        "Client": [client for client, _ in each],
        "Served by": [_name(backend) for _, backend in each],
        "Flags say": [NAMES[route.backend] for route in wishes],
    }


def records(found: Sequence[Mapping[str, Any]], now: datetime) -> Columns:
    """Return one row a move of anybody; empty without any."""
    if not found:
        return {}
    return {
        "Ago": [figures.age(time_of(each.get("at")), now) for each in found],
        "Client": [text(each.get("client")) for each in found],
        "From": [_name(text(each.get("from"))) for each in found],
        "To": [_name(text(each.get("to"))) for each in found],
        "Outcome": [text(each.get("outcome")) for each in found],
        "Took": [figures.milliseconds(number(each.get("seconds"))) for each in found],
        "Why": [text(each.get("reason")) for each in found],
    }


def value(flags: Flags, key: str) -> str:
    """Return a flag's value as it is written in the file."""
    return next(
        (text_of for name, text_of in ((each.key, each.text) for each in describe(flags)) if name == key), ""
    )


def plan(found: FlagPlan) -> Iterator[str]:
    """Yield what a change would do, in Markdown."""
    yield (
        f":material/preview: Of the connected clients **{len(found.forward)}** would move to Supabase, "
        f"**{len(found.back)}** back to legacy, {found.unchanged} stay."
    )
    for backend, moves_ in (("Supabase", found.forward), ("legacy", found.back)):
        if moves_:
            named = ", ".join(f"`{each.client}`" for each in moves_[:_NAMED])
            more = f" and {len(moves_) - _NAMED} more" if len(moves_) > _NAMED else ""
            yield f":material/arrow_forward: {backend}: {named}{more}"
    if found.held_by_rollout:
        yield f":material/lock: {found.held_by_rollout} are wished on Supabase, and wait for the rollout"
    if found.polled_before != found.polled_after:
        yield f":material/cloud_download: polled instead of pushed: {', '.join(sorted(found.polled_after)) or 'nothing'}"


def moves(frame: Frame, now: datetime, most: int = _SHOWN) -> list[str]:
    """Return the moves of this viewer, newest first."""
    if not frame.state.moves:
        return [":material/horizontal_rule: no moves since this viewer connected"]
    return [_move(each, now) for each in reversed(frame.state.moves)][:most]


def _move(move: Move, now: datetime) -> str:
    route = f"{NAMES[move.from_backend]} → {NAMES[move.to_backend]}"
    ago = f"{figures.age(move.at, now)} ago"
    reason = escape(move.reason)
    if not move.done:
        return f":material/undo: stayed on {NAMES[move.from_backend]} {ago}: {reason}"
    took = figures.milliseconds(move.seconds)
    return f":material/swap_horiz: moved **{route}** {ago}, {move.lost} lost, took {took}: {reason}"


def _clients(ids: Sequence[str]) -> str:
    if not ids:
        return "nobody"
    shown = ", ".join(f"`{each}`" for each in ids[:_SHOWN])
    return shown if len(ids) <= _SHOWN else f"{shown} and {len(ids) - _SHOWN} more"


def _name(backend: str) -> str:
    return NAMES[Backend(backend)] if backend in set(Backend) else backend
