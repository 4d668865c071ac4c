"""``crossfade flags``: look at the flag file, and change it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from adapters import client_reports, flag_audit, flag_file
from adapters.flag_file import FlagFileUnusable
from crossfade import flag_changes, logs, plan
from crossfade.cli.options import DataDirOption, FlagsOption, Format, FormatOption, wiring
from crossfade.cli.output import print_json
from crossfade.errors import ComparisonFailed, CrossfadeError, UsageError
from crossfade.paths import DataDir
from crossfade.wiring import open_flags
from monitoring.errors import InvalidFlags
from monitoring.flags import flagd, planning
from monitoring.flags.description import describe, differences
from monitoring.flags.evaluation import bucket_of, evaluate
from monitoring.flags.loading import load
from monitoring.flags.model import KEYS, Flags, overridden
from monitoring.flags.routing import evaluate_route, explain_route
from monitoring.service import Backend

app = typer.Typer(help="Look at the flag file and change it.", no_args_is_help=True)

_SHOWN = 20
"""Clients named one by one."""

FileArgument = Annotated[
    Path | None, typer.Argument(help="A flag file; by default the one in use.", show_default=False)
]


@app.command()
def validate(
    file: FileArgument = None,
    data_dir: DataDirOption = None,
    flags: FlagsOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Read a flag file as strictly as every process does; exit 1 when it would be refused."""
    wired = wiring(data_dir, flags)
    path = file or plan.flags_file(wired.data, wired.settings)
    try:
        load(flag_file.read(path))
    except InvalidFlags as error:
        if format_ is Format.JSON:
            print_json(
                {"file": str(path), "valid": False, "line": error.line or None, "reason": error.reason}
            )
            raise typer.Exit(1) from None
        raise CrossfadeError(f"{path}: {error}") from error
    if format_ is Format.JSON:
        print_json({"file": str(path), "valid": True})
    else:
        typer.echo(f"{path} is good")


@app.command("list")
def list_(
    data_dir: DataDirOption = None, flags: FlagsOption = None, format_: FormatOption = Format.TEXT
) -> None:
    """Show every flag with its value and meaning."""
    wired = wiring(data_dir, flags)
    path = plan.flags_file(wired.data, wired.settings)
    environment = wired.settings.switches
    settings = describe(overridden(_load(path), environment))
    if format_ is Format.JSON:
        values = {setting.key: setting.value for setting in settings}
        print_json({"file": str(path), "flags": values, "from_environment": sorted(environment)})
        return
    table = Table("flag", "value", "meaning", title=str(path), title_justify="left", box=None)
    for setting in settings:
        source = "; set by the environment" if setting.key in environment else ""
        table.add_row(setting.key, setting.text or "(none)", setting.meaning + source)
    Console().print(table)


@app.command("set")
def set_(
    key: Annotated[
        str,
        typer.Argument(help=f"One of {', '.join(KEYS)}, or cohorts.NAME.clients, .stage or .percent."),
    ],
    value: Annotated[str, typer.Argument(help="The value; lists take ids separated by commas.")],
    why: Annotated[str, typer.Option("--why", help="Kept with who, when, from and to.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")
    ] = False,
    data_dir: DataDirOption = None,
    flags: FlagsOption = None,
) -> None:
    """Change a flag; clients follow within a second, as far as a started rollout lets them."""
    wired = wiring(data_dir, flags)
    change = flag_changes.prepared(wired, key, value)
    if dry_run:
        before, after = (flag_changes.in_force(wired, each) for each in (change.before, change.after))
        _print_plan(before, after, wired.data)
        return
    flag_changes.made(wired, change, why)
    typer.echo(f"{key} is {value or '(none)'} in {change.path}")
    if key in wired.settings.switches:
        typer.echo(f"the environment ({key.upper()}) wins over it in every process that has it", err=True)
    if plan.running_state(wired.data) is None:
        typer.echo(
            f"nothing runs on {wired.data.root}; crossfade up{wired.data.option} will use it", err=True
        )


