"""The flags in force as flagd's definitions (flagd.dev/schema/v0/flags.json), for who runs flagd already. Pure.

flagd puts every client where ours does, for it has the same split. What it cannot express stays here: that a broken edit
takes no effect, and the journal behind the ceiling. So an export is a picture of now; export again after each change.
"""

from __future__ import annotations

from typing import Any

from monitoring.flags.evaluation import FLAG_KEY
from monitoring.flags.model import SWITCHES, Flags
from monitoring.flags.stages import TOTAL_WEIGHT, Extent, Stage

_WHO = {"var": "targetingKey"}


def to_flagd(flags: Flags) -> dict[str, Any]:
    """Return the definitions: ``live`` with the variants supabase and legacy, and the switches."""
    flag = {
        "state": "ENABLED",
        "variants": {"supabase": "supabase", "legacy": "legacy"},
        "defaultVariant": "legacy",
    }
    switches = {
        name: {
            "state": "ENABLED",
            "variants": {"on": True, "off": False},
            "defaultVariant": "off" if name in flags.switched_off else "on",
        }
        for name in SWITCHES
    }
    return {
        "$schema": "https://flagd.dev/schema/v0/flags.json",
        "flags": {FLAG_KEY: {**flag, "targeting": _targeting(flags)}, **switches},
    }


def _targeting(flags: Flags) -> Any:
    if flags.ceiling.completed:
        return {"if": [True, "supabase"]}
    if flags.kill:
        return {"if": [True, "legacy"]}
    extents = flags.extents()
    rules: list[Any] = [{"in": [_WHO, sorted(flags.deny)]}, "legacy"] if flags.deny else []
    for cohort in flags.cohorts:
        members = [{"in": [_WHO, sorted(each for each in cohort.members if not each.endswith("*"))]}]
        members += [
            {"starts_with": [_WHO, each[:-1]]} for each in sorted(cohort.members) if each.endswith("*")
        ]
        rules += [{"or": members}, _rule(flags, flags.ceiling.of(cohort.name), extents[cohort.name])]
    default = _rule(flags, flags.ceiling.default, next(iter(extents.values())))
    return {"if": [*rules, default] if rules else [True, default]}


def _rule(flags: Flags, ceiling: Extent, extent: Extent) -> Any:
    if extent.stage is not Stage.LIVE:
        return "supabase" if extent.served else "legacy"
    if not flags.allow:
        return _split(extent.weight)
    return {"if": [{"in": [_WHO, sorted(flags.allow)]}, _split(ceiling.served), _split(extent.weight)]}


def _split(weight: int) -> Any:
    return {"fractional": [["supabase", weight], ["legacy", TOTAL_WEIGHT - weight]]}
