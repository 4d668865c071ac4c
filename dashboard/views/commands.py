"""Agents, and commands with how far they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from dashboard import figures
from dashboard.commands import Agent, Command
from dashboard.views.words import Badge, Color, Columns, escape
from monitoring.commands import InvalidParameters, Offer, Parameter

_LOOKS: dict[str, tuple[str, Color]] = {
    "queued": (":material/hourglass_empty:", "gray"),
    "taken": (":material/download_done:", "blue"),
    "running": (":material/play_arrow:", "blue"),
    "succeeded": (":material/check_circle:", "green"),
    "failed": (":material/error:", "red"),
    "timed_out": (":material/timer_off:", "red"),
    "cancelled": (":material/cancel:", "gray"),
    "refused": (":material/block:", "red"),
    "expired": (":material/history_toggle_off:", "orange"),
    "lost": (":material/help:", "orange"),
}
_FULL = 100.0
_WIDEST = 2**53 - 1


def agents(found: Sequence[Agent], now: datetime) -> Columns:
    """Return one row an agent; empty without any."""
    if not found:
        return {}
    return {
        "Agent": [each.name for each in found],
        "State": [
            "heard" if each.heard else f"silent for {figures.age(each.heard_at, now)}" for each in found
        ],
        "Open": [each.open for each in found],
        "May run": [", ".join(each.offers) or "nothing" for each in found],
        "Version": [each.version for each in found],
    }


def rows(found: Sequence[Command], now: datetime) -> Columns:
    """Return one row a command, in the order they come in; empty without any."""
    if not found:
        return {}
    return {
        "Command": [each.command for each in found],
        "Agent": [each.agent for each in found],
        "State": [state(each) for each in found],
        "Progress": [_progress(each) for each in found],
        "Says": [each.message for each in found],
        "By": [each.submitted_by for each in found],
        "Submitted": [
            figures.UNKNOWN if each.submitted is None else f"{figures.age(each.submitted, now)} ago"
            for each in found
        ],
        "Parameters": [words(each.parameters) for each in found],
    }


def state(each: Command) -> str:
    """Return how far a command is, in words."""
    word = each.state.replace("_", " ")
    return f"{word}, asked to end" if each.cancel_asked_by and not each.ended else word


def badge(each: Command) -> Badge:
    """Return how far a command is."""
    icon, color = _LOOKS.get(each.state, (":material/help:", "gray"))
    return Badge(state(each), icon, color)


def title(each: Command) -> str:
    """Return a command in one line, to choose from; it stays the same while the command goes on."""
    at = "" if each.submitted is None else f" · {figures.clock(each.submitted)}"
    return f"{each.command} on {each.agent}{at} · {each.id[:8]}"


def facts(each: Command, now: datetime) -> list[tuple[str, str]]:
    """Return what is known of a command, name by name."""
    found = [
        ("Asked for by", escape(each.submitted_by) or figures.UNKNOWN),
        ("Parameters", escape(words(each.parameters)) or "none"),
        ("Says", escape(each.message) or figures.UNKNOWN),
        ("Changed", figures.UNKNOWN if each.changed is None else f"{figures.age(each.changed, now)} ago"),
    ]
    if each.exit_code is not None:
        found.append(("Exit status", str(each.exit_code)))
    if each.cancel_asked_by:
        found.append(("Asked to end by", escape(each.cancel_asked_by)))
    return found


def words(parameters: Mapping[str, str] | None) -> str:
    """Return parameters in one line; nothing without any, or where they are not known."""
    return " ".join(f"{name}={value}" for name, value in (parameters or {}).items())


def mistakes(offer: Offer, given: Mapping[str, str]) -> list[str]:
    """Return what is wrong with parameters, as far as it is known here; the agent looks at patterns itself."""
    try:
        offer.checked(given)
    except InvalidParameters as error:
        return [f"{name} {detail}" for name, detail in error.mistakes]
    return []


def bounds(of: Parameter) -> tuple[int, int, int]:
    """Return the least, the first and the greatest value of a whole number, as far as a browser can count."""
    least = -_WIDEST if of.minimum is None else max(of.minimum, -_WIDEST)
    most = _WIDEST if of.maximum is None else min(of.maximum, _WIDEST)
    if of.default is not None and of.mistake(of.default) is None:
        return least, min(max(int(of.default), least), most), most
    return least, min(max(0, least), most), most


def _progress(each: Command) -> float | None:
    return _FULL if each.state == "succeeded" else each.progress
