"""``crossfade moves``: the record of who was moved, from where to where, why, and what it took."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from adapters.move_log import read
from crossfade.cli.options import DataDirOption, Format, FormatOption, wiring
from crossfade.cli.output import print_json

if TYPE_CHECKING:
    from collections.abc import Mapping


def moves(
    client: Annotated[
        str | None, typer.Option(metavar="ID", help="Only this client's.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="The newest N.")] = 20,
    data_dir: DataDirOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show which clients were moved between backends, and which moves were given up; oldest first."""
    records = deque(
        (record for record in read(wiring(data_dir).data.moves) if client in {None, record.get("client")}),
        maxlen=limit,
    )
    if format_ is Format.JSON:
        print_json(list(records))
    elif records:
        Console().print(_table(records))
    else:
        typer.echo("nobody was moved yet" if client is None else f"{client} was not moved yet")


def _table(records: deque[Mapping[str, Any]]) -> Table:
    drawn = Table(box=None, pad_edge=False, header_style="dim")
    drawn.add_column("at (UTC)", no_wrap=True)
    for column in ("client", "from", "to", "outcome", "took", "overlap", "doubles", "reason"):
        drawn.add_column(column, overflow="fold")
    for record in records:
        drawn.add_row(
            str(record.get("at", ""))[:19].replace("T", " "),
            str(record.get("client", "")),
            str(record.get("from", "")),
            str(record.get("to", "")),
            str(record.get("outcome", "")),
            _seconds(record.get("seconds")),
            _seconds(record.get("overlap_seconds")),
            str(record.get("duplicates_dropped", "")),
            str(record.get("reason", "")),
        )
    return drawn


def _seconds(value: object) -> str:
    return f"{value:.2f} s" if isinstance(value, int | float) else ""
