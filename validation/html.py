"""A report as one HTML file that needs nothing else: for whoever decides, and has five minutes. Pure.

Colours are an orange and a blue that people who see no red and green tell apart; nothing is said by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from validation.observation import FINDINGS, MEANINGS, Outcome

_SIDES = {"legacy": "#b45309", "supabase": "#1d4ed8"}
_CLASSES = {
    "missing_legacy": "#b45309", "missing_supabase": "#1d4ed8", "missing_both": "#111827", "mismatch": "#be185d",
    "duplicate": "#7c3aed", "reordered": "#0f766e", "late": "#a16207", "extra": "#64748b",
}  # fmt: skip
_MEANING = {
    "PASS": "Both paths delivered the same events. Nothing was found that speaks against going on.",
    "FAIL": "The paths differ. Do not move more clients before the findings below are explained.",
    "INCONCLUSIVE": "Nothing wrong was found, but too little was seen to rely on it. This is no yes.",
    "NO_DATA": "Nothing was published in this time, so nothing could be compared. This is no yes.",
    "ERROR": "The comparison itself failed. It says nothing about the paths.",
}
_BADGE = {
    "PASS": "#166534",
    "FAIL": "#991b1b",
    "INCONCLUSIVE": "#854d0e",
    "NO_DATA": "#374151",
    "ERROR": "#374151",
}
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 900, 220, 56, 30

_STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:960px;margin:2rem auto;padding:0 1rem;color:#111827;background:#fff}
h1{font-size:1.6rem;margin:0 0 .25rem}h2{font-size:1.15rem;margin:2.2rem 0 .5rem}
.verdict{display:inline-block;color:#fff;border-radius:.4rem;padding:.1rem .7rem;font-weight:700;letter-spacing:.03em}
.lead{font-size:1.1rem;margin:.6rem 0}.muted{color:#6b7280}ul{padding-left:1.2rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:.8rem;margin:1.2rem 0}
.tile{border:1px solid #d1d5db;border-radius:.5rem;padding:.7rem .9rem}.tile b{display:block;font-size:1.45rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #e5e7eb;vertical-align:top}td.n,th.n{text-align:right}
.scroll{overflow-x:auto}code{font:13px/1.4 ui-monospace,monospace;overflow-wrap:anywhere}
svg{width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:currentColor}
.key span{margin-right:1.2rem}.key i{display:inline-block;width:.9em;height:.9em;margin-right:.35em;vertical-align:-.1em}
@media(prefers-color-scheme:dark){body{color:#e5e7eb;background:#111827}.tile,th,td{border-color:#374151}.muted{color:#9ca3af}}
@media print{body{margin:0;max-width:none}}
"""


def to_html(report: Mapping[str, Any]) -> str:
    """Return the page of a report as `report.to_json` makes it."""
    return "\n".join(_page(report)) + "\n"


def _page(report: Mapping[str, Any]) -> Iterator[str]:
    verdict = report["verdict"]
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width,initial-scale=1">'
    yield f"<title>{escape(verdict)} - Crossfade validation</title><style>{_STYLE}</style></head><body>"
    yield "<h1>Do both paths deliver the same?</h1>"
    yield f'<p class="muted">{escape(report["started_at"])} to {escape(report["ended_at"])}</p>'
    yield f'<p><span class="verdict" style="background:{_BADGE[verdict]}">{escape(verdict)}</span></p>'
    yield f'<p class="lead">{escape(_MEANING[verdict])}</p>'
    yield "<ul>" + "".join(f"<li>{escape(reason)}</li>" for reason in report["reasons"]) + "</ul>"
    yield from _tiles(report)
    yield from _classes(report)
    yield "<h2>How fast each path delivered</h2>" + _latencies(report["sides"])
    yield "<h2>Findings over time</h2>" + _timeline(report["timeline"])
    yield "<h2>Parity by topic</h2>" + _parity(report["categories"])
    yield from _clients(report.get("clients") or {})
    yield from _states(report.get("states") or {})
    yield from _samples(report["samples"])
    yield "<h2>What was not compared</h2><ul>"
    yield "".join(f"<li>{escape(each)}</li>" for each in report["not_compared"]) + "</ul>"
    yield from _terms(report)
    yield "</body></html>"


def _tiles(report: Mapping[str, Any]) -> Iterator[str]:
    found = sum(report["counts"].get(str(outcome), 0) for outcome in FINDINGS)
    bound = report["upper_bound_95"]
    tiles = [
        (f"{report['decided']:,}", f"events compared, of {report['published']:,} published"),
        (f"{found:,}", "findings"),
        (f"{report['coverage']:.2%}", "coverage"),
        ("-" if bound is None else f"< {bound:.3%}", "could differ unseen (95 %, at any look)"),
    ]
    for side, figures in report["sides"].items():
        p99 = figures["latency"]["p99_seconds"]
        tiles.append(("-" if p99 is None else _duration(p99), f"{side}: 99 % arrive within"))
    yield '<div class="tiles">'
    yield "".join(f'<div class="tile"><b>{escape(a)}</b>{escape(b)}</div>' for a, b in tiles) + "</div>"


