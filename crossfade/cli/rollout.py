"""``crossfade rollout``: begin, watch and steer the guarded rollout. Every command works without the controller too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Annotated, Any

import typer

from adapters import flag_audit
from adapters.rollout_journal import Journal, decision_json
from crossfade import plan
from crossfade.cli.options import DataDirOption, FlagsOption, Format, FormatOption, wiring
from crossfade.cli.output import print_json
from crossfade.durations import parse_duration
from crossfade.errors import CrossfadeError, UsageError
from crossfade.rollout import changes
from crossfade.wiring import Wiring
from monitoring.errors import InvalidRollout
from monitoring.flags.model import PERCENT_SCALE
from monitoring.flags.stages import Stage
from monitoring.rollout import commands
from monitoring.rollout.controller import Decided
from monitoring.rollout.state import LADDER, Policy, Position, Rollout

app = typer.Typer(
    help="Move clients to Supabase step by step, by evidence, and back by itself.", no_args_is_help=True
)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be decided, and decide nothing.")]
Why = Annotated[str, typer.Option("--why", help="Kept in the journal.")]
CohortOption = Annotated[
    str | None, typer.Option("--cohort", metavar="NAME", help="Only this cohort.", show_default=False)
]


def _duration(text: str) -> timedelta:
    return parse_duration(text)


def _seconds_option(name: str, what: str) -> Any:
    return typer.Option(name, parser=_duration, metavar="DURATION", help=what, show_default=False)


@app.command()
def start(
    stage: Annotated[
        Stage, typer.Option("--from", help="Where it begins: off, dualwrite or shadow.")
    ] = Stage.SHADOW,
    ladder: Annotated[str, typer.Option(metavar="PERCENT,...", help="The steps of stage live.")] = ",".join(
        f"{weight / PERCENT_SCALE:g}" for weight in LADDER
    ),
    dwell: Annotated[
        Any, _seconds_option("--dwell", "How long each step lasts at least. (default: 15m)")
    ] = None,
    reverse_window: Annotated[
        Any,
        _seconds_option("--reverse-window", "How long the way back stays open in rampdown. (default: 168h)"),
    ] = None,
    min_clients: Annotated[
        int, typer.Option(min=0, help="Clients that have to have shown something in a step.")
    ] = 1,
    max_disturbed: Annotated[
        float, typer.Option(help="The share of disturbed blocks that has to be ruled out.")
    ] = 1e-3,
    latency_budget: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="By how much the new path's p99 may exceed the old one's."),
    ] = 0.25,
    dry_run: DryRun = False,
    data_dir: DataDirOption = None,
    flags: FlagsOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Begin a rollout: from now on the flag file's wish is where it goes to, step by step."""
    try:
        policy = Policy(
            ladder=tuple(round(float(text) * PERCENT_SCALE) for text in ladder.split(",")),
            min_dwell_seconds=_seconds(dwell, 900),
            reverse_window_seconds=_seconds(reverse_window, 7 * 86_400),
            no_data_seconds=max(60.0, 4 * _seconds(dwell, 900)),
            min_clients=min_clients,
            max_disturbed=max_disturbed,
            hoped_disturbed=max_disturbed / 5,
            latency_budget_seconds=latency_budget,
        )
    except (InvalidRollout, ValueError) as error:
        raise UsageError(str(error)) from error
    wired = wiring(data_dir, flags)
    if wired.settings.legacy_url is not None or "bridge" in plan.parts_running(wired.data):
        raise UsageError(
            "beside another's server (CROSSFADE_LEGACY_URL) no controller runs, as there is no comparison by identities to "
            "decide by; move clients yourself, with crossfade flags set live.percent N"
        )
    _decide(
        wired,
        lambda state: commands.start(state, policy, stage, changes.wish(wired).wishes()),
        format_,
        dry_run=dry_run,
    )


@app.command()
def status(data_dir: DataDirOption = None, format_: FormatOption = Format.TEXT) -> None:
    """Say where each cohort stands, what holds it there, and the evidence; exit 1 while a trip is latched, 3 while held."""
    wired = wiring(data_dir)
    entry = Journal(wired.data.rollout_journal).read()
    report = changes.report(wired)
    state = entry.state
    body = {"n": entry.number, "state": state.to_json(), "controller": report}
    if format_ is Format.JSON:
        print_json(body)
    else:
        typer.echo("\n".join(status_lines(state, report)))
    latched = any(position.latch for position in state.cohorts.values())
    raise typer.Exit(1 if latched or state.unsafe else 3 if state.hold else 0)


@app.command("plan")
def plan_(
    data_dir: DataDirOption = None, flags: FlagsOption = None, format_: FormatOption = Format.TEXT
) -> None:
    """Say every step from here to the flag file's wish, and how long it takes at least."""
    wired = wiring(data_dir, flags)
    state = Journal(wired.data.rollout_journal).read().state
    wishes = changes.wish(wired).wishes()
    if not state.active:
        raise CrossfadeError("no rollout has been started; crossfade rollout start begins one")
    found = {name: changes.steps(state, name, wish) for name, wish in wishes.items()}
    if format_ is Format.JSON:
        print_json({"cohorts": found, "dwell_seconds": state.policy.min_dwell_seconds})
        return
    for name, steps in found.items():
        typer.echo(f"{name}: {state.position(name).extent} -> {' -> '.join(steps) or 'no further step'}")
        seconds = len(steps) * state.policy.min_dwell_seconds
        typer.echo(f"  at least {timedelta(seconds=round(seconds))}; a trip takes it back within seconds")


