"""Alerts as lines for a person who has just been woken, and what that person must know about the list itself. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

SILENT_SECONDS = 30.0
"""The alerting process writes its status each second."""
SHORT_ID = 8
"""Characters of an id that are shown, and are enough to name it."""


def lines(alert: Mapping[str, Any]) -> Iterator[str]:
    """Return an alert as lines: its id, how bad it is and since when; what it is; why it is quiet, if it is."""
    since = str(alert["since"] or "")[:19].replace("T", " ")
    state = alert["state"].replace("_", " ") + (", flapping" if alert["flapping"] else "")
    yield f"{alert['id'][:SHORT_ID]}  {alert['severity']}, {state}{f' since {since} UTC' if since else ''}"
    value = alert["value"]
    shown = f"{value:.4g}" if isinstance(value, float) else str(value if value is not None else "")
    wanted = alert.get("expected")
    what = ", ".join(filter(None, (shown, wanted if shown else "")))
    target = f"{alert['device']} {alert['item']}".rstrip()
    summary = f" - {alert['summary']}" if alert.get("summary") else ""
    yield f"          {alert['rule']}: {target}{f': {what}' if what else ''}{summary}"
    quiet = [
        f"{word} {alert[key]}"
        for key, word in (
            ("acknowledged_by", "acknowledged by"),
            ("inhibited_by", "caused by"),
            ("silenced_by", "silenced by"),
        )
        if alert.get(key)
    ]
    if quiet:
        yield f"          not told: {'; '.join(quiet)}"


def doubts(
    *,
    heard: bool,
    up: Mapping[str, Any] | None,
    status: Mapping[str, Any] | None,
    age_seconds: float | None,
    option: str,
) -> Iterator[str]:
    """Return why the list may be wrong, and why people may not have been told.

    ``heard`` is whether the alerting process has ever told what is open; ``up`` is what runs here, if it does; ``status``
    and its age are that process's own word. Where nothing runs here the process may run elsewhere, and only what was heard
    counts.
    """
    if not heard:
        yield f"the alerting process has told nothing yet: see crossfade status{option}"
    if up is None or not any(part.get("name") == "alerts" for part in up.get("parts", ())):
        return
    if age_seconds is None or age_seconds > SILENT_SECONDS:
        long = f" for {age_seconds:.0f} s" if age_seconds is not None else ""
        yield (
            f"the alerting process has said nothing{long}, and this is the last it told: "
            f"see crossfade status{option}"
        )
        return
    found = status or {}
    if found.get("problem"):
        yield f"the alerting process says: {found['problem']}"
    if not found.get("channels"):
        yield f"nobody is told of anything: {found.get('file', 'the rule file')} names no channel"
    for name, channel in (found.get("channels") or {}).items():
        if channel.get("last_error"):
            yield (
                f"channel {name} does not take messages, and {channel.get('waiting', 0)} wait for it: "
                f"{channel['last_error']}"
            )
