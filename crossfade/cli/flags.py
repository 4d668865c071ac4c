"""``crossfade flags``: look at the flag file and change it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from adapters import flag_file
from crossfade import plan
from crossfade.cli.options import DataDirOption, FlagsOption, Format, FormatOption, wiring
from crossfade.cli.output import print_json
from crossfade.errors import CrossfadeError, UsageError
from crossfade.wiring import open_flags
from monitoring.errors import InvalidFlags
from monitoring.flags.description import describe
from monitoring.flags.editing import edit
from monitoring.flags.evaluation import evaluate, explain
from monitoring.flags.loading import load

app = typer.Typer(help="Look at the flag file and change it.", no_args_is_help=True)


@app.command("list")
def list_(
    data_dir: DataDirOption = None, flags: FlagsOption = None, format_: FormatOption = Format.TEXT
) -> None:
    """Show every flag with its value and meaning."""
    wired = wiring(data_dir, flags)
    path = plan.flags_file(wired.data, wired.settings)
    try:
        settings = describe(load(flag_file.read(path)))
    except InvalidFlags as error:
        raise CrossfadeError(f"{path}: {error}; correct it, the last good flags stay in force") from error
    if format_ is Format.JSON:
        print_json({"file": str(path), "flags": {setting.key: setting.value for setting in settings}})
        return
    table = Table("flag", "value", "meaning", title=str(path), title_justify="left", box=None)
    for setting in settings:
        table.add_row(setting.key, setting.text or "(none)", setting.meaning)
    Console().print(table)


@app.command("set")
def set_(
    key: Annotated[str, typer.Argument(help="kill, live.percent, live.allow or live.deny")],
    value: Annotated[str, typer.Argument(help="The value; lists take ids separated by commas.")],
    data_dir: DataDirOption = None,
    flags: FlagsOption = None,
) -> None:
    """Change a flag; clients follow within a second."""
    wired = wiring(data_dir, flags)
    path = plan.flags_file(wired.data, wired.settings)
    before = flag_file.read(path)
    try:
        load(before)
    except InvalidFlags as error:
        raise CrossfadeError(f"{path} was not changed, correct it first: {error}") from error
    try:
        after = edit(before, key, value)
    except InvalidFlags as error:  # the file being good, it is the key or the value
        raise UsageError(f"{path} was not changed: {error}") from error
    flag_file.write(path, after, expected=before)
    open_flags(
        wired.data, path
    ).refresh()  # in force from here on, also for what starts after the next mistake
    typer.echo(f"{key} is {value or '(none)'} in {path}")
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
    """Say which backend serves a client, and why."""
    wired = wiring(data_dir, flags)
    path = plan.flags_file(wired.data, wired.settings)
    found = open_flags(wired.data, path)
    current = found.refresh()
    if problem := found.problem():
        raise CrossfadeError(problem)
    if format_ is Format.JSON:
        decision = evaluate(current, client)
        print_json(
            {
                "client": client,
                "backend": decision.value,
                "variant": decision.variant,
                "reason": decision.reason,
                "bucket": decision.bucket,
            }
        )
    else:
        typer.echo(explain(current, client))
