"""``crossfade commands``: what agents are asked to run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from crossfade.cli.control_options import ControlOption, control_client
from crossfade.cli.options import DataDirOption, Format, FormatOption, wiring
from crossfade.cli.output import print_json
from crossfade.durations import parse_duration
from crossfade.errors import UsageError
from crossfade.wiring import Role
from monitoring.commands import CommandState

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

    from crossfade.control_client import ControlClient

app = typer.Typer(
    help="What agents on other machines, or on this one, are asked to run.", no_args_is_help=True
)

_WAIT_SECONDS = 0.3
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The command's id.")]


def _duration(text: str) -> timedelta:
    return parse_duration(text)


def _client(data_dir: Path | None, control: str | None, role: Role) -> ControlClient:
    wired = wiring(data_dir)
    return control_client(wired, control, wired.client_id(), role)


def _parameters(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise UsageError(f"{text!r} is no parameter; write NAME=VALUE")
        if name in found:
            raise UsageError(f"{name} is given twice")
        found[name] = value
    return found


@app.command()
def submit(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="The agent's name.")],
    command: Annotated[
        str, typer.Argument(metavar="COMMAND", help="What it offers; see crossfade commands agents.")
    ],
    parameters: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="The command's parameters.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="Of commands with the same key one is run, once.", show_default=False
        ),
    ] = None,
    timeout: Annotated[
        Any,
        typer.Option(
            metavar="DURATION",
            parser=_duration,
            help="How long it may take. (default: what its agent allows)",
            show_default=False,
        ),
    ] = None,
    expires: Annotated[
        Any,
        typer.Option(metavar="DURATION", parser=_duration, help="It is not begun after that."),
    ] = "5m",
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it has ended; exit status 1 unless it succeeded.")
    ] = False,
    control: ControlOption = None,
    format_: FormatOption = Format.TEXT,
    data_dir: DataDirOption = None,
) -> None:
    """Ask an agent to run something of its list."""
    body: dict[str, Any] = {
        "agent": agent,
        "command": command,
        "parameters": _parameters(parameters or []),
        "expires_seconds": expires.total_seconds(),
    }
    if timeout is not None:
        body["timeout_seconds"] = timeout.total_seconds()

    async def run() -> dict[str, Any]:
        async with _client(data_dir, control, Role.OPERATOR) as client:
            headers = {"Idempotency-Key": key} if key else {}
            told: dict[str, Any] = await client.post("/api/commands", body, **headers)
            repeated = told.get("repeated", False)
            while wait and not CommandState(told["state"]).final:
                await asyncio.sleep(_WAIT_SECONDS)
                told = await client.get(f"/api/commands/{told['id']}")
            return told | {"repeated": repeated}

    told = asyncio.run(run())
    if format_ is Format.JSON:
        print_json(told)
    else:
        _tell(told)
    if wait and told["state"] != CommandState.SUCCEEDED:
        raise typer.Exit(1)


@app.command("list")
def list_(
    agent: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of this agent.", show_default=False)
    ] = None,
    state: Annotated[CommandState | None, typer.Option(help="In this state.", show_default=False)] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=500, metavar="N", help="The newest N.")
    ] = 30,
    control: ControlOption = None,
    format_: FormatOption = Format.TEXT,
    data_dir: DataDirOption = None,
) -> None:
    """List commands, the newest first."""
    found = asyncio.run(_get(data_dir, control, "/api/commands", agent=agent, state=state, limit=limit))[
        "commands"
    ]
    if format_ is Format.JSON:
        print_json(found)
    elif found:
        Console().print(_table(found))
    else:
        typer.echo("there are no commands")


@app.command()
def show(
    id_: IdArgument,
    control: ControlOption = None,
    format_: FormatOption = Format.TEXT,
    data_dir: DataDirOption = None,
) -> None:
    """Show a command: how far it is, who asked for it, the end of its output."""
    told = asyncio.run(_get(data_dir, control, f"/api/commands/{id_}"))
    if format_ is Format.JSON:
        print_json(told)
    else:
        _tell(told)


@app.command()
def cancel(
    id_: IdArgument,
    control: ControlOption = None,
    format_: FormatOption = Format.TEXT,
    data_dir: DataDirOption = None,
) -> None:
    """End a command: at once while nobody has taken it, else its agent ends it."""

    async def run() -> dict[str, Any]:
        async with _client(data_dir, control, Role.OPERATOR) as client:
            told: dict[str, Any] = await client.post(f"/api/commands/{id_}/cancel", {})
            return told

    told = asyncio.run(run())
    if format_ is Format.JSON:
        print_json(told)
    else:
        typer.echo(
            f"{told['id']}: {'cancelled' if told['state'] == 'cancelled' else 'its agent is asked to end it'}"
        )


@app.command()
def agents(
    control: ControlOption = None, format_: FormatOption = Format.TEXT, data_dir: DataDirOption = None
) -> None:
    """List the agents and what each may run."""
    found = asyncio.run(_get(data_dir, control, "/api/agents"))["agents"]
    if format_ is Format.JSON:
        print_json(found)
        return
    if not found:
        typer.echo("no agent has registered yet; crossfade agent is one")
    for each in found:
        typer.echo(f"{each['name']} ({'heard' if each['heard'] else 'silent'}, {each['open']} open)")
        for name, offer in each["offers"].items():
            holes = " ".join(f"{parameter}=..." for parameter in offer["parameters"])
            typer.echo(
                f"  {' '.join(filter(None, (name, holes)))}{'  ' if offer['description'] else ''}{offer['description']}"
            )


async def _get(data_dir: Path | None, control: str | None, path: str, **query: object) -> Any:
    async with _client(data_dir, control, Role.VIEWER) as client:
        return await client.get(path, **query)


def _table(found: list[dict[str, Any]]) -> Table:
    drawn = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("id", "agent", "command", "state", "by", "submitted", ""):
        drawn.add_column(column, overflow="fold")
    for one in found:
        at = str(one["submitted_at"])[:19].replace("T", " ")
        drawn.add_row(
            one["id"], one["agent"], one["command"], _state(one), one["submitted_by"], at, one["message"]
        )
    return drawn


def _state(told: dict[str, Any]) -> str:
    far = f" {told['progress']:g}%" if told["state"] == "running" and told["progress"] is not None else ""
    return f"{told['state']}{far}"


def _tell(told: dict[str, Any]) -> None:
    again = ", its key had been used: this is that command" if told.get("repeated") else ""
    typer.echo(f"{told['id']}: {_state(told)}{again}")
    words = " ".join(f"{name}={value}" for name, value in told["parameters"].items())
    typer.echo(f"{told['command']} {words}".rstrip() + f" on {told['agent']}, for {told['submitted_by']}")
    if told["message"]:
        typer.echo(told["message"])
    if told["output"]:
        typer.echo("")
        typer.echo(told["output"].rstrip("\n"))
