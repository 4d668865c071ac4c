"""``crossfade keys``: keys with which applications push."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from crossfade.cli.control_options import access_token
from crossfade.cli.options import DataDirOption, Format, FormatOption, wiring
from crossfade.cli.output import print_json
from crossfade.control_client import ControlClient
from crossfade.durations import parse_duration
from crossfade.errors import UsageError
from crossfade.plan import known_addresses
from crossfade.wiring import Role

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

app = typer.Typer(
    help="Keys with which applications push: kept as hashes, shown once, revocable.", no_args_is_help=True
)

_PREFIX = re.compile("[0-9a-f]{12}")

QueryOption = Annotated[
    str | None,
    typer.Option(
        "--query",
        metavar="URL",
        help="A query service elsewhere, http://HOST:8000; an admin's token comes by CROSSFADE_ACCESS_TOKEN. "
        "(default: that of --data-dir)",
        show_default=False,
    ),
]


def _duration(text: str) -> timedelta:
    return parse_duration(text)


def _client(data_dir: Path | None, query: str | None) -> ControlClient:
    wired = wiring(data_dir)
    token = access_token(wired, query, wired.client_id(), Role.ADMIN)
    return ControlClient(
        query or known_addresses(wired.data, wired.settings).query, token, what="query service"
    )


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for, as it will show in records.")],
    application: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The only application it may push for.", show_default=False),
    ] = None,
    for_: Annotated[
        Any,
        typer.Option(
            "--for",
            metavar="DURATION",
            parser=_duration,
            help="How long it is valid. (default: until it is revoked)",
            show_default=False,
        ),
    ] = None,
    query: QueryOption = None,
    format_: FormatOption = Format.TEXT,
    data_dir: DataDirOption = None,
) -> None:
    """Make a key and print it: it is shown this once, and kept nowhere."""
    seconds = for_.total_seconds() if for_ is not None else None
    body = {"name": name, "application": application, "for_seconds": seconds}
    told = asyncio.run(_post(data_dir, query, "/api/keys", body))
    if format_ is Format.JSON:
        print_json(told)
        return
    typer.echo(told["key"])
    typer.echo(
        f"kept as a hash: it cannot be shown again; crossfade keys revoke {told['prefix']} ends it", err=True
    )


@app.command("list")
def list_(
    query: QueryOption = None, format_: FormatOption = Format.TEXT, data_dir: DataDirOption = None
) -> None:
    """List the keys, without their secrets."""

    async def run() -> Any:
        async with _client(data_dir, query) as client:
            return (await client.get("/api/keys"))["keys"]

    found = asyncio.run(run())
    if format_ is Format.JSON:
        print_json(found)
    elif found:
        Console().print(_table(found))
    else:
        typer.echo("there are no keys")


@app.command()
def revoke(
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="What the key begins with, after cfk_.")],
    query: QueryOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Revoke a key, for good."""
    start = prefix.removeprefix("cfk_").partition("_")[0]  # a whole key is taken, too
    if not _PREFIX.fullmatch(start):
        raise UsageError(
            f"{start!r} is not what a key begins with; crossfade keys list shows it, 12 digits of 0-9a-f"
        )
    told = asyncio.run(_post(data_dir, query, f"/api/keys/{start}/revoke", {}))
    typer.echo(f"{told['prefix']} ({told['name']}): revoked by {told['revoked_by']}")


async def _post(data_dir: Path | None, query: str | None, path: str, body: dict[str, Any]) -> Any:
    async with _client(data_dir, query) as client:
        return await client.post(path, body)


def _table(found: list[dict[str, Any]]) -> Table:
    drawn = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("prefix", "name", "application", "made", "by", "last used", ""):
        drawn.add_column(column, overflow="fold")
    for one in found:
        ended = f"revoked by {one['revoked_by']}" if one["revoked_at"] else ""
        until = f"until {one['expires_at'][:19]}" if one["expires_at"] else ""
        drawn.add_row(
            *(
                one["prefix"],
                one["name"],
                one["application"] or "any",
                one["created_at"][:19],
                one["created_by"],
            ),
            *((one["used_at"] or "never")[:19], ended or until),
        )
    return drawn
