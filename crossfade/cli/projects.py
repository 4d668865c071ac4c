"""``crossfade projects``: what belongs together: devices and applications."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from crossfade.asking import ask
from crossfade.cli.options import DataDirOption, Format, FormatOption, wiring
from crossfade.cli.output import print_json
from crossfade.errors import UsageError
from crossfade.wiring import Role, Wiring

app = typer.Typer(help="Group devices and applications.", no_args_is_help=True)

ProjectArgument = Annotated[str, typer.Argument(metavar="PROJECT", help="The project's name, or its id.")]
DevicesArgument = Annotated[
    list[str], typer.Argument(metavar="DEVICE...", help="Devices or applications, by name.")
]


@app.command("list")
def list_(
    archived: Annotated[bool, typer.Option("--archived", help="Those that are archived instead.")] = False,
    data_dir: DataDirOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show the projects, and what belongs to them."""
    found = list(_all(wiring(data_dir), "archived" if archived else "active"))
    if format_ is Format.JSON:
        print_json({"projects": found})
        return
    if not found:
        typer.echo("there is no project" if not archived else "no project is archived")
        return
    drawn = Table(box=None, pad_edge=False, header_style="dim")
    drawn.add_column("project", no_wrap=True)
    drawn.add_column("devices and applications", overflow="fold")
    drawn.add_column("description", overflow="fold")
    for each in found:
        drawn.add_row(each["name"], " ".join(each["members"]), each["description"])
    Console().print(drawn)


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called.")],
    device: Annotated[
        list[str] | None,
        typer.Option(metavar="DEVICE", help="What belongs to it; repeat for more.", show_default=False),
    ] = None,
    description: Annotated[str, typer.Option(metavar="TEXT", help="What it is for.")] = "",
    data_dir: DataDirOption = None,
) -> None:
    """Make a project."""
    wired = wiring(data_dir)
    made = ask(wired, "POST", "/api/projects", body={"name": name, "description": description})
    for each in device or ():
        _member(wired, "PUT", made["id"], each)
    typer.echo(f"made {name}: {made['id']}")


@app.command()
def rename(
    project: ProjectArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its new name.")],
    data_dir: DataDirOption = None,
) -> None:
    """Give a project another name."""
    _change(project, data_dir, {"name": name})
    typer.echo(f"{project} is {name} now")


@app.command()
def archive(project: ProjectArgument, data_dir: DataDirOption = None) -> None:
    """Put a project away: it is listed no more, and its name is free."""
    _change(project, data_dir, {"archived": True})
    typer.echo(f"archived {project}; crossfade projects restore takes it back")


@app.command()
def restore(project: ProjectArgument, data_dir: DataDirOption = None) -> None:
    """Take a project back from the archive."""
    _change(project, data_dir, {"archived": False}, state="archived")
    typer.echo(f"{project} is back")


@app.command()
def add(project: ProjectArgument, devices: DevicesArgument, data_dir: DataDirOption = None) -> None:
    """Let devices or applications belong to a project."""
    wired = wiring(data_dir)
    id_ = _find(wired, project)
    for each in devices:
        _member(wired, "PUT", id_, each)
    typer.echo(f"{project} has {' '.join(devices)}")


@app.command()
def remove(project: ProjectArgument, devices: DevicesArgument, data_dir: DataDirOption = None) -> None:
    """Let devices or applications belong to a project no more."""
    wired = wiring(data_dir)
    id_ = _find(wired, project)
    for each in devices:
        _member(wired, "DELETE", id_, each)
    typer.echo(f"{project} has {' '.join(devices)} no more")


def find_project(wired: Wiring, project: str | None) -> str | None:
    """Return the id of a project by its name or id, None for none; raises UsageError for one that there is not."""
    return None if project is None else _find(wired, project)


def _member(wired: Wiring, method: str, project: str, device: str) -> None:
    ask(wired, method, f"/api/projects/{project}/members/{quote(device, safe='')}")


def _change(project: str, data_dir: Any, body: dict[str, Any], *, state: str = "active") -> None:
    wired = wiring(data_dir)
    ask(wired, "PATCH", f"/api/projects/{_find(wired, project, state)}", body=body)


def _find(wired: Wiring, project: str, state: str = "active") -> str:
    known = list(_all(wired, state))
    for each in known:
        if project in {each["name"], each["id"]} or project.lower() == each["name"].lower():
            return str(each["id"])
    names = ", ".join(each["name"] for each in known[:10]) or "none"
    raise UsageError(f"there is no project {project!r}{' in the archive' if state == 'archived' else ''}; "
                     f"there are {names}")  # fmt: skip


def _all(wired: Wiring, state: str) -> Iterator[dict[str, Any]]:
    after: str | None = None
    while True:
        query = {"state": state, "limit": 1000, "next": after}
        page = ask(wired, "GET", "/api/projects", query=query, role=Role.VIEWER)
        yield from page["projects"]
        after = page["next"]
        if after is None:
            return
