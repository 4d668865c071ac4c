"""The guarded rollout: the stage as a picture, cohorts, gates, decisions, capacity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from dashboard import figures
from dashboard.hub import Frame
from dashboard.readings import mapping, mappings, number, text
from dashboard.steering import Cohort, Entry, Gate, Steering
from dashboard.views.words import Columns
from monitoring.flags.model import DEFAULT_COHORT, PERCENT_SCALE
from monitoring.flags.stages import Extent, Stage
from monitoring.rollout.observations import Decision

_WHOLE = 100.0
_THINNEST = 4.0
"""A flow of one percent is still seen."""
_EVENTS, _LEGACY, _SUPABASE = "Events", "Legacy server", "Supabase"
_ICONS = {"PASS": "✓ pass", "FAIL": "✗ fail", "INCONCLUSIVE": "… not yet", "NO_DATA": "… no data", "ERROR": "✗ error"}  # fmt: skip
_MOST_GATES = 12
_NARROW_PIXELS = 500


def in_force(frame: Frame) -> Extent:
    """Return how far the clients without a cohort of their own may go at this moment."""
    wish = dict(frame.flags.extents()).get(DEFAULT_COHORT) or Extent(Stage.OFF)
    limit = frame.flags.ceiling
    if limit.completed:
        return Extent(Stage.COMPLETE)
    return Extent(Stage.OFF) if frame.flags.kill else wish.lowered_to(limit.of(DEFAULT_COHORT))


def picture(extent: Extent, *, blue: str = "#3B82C4", orange: str = "#C9781F", gray: str = "#7C8A99") -> Any:
    """Return the option of a chart of who is sent what, and who is served by it, in this stage.

    Where it is narrow, the labels at its right end are broken into lines, and leave the flows more room.
    """
    links = flows(extent)
    names = dict.fromkeys(name for link in links for name in link[:2])
    colors = {_EVENTS: gray, _LEGACY: orange, _SUPABASE: blue}
    colors |= {target: colors[source] for source, target, _ in links if source in {_LEGACY, _SUPABASE}}
    whole = {
        "animation": False,
        "series": [
            {
                "type": "sankey",
                "left": 4,
                "right": 190,
                "top": 8,
                "bottom": 8,
                "nodeWidth": 10,
                "nodeGap": 14,
                "draggable": False,
                "layoutIterations": 0,
                "emphasis": {"disabled": True},
                "label": {"fontSize": 12},
                "lineStyle": {"color": "source", "opacity": 0.35},
                "data": [{"name": name, "itemStyle": {"color": colors[name]}} for name in names],
                "links": [
                    {"source": source, "target": target, "value": max(value, _THINNEST)}
                    for source, target, value in links
                ],
            }
        ],
    }
    narrow = {"series": [{"right": 112, "label": {"width": 106, "overflow": "break", "lineHeight": 15}}]}
    return {"baseOption": whole, "media": [{"query": {"maxWidth": _NARROW_PIXELS}, "option": narrow}]}


def flows(extent: Extent) -> list[tuple[str, str, float]]:
    """Return the flows of the picture, as (from, to, percent)."""
    stage, served = extent.stage, extent.served / PERCENT_SCALE
    both = Stage.DUALWRITE.rank <= stage.rank < Stage.COMPLETE.rank
    found: list[tuple[str, str, float]] = []
    if stage is not Stage.COMPLETE:
        found.append((_EVENTS, _LEGACY, _WHOLE))
        found.append((_LEGACY, _share(_WHOLE - served, "legacy"), _WHOLE - served))
        if stage is Stage.RAMPDOWN:
            found[-1] = (_LEGACY, "stands in while Supabase fails", _THINNEST)
        elif served == _WHOLE:
            found[-1] = (_LEGACY, "compared with", _THINNEST)
    if both or stage is Stage.COMPLETE:
        found.append((_EVENTS, _SUPABASE, _WHOLE))
        if served:
            found.append((_SUPABASE, _share(served, "Supabase"), served))
        elif stage is Stage.SHADOW:
            shadowed = extent.weight / PERCENT_SCALE
            found.append((_SUPABASE, f"{shadowed:g} % of clients open it, too", shadowed))
        else:
            found.append((_SUPABASE, "compared, serves nobody", _THINNEST))
    return found


def told(extent: Extent) -> str:
    """Return the picture in words."""
    return "; ".join(f"{source} to {target}" for source, target, _ in flows(extent))


def _share(percent: float, backend: str) -> str:
    return f"{percent:g} % of clients on {backend}"


def summary(found: Steering) -> tuple[str, str]:  # noqa: PLR0911 - the first that holds
    """Return in a sentence what the rollout does, and a badge's colour for it."""
    if found.completed:
        return "Complete: Supabase serves everybody, the legacy server is stopped.", "blue"
    if not found.active:
        return "No rollout was started: flags.yaml alone decides who is served by what.", "gray"
    if found.unsafe:
        return f"ROLLBACK UNSAFE: {found.unsafe}", "red"
    if found.latched:
        return f"Taken back: {', '.join(found.latched)}. Somebody has to look and acknowledge.", "red"
    if found.hold:
        return f"Held: {found.hold}", "orange"
    if not found.controlled:
        return "No controller runs, so it stands still where it is.", "orange"
    if found.completing:
        return "Completing: the publishers leave the legacy server.", "blue"
    return "Goes on by itself, as far as flags.yaml wishes and the evidence lets it.", "green"


