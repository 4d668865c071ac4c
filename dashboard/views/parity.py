"""The live comparison of both paths."""

from __future__ import annotations

from datetime import datetime

from dashboard import figures
from dashboard.reports import Parity, Waiting
from dashboard.views.words import NAMES, Badge, Color, escape


def verdict(parity: Parity, now: datetime) -> Badge:
    """Return the comparison's verdict; an old one is not a verdict on now."""
    text = parity.verdict.replace("_", " ").capitalize()
    if parity.old(now):
        return Badge(f"{text}, but old", ":material/history_toggle_off:", "orange")
    icons: dict[str, tuple[str, Color]] = {
        "PASS": (":material/check_circle:", "green"),
        "FAIL": (":material/error:", "red"),
        "ERROR": (":material/error:", "red"),
    }
    icon, color = icons.get(parity.verdict, (":material/hourglass_empty:", "gray"))
    return Badge(text, icon, color)


def not_compared(waiting: Waiting | None) -> str:
    """Say why there is no comparison yet, in Markdown."""
    if waiting is None:
        return (
            "The live comparison writes its first result some seconds after `crossfade up`. "
            "`crossfade validate live --for 30s` runs one by hand."
        )
    if waiting.reason:
        return f"{escape(waiting.reason).capitalize()}."
    sides = " and ".join(NAMES[side] for side in waiting.sides) or "the first event"
    return f"Waiting for {sides}: a comparison begins when both sides are live."


def age(parity: Parity, now: datetime) -> str:
    """Return how old the verdict is."""
    return "" if parity.at is None else f"{figures.age(parity.at, now)} ago"


def facts(result: Parity) -> list[tuple[str, str]]:
    """Return the comparison in figures."""
    coverage = figures.UNKNOWN if result.coverage_percent is None else f"{result.coverage_percent:.2f} %"
    found = [f"{figures.count(number)} {name}" for name, number in result.findings if number]
    sides = [
        (
            f"{NAMES[side].capitalize()} latency",
            f"{figures.milliseconds(of.p50_seconds)} median · {figures.milliseconds(of.p99_seconds)} p99",
        )
        for side, of in result.sides.items()
    ]
    return [
        ("Matched of decided", f"**{figures.count(result.matched)}** of {figures.count(result.decided)}"),
        ("Missing, different, double", ", ".join(found) if found else "none"),
        ("Coverage", coverage),
        *sides,
    ]
