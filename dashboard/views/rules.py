"""Rules of alerts in words, and what one would have said of the past."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from dashboard import figures
from dashboard.hub import Frame
from dashboard.rules import Change, Preview, Rule, Rules
from dashboard.views.words import Badge, Columns, plural

_EVERYTHING = (("*",), ())


def rows(found: Rules, frame: Frame) -> Columns:
    """Return one row a rule, in the order of the file, with how many alerts of it fire now; empty without any."""
    if not found.rules:
        return {}
    each = found.rules
    firing = Counter(alert.rule for alert in frame.state.alerts.values() if alert.firing)
    return {
        "Rule": [one.name for one in each],
        "Severity": [one.severity for one in each],
        "Fires now": [firing[one.name] for one in each],
        "Fires when": [condition(one) for one in each],
        "For": [figures.span(one.for_) if one.for_ else "at once" for one in each],
        "Where": [where(one) for one in each],
        "Caused by": [", ".join(one.inhibited_by) for one in each],
        "Told": [told(one, found) for one in each],
        "What it means": [one.summary for one in each],
    }


def condition(rule: Rule) -> str:
    """Return when a rule fires, in words."""
    match rule.kind:
        case "absence":
            return f"nothing of {rule.category} for {figures.span(rule.after)}"
        case "composite":
            return f"all of {', '.join(rule.all)}" if rule.all else f"any of {', '.join(rule.any)}"
        case "state":
            before = f", and was {' or '.join(rule.was)}" if rule.was else ""
            return f"{rule.metric} is {rule.expected}{before}"
        case _:
            window = f" over {figures.span(rule.over)}" if rule.over else ""
            clear = "" if rule.clear is None else f", until {rule.clear:g}"
            return f"{rule.metric} {rule.expected}{window}{clear}"


def where(rule: Rule) -> str:
    """Return which targets a rule is about."""
    devices = "everywhere" if rule.devices in _EVERYTHING else " ".join(rule.devices)
    return devices if rule.items in _EVERYTHING else f"{devices}: {' '.join(rule.items)}"


def told(rule: Rule, found: Rules) -> str:
    """Return who is told of a rule's alerts."""
    if not rule.notify:
        return "nobody: a part of others"
    return ", ".join(rule.channels or found.channels) or "nobody: there is no channel"


def summary(found: Preview) -> str:
    """Return in one sentence what a rule would have said."""
    fired = sum(change.firing for change in found.changes)
    if found.first is None:
        return "There is no history that it could be tried on."
    reach = found.first.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return (
        f"It would have fired {plural(fired, 'time')} and made {plural(len(found.messages), 'message')}, "
        f"of {figures.count(found.events)} events since {reach}."
    )


def badge(found: Preview) -> Badge:
    """Return whether a rule would have said anything."""
    fired = sum(change.firing for change in found.changes)
    if found.first is None:
        return Badge("no history", ":material/help:", "gray")
    if not fired:
        return Badge("would have been quiet", ":material/task_alt:", "green")
    return Badge(f"would have fired {plural(fired, 'time')}", ":material/notifications:", "orange")


def changes(found: Preview) -> Columns:
    """Return one row a change, newest first; empty without any."""
    each = list(reversed(found.changes))
    if not each:
        return {}
    return {
        "At": [_at(one.at) for one in each],
        "What": [_word(one) for one in each],
        "Device": [one.device for one in each],
        "Item": [one.item for one in each],
        "Value": [one.value for one in each],
        "Caused by": [one.inhibited_by for one in each],
    }


def messages(found: Preview) -> Columns:
    """Return one row a message, newest first; empty without any."""
    each = list(reversed(found.messages))
    if not each:
        return {}
    return {
        "At": [_at(one.at) for one in each],
        "Title": [one.title for one in each],
        "Text": [one.body for one in each],
    }


def _word(change: Change) -> str:
    if change.firing:
        return "firing"
    return "no data" if change.state == "no_data" else "resolved"


def _at(at: datetime | None) -> str:
    return figures.UNKNOWN if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
