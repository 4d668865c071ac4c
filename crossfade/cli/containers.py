"""``crossfade containers``: containers of this machine and, over SSH, of devices: list, start, stop, restart, logs."""

from __future__ import annotations

import asyncio
import socket
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from collectors.docker import DockerCollector
from collectors.docker_connection import Connect, from_environment
from collectors.docker_control import DockerControl
from collectors.docker_logs import DockerLogs
from crossfade.cli.options import DataDirOption, Format, FormatOption, wiring
from crossfade.cli.output import print_json
from crossfade.controls import control_of
from monitoring.control import Command, ContainerSummary, Outcome
from monitoring.logs import LogLine, format_stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crossfade.remote import RemoteControl

app = typer.Typer(
    help="Containers of this machine, in Docker or Podman as DOCKER_HOST says, and of devices, over SSH.",
    no_args_is_help=True,
)

NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="[DEVICE/]NAME", help="Name or id of the container; of another device with its name."
    ),
]
GraceOption = Annotated[
    int,
    typer.Option(
        "--grace", min=0, max=3600, metavar="SECONDS", help="How long it may take to end before it is killed."
    ),
]


async def _control(device: str, data_dir: Path | None) -> DockerControl | RemoteControl:
    """Return the control of this machine when no device is named."""
    if not device:
        return DockerControl(socket.gethostname(), from_environment)
    return await control_of(wiring(data_dir), device)


async def _command(
    command: Command, container: str, data_dir: Path | None, grace_seconds: int = 10
) -> Outcome:
    device, _, name = container.rpartition("/")
    control = await _control(device, data_dir)
    return await control.command(command, name, grace_seconds=grace_seconds)


@app.command("list")
def list_(
    device: Annotated[
        str,
        typer.Argument(metavar="[DEVICE]", help="Of another device than this machine.", show_default=False),
    ] = "",
    data_dir: DataDirOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """List the containers, running or not."""

    async def run() -> Sequence[ContainerSummary]:
        return await (await _control(device, data_dir)).containers()

    found = asyncio.run(run())
    if format_ is Format.JSON:
        print_json([asdict(one) for one in found])
    elif found:
        Console().print(_table(found))
    else:
        typer.echo("there are no containers")


def _table(found: Sequence[ContainerSummary]) -> Table:
    drawn = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("name", "status", "health", "since", "image", "id"):
        drawn.add_column(column, overflow="fold")
    for one in found:
        drawn.add_row(one.name, one.status, one.health or "", one.detail, one.image, one.id)
    return drawn


@app.command()
def start(name: NameArgument, data_dir: DataDirOption = None, format_: FormatOption = Format.TEXT) -> None:
    """Start a container; done when Docker's event says so."""
    _tell(asyncio.run(_command(Command.START, name, data_dir)), format_)


@app.command()
def stop(
    name: NameArgument,
    grace: GraceOption = 10,
    data_dir: DataDirOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Stop a container; done when Docker's event says so."""
    _tell(asyncio.run(_command(Command.STOP, name, data_dir, grace)), format_)


@app.command()
def restart(
    name: NameArgument,
    grace: GraceOption = 10,
    data_dir: DataDirOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Restart a container; done when Docker's event says so."""
    _tell(asyncio.run(_command(Command.RESTART, name, data_dir, grace)), format_)


def _tell(outcome: Outcome, format_: Format) -> None:
    if format_ is Format.JSON:
        print_json(asdict(outcome))
        return
    code = f", exit code {outcome.exit_code}" if outcome.exit_code is not None else ""
    done = "done" if outcome.changed else "it already was"
    typer.echo(f"{outcome.command} {outcome.name} ({outcome.container}): {done}; {outcome.status}{code}")


@app.command()
def logs(
    name: NameArgument,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=1000, metavar="N", help="The last N lines.")
    ] = 100,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", "-f", help="Go on with new lines, over restarts and recreations, until Ctrl-C."
        ),
    ] = False,
    data_dir: DataDirOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show a container's log."""
    asyncio.run(_logs(name, lines, format_, data_dir, follow=follow))


async def _logs(container: str, lines: int, format_: Format, data_dir: Path | None, *, follow: bool) -> None:
    device, _, name = container.rpartition("/")
    control = await _control(device, data_dir)
    if not follow:
        _print(await control.logs(name, lines), format_)
        return
    await control.containers()  # says at once, and in its own words, when there is no engine
    if isinstance(control, DockerControl):
        await _follow(name, lines, format_, from_environment)
        return
    async with control.docker() as connect:
        await _follow(name, lines, format_, connect)


async def _follow(name: str, lines: int, format_: Format, connect: Connect) -> None:
    collector = DockerCollector("this-host", connect=connect)
    source = DockerLogs("this-host", connect, collector.known)
    watching = asyncio.create_task(collector.watch(lambda _: None))  # cancelled below
    try:
        async with aclosing(source.follow("this-host", name, lines)) as batches:
            async for batch in batches:
                _print(batch, format_)
    finally:
        watching.cancel()
        await asyncio.wait({watching})
        await collector.close()


def _print(lines: Sequence[LogLine], format_: Format) -> None:
    for line in lines:
        if format_ is Format.JSON:
            print_json(_json(line), indent=False)
        elif line.mark is not None:
            typer.echo(f"{format_stamp(line.stamp)} --- container {line.mark}: {line.text} ---")
        else:
            typer.echo(f"{format_stamp(line.stamp)} {line.text}")


def _json(line: LogLine) -> dict[str, Any]:
    told: dict[str, Any] = {
        "at": format_stamp(line.stamp),
        "position": line.position,
        "container": line.container,
        "text": line.text,
    }
    return told if line.mark is None else told | {"mark": line.mark}
