"""``crossfade legacy``: get to know somebody's legacy server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.table import Table

from adapters.legacy_dialect import shown
from crossfade.durations import parse_duration
from crossfade.errors import CrossfadeError, UsageError
from crossfade.recording import files, protocol_of, record
from legacy_ws.protocol.draft import draft
from legacy_ws.protocol.survey import survey

if TYPE_CHECKING:
    from legacy_ws.protocol.survey import MessageType, Survey

_DEFAULT_SECONDS = 30.0
_SHOWN_FIELDS = 12

app = typer.Typer(help="Get to know somebody's legacy server.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Get to know somebody's legacy server."""


@app.command("record")
def record_command(
    url: Annotated[str, typer.Argument(metavar="URL", help="Its WebSocket, ws://HOST:PORT/PATH.")],
    for_: Annotated[
        Any,
        typer.Option(
            "--for",
            parser=parse_duration,
            metavar="DURATION",
            help=f"End after 30, 30s, 10m ... (default: {_DEFAULT_SECONDS:g}s)",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the recording and the draft go.")] = Path(
        "legacy-recording"
    ),
    send: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", help="Send this first, for servers that want to be asked; repeat for more."
        ),
    ] = None,
) -> None:
    """Record what a server says, show it, and draft a dialect from it; files that are there are kept."""
    if urlsplit(url).scheme not in {"ws", "wss"}:
        raise UsageError(f"{url} is not a WebSocket's address; write ws://HOST:PORT/PATH or wss://HOST/PATH")
    seconds = for_.total_seconds() if for_ else _DEFAULT_SECONDS
    recording, dialect = files(out)
    for path in (recording, dialect):
        if path.exists():
            raise UsageError(f"{path} is there already; choose another --out or remove it")
    try:
        begun = not out.exists()
        out.mkdir(parents=True, exist_ok=True)
        received: list[tuple[float, str | bytes]] = []
        try:
            with recording.open("xb") as file:
                received = asyncio.run(record(url, file, seconds, send or (), lambda: _opened(url, seconds)))
        finally:
            if not received:  # nothing that the next attempt would have to spare
                recording.unlink(missing_ok=True)
                if begun:
                    out.rmdir()
        if not received:
            raise CrossfadeError(
                "the server said nothing; record for longer with --for, or ask it with --send TEXT"
            )
        found = survey(received, protocol_of(url))
        dialect.write_text(draft(found), "utf-8")
    except OSError as error:
        raise CrossfadeError(
            f"{out} cannot be written: {error.strerror or error}; choose another --out"
        ) from error
    _show(found)
    typer.echo(
        f"recorded in {recording}; a dialect to go on from is in {dialect}: CROSSFADE_LEGACY_DIALECT={dialect}"
    )


def _opened(url: str, seconds: float) -> None:
    typer.echo(f"recording {shown(url)} for {seconds:g} s; Ctrl-C ends it earlier", err=True)


def _show(found: Survey) -> None:
    typer.echo(
        f"{found.messages} messages in {found.seconds:.1f} s"
        + (f", {found.unreadable} not readable as JSON" if found.unreadable else "")
        + (f"; Socket.IO, EIO={found.socketio}" if found.socketio else "")
        + (f"; the type is in {found.tag!r}" if found.tag else "")
    )
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("type", "count", "a second", "time", "id", "device", "kind", "fields"):
        table.add_column(column, overflow="fold")
    for each in found.types.values():
        table.add_row(
            each.name, str(each.count), f"{each.rate:.2g}",
            *(each.role(role) or "-" for role in ("time", "id", "device", "kind")), _fields(each),
        )  # fmt: skip
    Console().print(table)


def _fields(each: MessageType) -> str:
    names = [name for name in each.fields if "." not in name]
    more = f" and {len(names) - _SHOWN_FIELDS} more" if len(names) > _SHOWN_FIELDS else ""
    return ", ".join(names[:_SHOWN_FIELDS]) + more