@app.command()
def advance(
    cohort: CohortOption = None,
    why: Why = "",
    dry_run: DryRun = False,
    data_dir: DataDirOption = None,
    flags: FlagsOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Take the next step without waiting for the rest of the dwell. Only where every gate has passed."""
    wired = wiring(data_dir, flags)
    seen = changes.observations(wired)
    _decide(wired, lambda state: commands.advance(state, seen, cohort, why), format_, dry_run=dry_run)


@app.command()
def hold(
    why: Why = "by hand",
    dry_run: DryRun = False,
    data_dir: DataDirOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Keep every cohort where it is. Trips still take clients back."""
    _decide(wiring(data_dir), lambda state: commands.hold(state, why), format_, dry_run=dry_run)


@app.command()
def resume(
    ack: Annotated[
        bool, typer.Option("--ack", help="The reasons of the trips have been dealt with.")
    ] = False,
    why: Why = "",
    dry_run: DryRun = False,
    data_dir: DataDirOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Go on after a hold, or, with --ack, after a trip."""
    _decide(
        wiring(data_dir),
        lambda state: commands.resume(state, acknowledge=ack, why=why),
        format_,
        dry_run=dry_run,
    )


@app.command()
def rollback(
    to: Annotated[Stage, typer.Option("--to", help="off, dualwrite or shadow.")] = Stage.SHADOW,
    why: Why = "by hand",
    cohort: CohortOption = None,
    dry_run: DryRun = False,
    data_dir: DataDirOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Take everybody back at once, and hold there until resume --ack. Needs no database and no controller."""
    _decide(
        wiring(data_dir), lambda state: commands.rollback(state, to, why, cohort), format_, dry_run=dry_run
    )


@app.command()
def complete(
    confirm: Annotated[bool, typer.Option("--confirm", help="This cannot be undone.")] = False,
    dry_run: DryRun = False,
    data_dir: DataDirOption = None,
    flags: FlagsOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Take the last step, which cannot be undone: publishers leave the legacy server, then it is stopped."""
    wired = wiring(data_dir, flags)
    seen = changes.observations(wired)
    _decide(wired, lambda state: commands.complete(state, seen, confirmed=confirm), format_, dry_run=dry_run)


@app.command()
def end(
    dry_run: DryRun = False,
    data_dir: DataDirOption = None,
    flags: FlagsOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """End the rollout, where that moves nobody: from then on the flag file alone decides."""
    wired = wiring(data_dir, flags)
    _decide(wired, lambda state: commands.end(state, changes.wish(wired).wishes()), format_, dry_run=dry_run)


@app.command()
def history(
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 20,
    data_dir: DataDirOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show what was decided, by whom, and on what evidence."""
    entries = list(Journal(wiring(data_dir).data.rollout_journal).entries())[-limit:]
    if format_ is Format.JSON:
        print_json({"entries": entries})
        return
    for entry in entries:
        typer.echo(
            f"{entry['at']}  {entry['by']}  {entry['action']} {entry['cohort'] or 'everybody'}: {entry['before']} -> "
            f"{entry['after']}: {entry['reason']}"
        )
        for gate in entry["gates"]:
            typer.echo(f"    {gate['name']} {gate['answer']}: {gate['reason']}")


def _decide(wired: Wiring, command: Callable[[Rollout], Decided], format_: Format, *, dry_run: bool) -> None:
    """Let a command decide, keep it unless it is a dry run, and show it; raises CrossfadeError with the reason why not."""
    change = changes.tried(wired, command) if dry_run else changes.made(wired, command, flag_audit.me())
    if format_ is Format.JSON:
        print_json(
            {
                "dry_run": dry_run,
                "n": change.number,
                "decisions": [decision_json(decision) for decision in change.decisions],
                "state": change.state.to_json(),
            }
        )
        return
    for decision in change.decisions:
        typer.echo(
            f"{'would ' if dry_run else ''}{decision.action} {decision.cohort or 'everybody'}: {decision.before} -> "
            f"{decision.after}: {decision.reason}"
        )
        for gate in decision.gates:
            typer.echo(f"    {gate.name} {gate.answer}: {gate.reason}")
    if not dry_run and plan.running_state(wired.data) is None:
        typer.echo("nothing runs here; the controller goes on with crossfade up", err=True)


def status_lines(state: Rollout, report: Mapping[str, Any] | None) -> list[str]:
    """Return what ``status`` says: of the journal's state, and of the controller's last report, if one runs."""
    if not state.active:
        lines = ["no rollout has been started: the flag file alone decides"]
    elif state.completed:
        lines = ["complete: Supabase serves everybody, the legacy server is stopped"]
    else:
        lines = [f"ROLLBACK UNSAFE: {state.unsafe}"] if state.unsafe else []
        lines += ["completing: waiting for the publishers"] if state.completing else []
        for name, position in state.cohorts.items():
            said = (report or {}).get("cohorts", {}).get(name, {})
            lines.append(f"{name}: {position.ceiling}, the file wishes for {said.get('wish', '(unknown)')}")
            held = _stopped(state, position) or said.get("held_by")
            lines += [f"  {held}"] if held else []
            lines += [
                f"  {gate['name']:<12}{gate['answer']:<13}{gate['reason']}" for gate in said.get("gates", ())
            ]
    if report is None:
        lines.append("no controller runs: it stands still here (crossfade up)")
    elif report.get("problem") or report.get("database"):
        lines.append(f"controller: {report.get('problem') or report.get('database')}")
    return lines


def _stopped(state: Rollout, position: Position) -> str:
    """Say what keeps a cohort until somebody says otherwise: from the journal, as the report may be a second older."""
    if position.latch:
        return f"taken back: {position.latch}; crossfade rollout resume --ack goes on when that has been dealt with"
    return f"held: {state.hold}; crossfade rollout resume goes on" if state.hold else ""


def _seconds(given: timedelta | None, default: float) -> float:
    return default if given is None else given.total_seconds()