def _classes(report: Mapping[str, Any]) -> Iterator[str]:
    yield '<h2>Every event, in one class</h2><div class="scroll"><table><tr><th>class</th><th class="n">events</th><th></th></tr>'
    for outcome in Outcome:
        count = report["counts"].get(str(outcome), 0)
        weight = ' style="font-weight:700"' if count and outcome in FINDINGS else ""
        yield f'<tr{weight}><td>{outcome}</td><td class="n">{count:,}</td><td>{escape(MEANINGS[outcome])}</td></tr>'
    yield f'<tr><td>pending</td><td class="n">{report["pending"]:,}</td><td>too young to be decided</td></tr>'
    yield f'<tr><td>= published</td><td class="n">{report["published"]:,}</td><td>every class but extra</td></tr></table></div>'


def _latencies(sides: Mapping[str, Any]) -> str:
    """Return what share of the events had arrived after how long, on both sides."""
    curves = {side: figures["latency"]["histogram"] for side, figures in sides.items()}
    values = [seconds for curve in curves.values() for seconds, _ in curve]
    if not values:
        return '<p class="muted">No delivery was timed.</p>'
    low, high = math.log10(max(1e-4, min(values))), math.log10(max(1e-3, *values))
    high = max(high, low + 0.3)

    def x(seconds: float) -> float:
        return _LEFT + (math.log10(max(seconds, 1e-4)) - low) / (high - low) * (_WIDTH - _LEFT - 20)

    parts = [_grid([(0, "0 %"), (0.5, "50 %"), (0.9, "90 %"), (1.0, "100 %")])]
    parts += [_tick(x(10**each), _duration(10**each)) for each in range(math.ceil(low), math.floor(high) + 1)]
    for number, (side, curve) in enumerate(curves.items()):
        total = sum(count for _, count in curve)
        seen, points = 0, []
        for seconds, count in curve:
            points.append(f"{x(seconds):.1f},{_y(seen / total):.1f}")
            seen += count
            points.append(f"{x(seconds):.1f},{_y(seen / total):.1f}")
        dash = ' stroke-dasharray="6 4"' if number else ""
        parts.append(
            f'<polyline fill="none" stroke="{_SIDES[side]}" stroke-width="2.5"{dash} points="{" ".join(points)}"/>'
        )
    key = [(side, _SIDES[side]) for side in curves]
    return _figure("Share of the events that had arrived, by time since they happened", parts) + _key(key)


def _timeline(timeline: Mapping[str, Any]) -> str:
    rows = timeline["rows"]
    if not rows:
        return '<p class="muted">Nothing was decided.</p>'
    seconds = timeline["seconds"]
    span = max(row["at"] for row in rows) + seconds
    found = [[(name, row.get(name, 0)) for name in _CLASSES if row.get(name)] for row in rows]
    most = max([sum(count for _, count in each) for each in found] + [1])
    parts = [_grid([(0, "0"), (1.0, f"{most:,}")])]
    scale = (_WIDTH - _LEFT - 20) / span
    for row, classes in zip(rows, found, strict=True):
        left, width, base = _LEFT + max(0.0, row["at"]) * scale, max(1.5, seconds * scale - 1), 0
        if not classes:
            parts.append(
                f'<rect x="{left:.1f}" y="{_y(0) - 2:.1f}" width="{width:.1f}" height="2" fill="#9ca3af"/>'
            )
        for name, count in classes:
            top, bottom = _y((base + count) / most), _y(base / most)
            parts.append(
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{max(2, bottom - top):.1f}" '
                f'fill="{_CLASSES[name]}"><title>{name}: {count}</title></rect>'
            )
            base += count
    parts += [
        _tick(_LEFT + share * span * scale, _duration(share * span)) for share in (0.25, 0.5, 0.75, 1.0)
    ]
    used = [name for name in _CLASSES if any(name == each for row in found for each, _ in row)]
    key = (
        _key([(name, _CLASSES[name]) for name in used])
        if used
        else '<p class="muted">No finding at any time; the grey line is where events matched.</p>'
    )
    return _figure(f"Findings in each {_duration(seconds)}", parts) + key


def _parity(categories: Mapping[str, Mapping[str, int]]) -> str:
    if not categories:
        return '<p class="muted">Nothing was decided.</p>'
    rows = []
    for name, counts in categories.items():
        decided = sum(count for outcome, count in counts.items() if outcome != "excluded")
        matched = counts.get("matched", 0)
        share = matched / decided if decided else 0.0
        bar = f'<svg viewBox="0 0 200 12" style="width:200px" role="img" aria-label="{share:.2%}"><rect width="200" height="12" fill="#be185d"/><rect width="{200 * share:.1f}" height="12" fill="#1d4ed8"/></svg>'
        rows.append(
            f'<tr><td>categories.{escape(name)}</td><td class="n">{decided:,}</td><td class="n">{decided - matched:,}</td>'
            f'<td class="n">{share:.3%}</td><td>{bar}</td></tr>'
        )
    head = '<tr><th>topic</th><th class="n">decided</th><th class="n">not matched</th><th class="n">parity</th><th></th></tr>'
    return f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'


