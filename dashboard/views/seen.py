"""Whether clients confirm what the taps say, who does not, and what of it is not known."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from dashboard import figures
from dashboard.reports import Parity
from dashboard.seen import Evidence, Seen, States
from dashboard.views.words import Badge, Color, Columns, plural

_VERDICTS = {
    "PASS": "confirmed",
    "FAIL": "tripped",
    "INCONCLUSIVE": "too few blocks yet",
    "NO_DATA": "nothing yet",
}
_STATES: dict[str, str] = {
    "matched": "the same event on both",
    "mismatch": "another event, or a field differs",
    "missing_legacy": "not in the legacy server's state",
    "missing_supabase": "not in Supabase's state",
    "moving": "not compared: the stream moved on meanwhile",
    "excluded": "not compared: from before the run, and the legacy server began anew",
}


def confirmation(parity: Parity | None, found: Seen | None, now: datetime | None = None) -> tuple[Badge, str]:
    """Return whether clients confirm what the taps found, and the sentence that says why.

    ``now`` is given for a comparison that goes on: an old result says nothing of now.
    """
    if parity is None or found is None or found.blocks is None or found.differ is None:
        return _unknown("not known"), "The comparison does not say what clients saw."
    if now is not None and parity.old(now):
        return Badge("old", ":material/history_toggle_off:", "orange"), (
            "The comparison writes no results at the moment, so nothing is known of now."
        )
    findings = sum(count for _, count in parity.findings)
    taps = f"the taps found {plural(findings, 'difference')}" if findings else "the taps found no difference"
    clients = plural(found.clients or 0, "client")
    if not found.blocks:
        if not found.clients:
            return _unknown("no client reported"), f"No client reported what it saw; {taps}."
        return _unknown("not known yet"), (
            f"Of what {clients} reported nothing could be compared yet; {taps}."
        )
    return _compared(parity, found, taps, clients, findings)


def _compared(parity: Parity, found: Seen, taps: str, clients: str, findings: int) -> tuple[Badge, str]:
    """Return the same where blocks were compared."""
    blocks = f"{figures.count(found.blocks)} blocks of {clients}"
    if found.differ:
        word = "clients saw it, too" if findings else "clients contradict the taps"
        return Badge(word, ":material/error:", "red"), (
            f"{figures.count(found.differ)} of {blocks} differ from what was published; {taps}."
        )
    if findings:
        return Badge("clients did not see it", ":material/help:", "orange"), (
            f"None of {blocks} differs, but {taps}: it may be in streams that no client reads."
        )
    if parity.verdict != "PASS" or found.unchecked is None or found.unchecked:
        why = "not everything could be checked" if parity.verdict == "PASS" else "the taps do not say PASS"
        return Badge("nothing contradicts", ":material/rule:", "blue"), (
            f"None of {blocks} differs from what was published, but {why}."
        )
    return Badge("clients confirm it", ":material/check_circle:", "green"), (
        f"All {blocks} are what was published, and {taps}."
    )


def cohorts(found: Seen | None, expected: Collection[str] = ()) -> Columns:
    """Return one row a cohort: what is known of it, what differs first; also of those that nothing is known of."""
    known = found.cohorts if found else ()
    told = {each.cohort for each in known}
    each = [
        *sorted(known, key=lambda one: (not one.disturbed, one.cohort)),
        *(Evidence(name) for name in expected if name not in told),
    ]
    if not each:
        return {}
    return {
        "Cohort": [one.cohort for one in each],
        "Says": [_VERDICTS.get(one.verdict, one.verdict.lower()) or "nothing known" for one in each],
        "Blocks": [one.blocks for one in each],
        "Differ": [one.disturbed for one in each],
        "Events": [one.events for one in each],
        "Ruled out": [_bound(one) for one in each],
        "How": [_how(one.faults) for one in each],
    }


def disagreements(found: Seen | None) -> Columns:
    """Return one row a stream of a client's block that differs, newest first; empty without any."""
    each = found.disagreements if found else ()
    if not each:
        return {}
    return {
        "Client": [one.client for one in each],
        "Cohort": [one.cohort for one in each],
        "Stream": [one.stream for one in each],
        "Class": [one.fault for one in each],
        "Events": [one.events for one in each],
        "What differs": [one.words for one in each],
    }


def unchecked(found: Seen | None) -> list[str]:
    """Return what of clients could not be checked, in words."""
    if found is None:
        return []
    if found.unchecked is None:
        return ["this report does not say which clients could not be checked"]
    return list(found.unchecked)


def totals(found: Seen | None) -> str:
    """Return what clients saw in the report's window, in figures."""
    if found is None or found.blocks is None:
        return ""
    said = (
        f"{plural(found.clients or 0, 'client')}, {figures.count(found.blocks)} blocks of ten seconds, "
        f"{figures.count(found.events)} events: {figures.count(found.agree)} agree, {figures.count(found.differ)} differ"
    )
    return f"{said} ({_how(found.faults)})" if found.faults else said


def states_badge(found: States | None) -> tuple[Badge, str]:
    """Return whether both backends would begin a client with the same state, and the sentence that says why."""
    if found is None:
        return _unknown("not compared"), "The snapshots of both backends were not compared in this run."
    if found.problem:
        return _unknown("not compared"), found.problem
    if not found.entries or found.differ is None:
        return _unknown("nothing to compare"), "Neither snapshot had an entry."
    left = sum(found.counts.get(each, 0) for each in ("moving", "excluded"))
    beside = f", {figures.count(left)} not compared" if left else ""
    matched = f"{figures.count(found.counts.get('matched'))} of {figures.count(found.entries)} entries match"
    color: Color = "red" if found.differ else "blue" if left else "green"
    if found.differ:
        return Badge("states differ", ":material/error:", color), (
            f"{matched}, {figures.count(found.differ)} differ{beside}."
        )
    icon = ":material/rule:" if left else ":material/check_circle:"
    return Badge("nothing differs" if left else "states are the same", icon, color), f"{matched}{beside}."


def states_rows(found: States | None) -> Columns:
    """Return one row a class of entries, of those there are; empty without any."""
    known = [(name, count) for name, count in found.counts.items() if count] if found else []
    if not known:
        return {}
    return {
        "Class": [name.replace("_", " ") for name, _ in known],
        "Entries": [count for _, count in known],
        "Meaning": [_STATES.get(name, "") for name, _ in known],
    }


def state_differences(found: States | None) -> Columns:
    """Return one row an entry that differs; empty without any."""
    each = found.differences if found else ()
    if not each:
        return {}
    return {
        "Stream": [one.stream for one in each],
        "Kind": [one.kind for one in each],
        "Class": [one.found.replace("_", " ") for one in each],
        "What differs": ["; ".join(one.details) for one in each],
    }


def _unknown(text: str) -> Badge:
    return Badge(text, ":material/help:", "gray")


def _bound(one: Evidence) -> str:
    if one.upper_bound is None:
        return figures.UNKNOWN
    return "nothing yet" if one.upper_bound >= 1 else f"above {100 * one.upper_bound:.2g} %"


def _how(faults: tuple[tuple[str, int], ...]) -> str:
    return ", ".join(f"{count} {fault}" for fault, count in faults)