def cohorts(found: Steering) -> Columns:
    """Return one row a cohort; empty without any."""
    each = found.cohorts
    if not each:
        return {}
    return {
        "Cohort": [one.name for one in each],
        "Stands at": [one.extent or figures.UNKNOWN for one in each],
        "Next": [one.next or figures.UNKNOWN for one in each],
        "Wish": [one.wish or figures.UNKNOWN for one in each],
        "Dwell": [_dwell(one) for one in each],
        "Clients": [figures.plain(one.clients, 0) for one in each],
        "On Supabase": [figures.plain(one.on_supabase, 0) for one in each],
        "What holds it": [one.latch or one.held_by for one in each],
    }


def gates(found: Steering) -> Columns:
    """Return one row a gate of each cohort; empty without any."""
    return _gates([(one.name, gate) for one in found.cohorts for gate in one.gates])


def evidence(gates_: Sequence[Gate]) -> Columns:
    """Return one row a gate that a decision rested on; empty without any."""
    table = _gates([("", gate) for gate in gates_])
    table.pop("Cohort", None)
    return table


def _gates(each: Sequence[tuple[str, Gate]]) -> Columns:
    if not each:
        return {}
    return {
        "Cohort": [name for name, _ in each],
        "Gate": [gate.name for _, gate in each],
        "Answer": [_ICONS.get(gate.answer, gate.answer.lower()) for _, gate in each],
        "Because": [gate.reason for _, gate in each],
    }


def journal(entries: Sequence[Entry], now: datetime) -> Columns:
    """Return one row a decision, newest first; empty without any."""
    if not entries:
        return {}
    return {
        "Ago": [figures.age(each.at, now) for each in entries],
        "Decision": [each.action for each in entries],
        "Cohort": [each.cohort or "all" for each in entries],
        "From": [each.before for each in entries],
        "To": [each.after for each in entries],
        "By": [each.by for each in entries],
        "Why": [each.reason for each in entries],
    }


def entry(each: Entry) -> str:
    """Return a decision in one line, to choose from."""
    at = "" if each.at is None else f"{figures.clock(each.at)} · "
    return f"{at}{each.action} {each.cohort or 'all'}: {each.before} → {each.after}"


def decision(each: Decision) -> str:
    """Return what a command would decide, in a line of Markdown."""
    way = f"**{each.before}**" if each.before == each.after else f"**{each.before}** → **{each.after}**"
    return f":material/arrow_forward: {each.cohort or 'all'}: {way} :gray[{each.reason}]"


def capacity(found: Mapping[str, Any] | None) -> tuple[str, Columns]:
    """Return what the load needs of the plan in a sentence, and one row a limit of the recommended mode."""
    if not found:
        return "Nothing runs that could be measured.", {}
    modes, chosen = mapping(found.get("modes")), text(found.get("recommended"))
    load = f"{number(found.get('clients')) or 0:.0f} clients, {number(found.get('rate')) or 0:.1f} events/s"
    mode = mapping(modes.get(chosen) or next(iter(modes.values()), {}))
    said = f"{load} on plan {text(found.get('plan'))}: " + (
        f"mode {chosen} {text(mode.get('verdict'))}" if chosen else "neither mode fits"
    )
    uses = [each for each in mappings(mode.get("uses")) if number(each.get("limit")) is not None]
    if not uses:
        return said, {}
    return said, {
        "Limit": [text(each.get("name")) for each in uses],
        "Used": [100 * (number(each.get("share")) or 0.0) for each in uses],
        "Needed": [_amount(number(each.get("needed"))) for each in uses],
        "Of": [figures.count(round(number(each.get("limit")) or 0)) for each in uses],
    }


def _amount(value: float | None) -> str:
    whole = value is not None and value >= _WHOLE
    return figures.count(round(value or 0)) if whole else figures.plain(value, 1)


def _dwell(one: Cohort) -> str:
    if one.dwelt_seconds is None or one.dwell_seconds is None:
        return figures.UNKNOWN
    return f"{figures.span(min(one.dwelt_seconds, one.dwell_seconds))} of {figures.span(one.dwell_seconds)}"
