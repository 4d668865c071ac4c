"""Flags and a client's id to a whole route: the backend, what of it is polled, and what may stand in. Pure."""

from __future__ import annotations

from monitoring.flags.evaluation import Decision, Reason, evaluate, explain
from monitoring.flags.model import SWITCHES, Flags
from monitoring.flags.stages import Stage
from monitoring.route import Route
from monitoring.service import PUSHING, Backend

_FIXED = (Reason.KILLED, Reason.DENIED)
"""Reasons that keep a client off Supabase whatever happens: there only polling stands in."""

_ENABLED = "websocket_enabled"


def evaluate_route(flags: Flags, client: str) -> Route:
    """Return how the client is served. Never raises.

    With ``websocket_enabled`` false everything is polled, and nothing pushed may stand in.
    """
    if _ENABLED in flags.switched_off:
        return Route(Backend.POLLING, fallbacks=())
    decision = evaluate(flags, client)
    shadow = Backend.SUPABASE if decision.shadows else None
    return Route(decision.value, polled(flags), _fallbacks(decision), shadow)


def polled(flags: Flags) -> frozenset[str]:
    """Return the categories that are switched off on the push path."""
    return frozenset().union(*(SWITCHES[name] for name in flags.switched_off))


def explain_route(flags: Flags, client: str) -> str:
    """Return for people why a client is served as it is: one line, and one for each switch that matters."""
    if _ENABLED in flags.switched_off:
        return f"{client or '(no id)'}: polling: {_said(flags, _ENABLED)}: nothing is pushed to anybody"
    lines = [explain(flags, client)]
    lines += [
        f"  {' and '.join(sorted(SWITCHES[name]))} polled: {_said(flags, name)}"
        for name in SWITCHES
        if name in flags.switched_off
    ]
    return "\n".join(lines)


def _fallbacks(decision: Decision) -> tuple[Backend, ...]:
    """Return what may stand in: never a push path that the stage has not proven, or has given up."""
    proven = decision.stage in {Stage.LIVE, Stage.RAMPDOWN} and decision.reason not in _FIXED
    others = tuple(each for each in PUSHING if each is not decision.value) if proven else ()
    return (*others, Backend.POLLING)


def _said(flags: Flags, name: str) -> str:
    where = "the environment" if name in flags.from_environment else "the flag file"
    return f"{name} is false in {where}"