def _clients(seen: Mapping[str, Any]) -> Iterator[str]:
    """Yield what clients saw; reports of before that was compared have nothing of it."""
    if not seen.get("blocks"):
        return
    yield "<h2>What clients saw</h2><p>"
    yield f"{seen['clients']:,} clients reported; {seen['blocks']:,} blocks of ten seconds were compared with what was published "
    yield f"({seen['events']:,} events): <b>{seen['agree']:,} agree, {seen['differ']:,} differ</b>.</p>"
    yield '<div class="scroll"><table><tr><th>cohort</th><th>class</th><th class="n">blocks</th><th class="n">disturbed</th>'
    yield '<th class="n">ruled out (95 %)</th><th>tripped</th></tr>'
    for cohort, of in seen["cohorts"].items():
        for name, each in of.items():
            if name != "any" and not each["findings"]:
                continue
            bound, tripped = each["upper_bound"], each["tripped_at_events"]
            yield (
                f'<tr><td>{escape(cohort)}</td><td>{escape(name)}</td><td class="n">{each["blocks"]:,}</td>'
                f'<td class="n">{each["disturbed"]:,}</td><td class="n">{"-" if bound is None else f"{bound:.3%}"}</td>'
                f"<td>{'no' if tripped is None else f'after {tripped:,} events'}</td></tr>"
            )
    yield "</table></div>"
    if seen["samples"]:
        yield '<div class="scroll"><table><tr><th>client</th><th>stream</th><th>differs</th></tr>'
        for each in seen["samples"]:
            where = f"{each['client']} ({each['cohort']})"
            yield f"<tr><td>{escape(where)}</td><td><code>{escape(each['stream'])}</code></td>"
            yield f"<td>{escape(each['fault'])}: {escape(each['words'])}</td></tr>"
        yield "</table></div>"


def _states(states: Mapping[str, Any]) -> Iterator[str]:
    if not states.get("entries"):
        return
    yield f"<h2>State against state</h2><p>{states['entries']:,} entries (stream and kind) of both snapshots were compared: "
    yield f"<b>{states['counts']['matched']:,} match, {states['differ']:,} differ</b>.</p>"
    if states["samples"]:
        yield '<div class="scroll"><table><tr><th>entry</th><th>class</th><th>fields</th></tr>'
        for each in states["samples"]:
            yield f"<tr><td><code>{escape(each['stream'])} {escape(each['kind'])}</code></td><td>{escape(each['class'])}</td>"
            yield f"<td><code>{escape('; '.join(each['details']))}</code></td></tr>"
        yield "</table></div>"


def _samples(samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    for name, found in samples.items():
        yield f'<h2>Examples: {escape(name)}</h2><div class="scroll"><table>'
        for each in found:
            where = f"{each['stream']} {each['epoch']}:{each['seq']}"
            yield f"<tr><td><code>{escape(where)}</code></td><td><code>{escape('; '.join(each['details']))}</code></td></tr>"
        yield "</table></div>"


def _terms(report: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>How it was judged</h2><ul>"
    terms = report["thresholds"]
    yield f"<li>A PASS needs {terms['min_decided']} decided events, a coverage of {terms['min_coverage']:.0%} and no finding.</li>"
    yield f"<li>An event is decided when it is older than {terms['grace_seconds']:.1f} s.</li>"
    for rule in (*report["rules"], *report["rules_expired"]):
        until = f" until {rule['expires']}" if rule["expires"] else ""
        yield f"<li>Rule: {escape(rule['act'])} {escape(rule['path'])}, {escape(rule['owner'] or 'nobody')}{until}</li>"
    if report["noise"] is not None:
        yield f"<li>Two subscriptions of the old server disagree about {report['noise']:.3%} of the events.</li>"
    yield "".join(
        f"<li>{escape(str(name))}: {escape(str(value))}</li>" for name, value in report["about"].items()
    )
    yield "</ul>"


def _y(share: float) -> float:
    return 12 + (1 - share) * (_HEIGHT - _BOTTOM - 12)


def _grid(levels: list[tuple[float, str]]) -> str:
    return "".join(
        f'<line x1="{_LEFT}" x2="{_WIDTH - 20}" y1="{_y(at):.1f}" y2="{_y(at):.1f}" stroke="#9ca3af" stroke-opacity=".4"/>'
        f'<text x="{_LEFT - 8}" y="{_y(at) + 4:.1f}" text-anchor="end">{escape(text)}</text>'
        for at, text in levels
    )


def _tick(x: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(text)}</text>'


def _figure(title: str, parts: list[str]) -> str:
    body = "".join(parts)
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>{body}</svg>'


def _key(names: list[tuple[str, str]]) -> str:
    items = "".join(f'<span><i style="background:{color}"></i>{escape(name)}</span>' for name, color in names)
    return f'<p class="key">{items}</p>'


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:.3g} min"  # noqa: PLR2004 - two minutes