@app.command("explain")
def explain_(
    client: Annotated[str, typer.Argument(help="A client's id.")],
    data_dir: DataDirOption = None,
    flags: FlagsOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Say which backend serves a client, what of it is polled, and why."""
    wired = wiring(data_dir, flags)
    path = plan.flags_file(wired.data, wired.settings)
    found = open_flags(wired.data, path, wired.settings.switches)
    logs.to_stderr(logging.ERROR)  # what is refused is said below
    current = found.refresh()
    if problem := found.problem():
        raise CrossfadeError(problem)
    if format_ is Format.JSON:
        decision, route = evaluate(current, client), evaluate_route(current, client)
        print_json(
            {
                "client": client,
                "backend": route.backend,
                "polled": sorted(route.polled),
                "fallbacks": route.fallbacks,
                "variant": decision.variant,
                "reason": decision.reason,
                "bucket": bucket_of(client),
                "cohort": decision.cohort,
                "stage": decision.stage,
                "shadow": route.shadow,
            }
        )
    else:
        typer.echo(explain_route(current, client))


@app.command("plan")
def plan_(
    file: Annotated[Path, typer.Argument(help="The flag file that may take the place of the one in use.")],
    data_dir: DataDirOption = None,
    flags: FlagsOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Say who would move, and why, if a file took the place of the one in use. Changes nothing."""
    wired = wiring(data_dir, flags)
    path = plan.flags_file(wired.data, wired.settings)
    before, after = flag_changes.in_force(wired, _load(path)), flag_changes.in_force(wired, _load(file))
    _print_plan(before, after, wired.data, format_)


@app.command()
def diff(
    file: Annotated[Path, typer.Argument(help="The flag file to compare with.")],
    data_dir: DataDirOption = None,
    flags: FlagsOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Say what differs between the file in use and another one, key by key; exit 1 when something does, 2 when one cannot be read."""
    wired = wiring(data_dir, flags)
    path = plan.flags_file(wired.data, wired.settings)
    try:
        found = list(differences(_load(path), _load(file)))
    except (CrossfadeError, FlagFileUnusable) as error:
        raise ComparisonFailed(str(error)) from error
    if format_ is Format.JSON:
        print_json({"file": str(path), "other": str(file), "differences": found})
    else:
        typer.echo("\n".join(found) or "nothing differs")
    raise typer.Exit(1 if found else 0)


@app.command()
def export(
    data_dir: DataDirOption = None,
    flags: FlagsOption = None,
    format_: Annotated[str, typer.Option("--format", help="flagd: flagd's definitions, as JSON.")] = "flagd",
) -> None:
    """Write the flags in force, with the rollout's limit, in another system's form."""
    if format_ != "flagd":
        raise UsageError(f"--format {format_}: flagd is the only one there is")
    wired = wiring(data_dir, flags)
    path = plan.flags_file(wired.data, wired.settings)
    print_json(flagd.to_flagd(overridden(flag_changes.in_force(wired, _load(path)), wired.settings.switches)))


@app.command()
def history(
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 20,
    data_dir: DataDirOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Say who changed which flag, when, from what to what, and why."""
    found = list(flag_audit.read(wiring(data_dir).data.flag_audit))[-limit:]
    if format_ is Format.JSON:
        print_json({"changes": found})
        return
    for entry in found:
        why = f"  ({entry['why']})" if entry["why"] else ""
        typer.echo(f"{entry['at']}  {entry['who']}  {'; '.join(entry['changes'])}{why}")


def _load(path: Path) -> Flags:
    try:
        return load(flag_file.read(path))
    except InvalidFlags as error:
        raise CrossfadeError(f"{path}: {error}; correct it, the last good flags stay in force") from error


def _print_plan(before: Flags, after: Flags, data: DataDir, format_: Format = Format.TEXT) -> None:
    clients = client_reports.connected(data.client_reports)
    found = planning.plan(before, after, clients)
    moves = {"forward": found.forward, "back": found.back}
    if format_ is Format.JSON:
        print_json(
            {
                "connected": len(clients),
                **{
                    name: [
                        {"client": move.client, "before": move.before.reason, "after": move.after.reason}
                        for move in each
                    ]
                    for name, each in moves.items()
                },
                "unchanged": found.unchanged,
                "held_by_rollout": found.held_by_rollout,
                "differences": list(differences(before, after)),
                "shares": {
                    name: [None if each is None else str(each) for each in pair]
                    for name, pair in found.shares.items()
                },
                "polled": [sorted(found.polled_before), sorted(found.polled_after)],
            }
        )
        return
    for line in differences(before, after):
        typer.echo(line)
    typer.echo(
        f"of {len(clients)} connected clients {len(found.forward)} move to Supabase, {len(found.back)} back to the legacy "
        f"server, {found.unchanged} stay"
    )
    if found.held_by_rollout:
        typer.echo(f"{found.held_by_rollout} are wished on Supabase, and wait for the rollout")
    for to, each in ((Backend.SUPABASE, found.forward), (Backend.LEGACY, found.back)):
        for move in each[:_SHOWN]:
            typer.echo(f"  {move.client} -> {to}: {move.before.reason} -> {move.after.reason}")
        if len(each) > _SHOWN:
            typer.echo(f"  and {len(each) - _SHOWN} more -> {to}")
    if found.polled_before != found.polled_after:
        typer.echo(f"polled: {_names(found.polled_before)} -> {_names(found.polled_after)}")


def _names(categories: frozenset[str]) -> str:
    return ", ".join(sorted(categories)) or "nothing"
