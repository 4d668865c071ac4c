"""What readings say of a rule: a verdict. Pure."""

from __future__ import annotations

from datetime import datetime

from alerting.lifecycle import Alert, Verdict
from alerting.rules import Aggregate, Limited, Rate, StateRule, Threshold
from alerting.windows import Window


def judge(
    rule: Threshold | Rate | StateRule, alert: Alert, value: float | str, at: datetime, window: Window | None
) -> tuple[Verdict, float | str | None]:
    """Return the verdict of a new reading, and the value it rests on. The window, if the rule has one, takes it in."""
    if isinstance(rule, StateRule):
        word = f"{value:g}" if isinstance(value, float) else value
        broken = word in rule.states
        if broken and rule.was and alert.verdict is not Verdict.BREACH:
            broken = alert.value in rule.was
        return (Verdict.BREACH if broken else Verdict.CALM), word
    if isinstance(value, str):
        return (
            Verdict.UNKNOWN,
            None,
        )  # a word where a number is expected: another program's field of the same name
    number: float | None = value
    if window is not None:
        window.add(at, value)
        number = window.rate() if isinstance(rule, Rate) else window.aggregate(rule.aggregate)
    return (Verdict.UNKNOWN, None) if number is None else (against(rule, number), number)


def against(rule: Limited, value: float) -> Verdict:
    """Return what a number is against the rule's limit."""
    if rule.above is not None:
        clear = rule.above if rule.clear is None else rule.clear
        return Verdict.BREACH if value > rule.above else Verdict.CALM if value <= clear else Verdict.BETWEEN
    limit = rule.below if rule.below is not None else 0.0
    clear = limit if rule.clear is None else rule.clear
    return Verdict.BREACH if value < limit else Verdict.CALM if value >= clear else Verdict.BETWEEN


def window_of(rule: object) -> Window | None:
    """Return a new window for a target of a rule; None for a rule that looks at the newest value alone."""
    if isinstance(rule, Rate) or (isinstance(rule, Threshold) and rule.over):
        return Window(rule.over)
    return None


def expected(rule: object) -> str:
    """Say in a few words what a rule does not want."""
    if isinstance(rule, Threshold | Rate):
        side, limit = ("above", rule.above) if rule.above is not None else ("below", rule.below)
        per = " per second" if isinstance(rule, Rate) else ""
        how = (
            ""
            if isinstance(rule, Rate) or not rule.over or rule.aggregate is Aggregate.LAST
            else f"{rule.aggregate.value} "
        )
        return f"{how}{side} {limit:g}{per}"
    if isinstance(rule, StateRule):
        return " or ".join(rule.states)
    return ""
