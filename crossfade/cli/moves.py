"""``crossfade moves``: the record of who was moved, from where to where, why, and what it took."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
        typer.echo("\n".join(lines(record) for record in records))
    else:
        typer.echo("nobody was moved yet" if client is None else f"{client} was not moved yet")


def lines(record: Mapping[str, Any]) -> str:
    """Return a move as two lines: who went where with what outcome, and below it why and what it took."""
    at = str(record.get("at", ""))[:19].replace("T", " ")
    took = _seconds(record.get("seconds"))
    doubles = record.get("duplicates_dropped")
    both = _seconds(record.get("overlap_seconds"))
    more = [f"{both} on both" if both else "", f"{doubles} doubles dropped" if doubles else ""]
    return (
        f"{at}  {record.get('client', '')}: {record.get('from', '')} to {record.get('to', '')}, "
        f"{record.get('outcome', '')}{f' in {took}' if took else ''}\n"
        f"  {'; '.join(filter(None, [str(record.get('reason', '')), *more]))}"
    )


def _seconds(value: object) -> str:
    return f"{value:.2f} s" if isinstance(value, int | float) else ""
