"""``crossfade status``: whether every part is well."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crossfade.checks import Check, check_parts
from crossfade.cli.options import DataDirOption, Format, FormatOption, wiring
from crossfade.cli.output import print_json

if TYPE_CHECKING:
    from collections.abc import Sequence


def status(data_dir: DataDirOption = None, format_: FormatOption = Format.TEXT) -> None:
    """Check every part by using it; exit 0 only when all are healthy."""
    wired = wiring(data_dir)
    checks = asyncio.run(check_parts(wired.data, wired.settings))
    healthy = all(check.ok for check in checks)
    if format_ is Format.JSON:
        print_json({"healthy": healthy, "checks": [check.to_json() for check in checks]})
    else:
        Console().print(table(checks))
    raise typer.Exit(0 if healthy else 1)


def table(checks: Sequence[Check]) -> Table:
    """Return checks as a table, with what to do beside what is not well."""
    drawn = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("part", "", "address", "detail"):
        drawn.add_column(column, overflow="fold")
    for check in checks:
        mark = (
            Text("ok", "green")
            if check.ok
            else Text("note", "yellow")
            if check.note
            else Text("BAD", "bold red")
        )
        detail = check.detail if check.ok or not check.advice else f"{check.detail}; {check.advice}"
        drawn.add_row(check.name, mark, Text(check.address), Text(detail))
    return drawn
