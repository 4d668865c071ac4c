"""What is wrong with rules though each has the right form: names that lead nowhere, limits that contradict. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from alerting.rules import Absence, Composite, Limited, Rate, Rule, Rules, StateRule, Threshold

Place = tuple[str | int, ...]
"""Keys and indices into the file."""
Mistake = tuple[Place, str]

_ZERO = timedelta()
_LONGEST_NAME = 64


def mistakes(rules: Rules) -> list[Mistake]:
    """Return what is wrong, and where."""
    return [*_doubles(rules), *_of_rules(rules), *_of_channels(rules), *_of_maintenance(rules)]


def _doubles(rules: Rules) -> Iterator[Mistake]:
    for section, named in (("rules", rules.rules), ("channels", rules.channels)):
        names = [each.name for each in named]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield (section, index, "name"), f"{name!r} is there twice"


def _of_rules(rules: Rules) -> Iterator[Mistake]:
    for index, rule in enumerate(rules.rules):
        at: Place = ("rules", index)
        for where, what in (*_of_form(rule), *_of_references(rule, rules)):
            yield (*at, *where), what
        if _reaches(rules, rule.name):
            yield at, f"{rule.name!r} depends on itself"


def _of_channels(rules: Rules) -> Iterator[Mistake]:
    for index, channel in enumerate(rules.channels):
        if bool(channel.url) == bool(channel.url_file):
            yield ("channels", index), "name either url or url_file"
        if channel.burst < 1:
            yield ("channels", index, "burst"), "must be 1 at least"


def _of_maintenance(rules: Rules) -> Iterator[Mistake]:
    for index, window in enumerate(rules.maintenance):
        if window.start.tzinfo is None:
            yield ("maintenance", index, "start"), "needs a time zone, for example 2026-11-26T22:00:00Z"


def _of_form(rule: Rule) -> Iterator[Mistake]:
    if not 0 < len(rule.name) <= _LONGEST_NAME or any(not (c.isalnum() or c in "-_.") for c in rule.name):
        yield ("name",), f"must be 1-{_LONGEST_NAME} letters, digits or - _ ."
    match rule:
        case Threshold() | Rate():
            yield from _of_limits(rule)
        case StateRule() if not rule.states:
            yield ("states",), "name one at least"
        case Absence() if rule.after <= _ZERO:
            yield ("after",), "must be more than nothing"
        case Composite() if bool(rule.all) == bool(rule.any):
            yield (), "name either all or any"
        case _:
            pass


def _of_limits(rule: Limited) -> Iterator[Mistake]:
    if (rule.above is None) == (rule.below is None):
        yield (), "name either above or below"
    elif rule.clear is not None and (
        (rule.above is not None and rule.clear > rule.above)
        or (rule.below is not None and rule.clear < rule.below)
    ):
        yield ("clear",), "lies beyond the limit: the alert would clear while it is broken"
    if isinstance(rule, Rate) and rule.over <= _ZERO:
        yield ("over",), "a rate needs a window"


def _of_references(rule: Rule, rules: Rules) -> Iterator[Mistake]:
    names = [each.name for each in rules.rules]
    channels = [channel.name for channel in rules.channels]
    wanted: list[tuple[str, Sequence[str], Sequence[str], str]] = [
        ("inhibited_by", rule.inhibited_by, names, "rule"),
        ("channels", rule.channels, channels, "channel"),
    ]
    if isinstance(rule, Composite):
        wanted += [("all", rule.all, names, "rule"), ("any", rule.any, names, "rule")]
    for key, referred, there, what in wanted:
        for place, name in enumerate(referred):
            if name not in there:
                known = ", ".join(sorted(there)) or "none"
                yield (key, place), f"there is no {what} {name!r}; {what}s are {known}"


def _reaches(rules: Rules, goal: str) -> bool:
    """Tell whether a rule's parts and causes lead to itself."""
    seen: set[str] = set()
    todo = [goal]
    while todo:
        rule = rules.rule(todo.pop())
        if rule is None:
            continue
        parts = (*rule.all, *rule.any) if isinstance(rule, Composite) else ()
        after = {*rule.inhibited_by, *parts}
        if goal in after:
            return True
        todo += after - seen
        seen |= after
    return False
