"""The rules of an installation for people who look at them, and what one of them would have said of the past."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import orjson

from alerting.conditions import expected
from alerting.errors import InvalidRules
from alerting.rule_file import read
from crossfade import plan
from crossfade.errors import CrossfadeError

if TYPE_CHECKING:
    from pathlib import Path

    from alerting.rules import Rule, Rules
    from crossfade.paths import DataDir
    from crossfade.settings import Settings

_PREVIEW_SECONDS = 330.0
"""More than ``crossfade alerts test`` takes at most to read history."""


def document(data: DataDir, settings: Settings) -> dict[str, Any]:
    """Return the rules in force as plain JSON, without the channels' addresses, which are secrets.

    Where the file cannot be used, ``problem`` says why, and the rules are the last good ones.
    """
    path = plan.alerts_file(data, settings)
    problem, rules = None, _readable(path)
    if isinstance(rules, str):
        problem, rules = rules, _readable(data.good_alerts(path))
        problem += (
            "; no rules are in force" if isinstance(rules, str) else "; the last good rules stay in force"
        )
    good = None if isinstance(rules, str) else rules
    return {
        "file": str(path),
        "problem": problem,
        "rules": [_rule(each) for each in good.rules] if good else [],
        "channels": [each.name for each in good.channels] if good else [],
    }


def _readable(path: Path) -> Rules | str:
    """Return the rules of a file, or what is wrong with it."""
    try:
        return read(path)
    except InvalidRules as error:
        return f"{path}: {error}"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror or error}"


def _rule(rule: Rule) -> dict[str, Any]:
    def seconds(name: str) -> float | None:
        value = getattr(rule, name, None)
        return None if value is None else value.total_seconds()

    return {
        "name": rule.name,
        "kind": rule.kind,
        "severity": str(rule.severity),
        "summary": rule.summary,
        "metric": getattr(rule, "metric", ""),
        "category": getattr(rule, "category", ""),
        "expected": expected(rule),
        "was": list(getattr(rule, "was", ())),
        "clear": getattr(rule, "clear", None),
        "all": list(getattr(rule, "all", ())),
        "any": list(getattr(rule, "any", ())),
        "after_seconds": seconds("after"),
        "over_seconds": seconds("over"),
        "for_seconds": seconds("for_"),
        "cooldown_seconds": seconds("cooldown"),
        "devices": list(rule.devices),
        "items": list(rule.items),
        "inhibited_by": list(rule.inhibited_by),
        "notify": rule.notify,
        "channels": list(rule.channels),
    }


class Previews:
    """Plays a rule over history as ``crossfade alerts test`` does, in a process of its own; one at a time."""

    def __init__(self, data: DataDir) -> None:
        self._data = data
        self._busy = threading.Lock()

    def of(self, rule: str, seconds: int) -> dict[str, Any]:
        """Return what a rule would have said of the last seconds; raises CrossfadeError. Blocks, maybe for minutes."""
        if not self._busy.acquire(blocking=False):
            raise CrossfadeError("another rule is being tried at the moment; try again when it is done")
        try:
            return self._play(rule, seconds)
        finally:
            self._busy.release()

    def _play(self, rule: str, seconds: int) -> dict[str, Any]:
        command = [
            *(
                sys.executable,
                "-m",
                "crossfade",
                "alerts",
                "test",
                "--since",
                f"{seconds}s",
                "--format",
                "json",
            ),
            *("--data-dir", str(self._data.root), "--", rule),
        ]
        try:
            done = subprocess.run(  # noqa: S603 - our own command; the rule's name is an argument of its own
                command, capture_output=True, text=True, timeout=_PREVIEW_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise CrossfadeError(
                f"history was not read within {_PREVIEW_SECONDS:g} s; try a shorter time"
            ) from None
        except OSError as error:
            raise CrossfadeError(f"the rule cannot be tried: {error.strerror or error}") from error
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise CrossfadeError(" ".join(said[-1].split()))
        found: dict[str, Any] = orjson.loads(done.stdout)
        return found
