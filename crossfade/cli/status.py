"""``crossfade status``: whether every part is well."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from crossfade import logs
from crossfade.checks import Check, check_parts
from crossfade.cli.options import DataDirOption, Format, FormatOption, wiring
from crossfade.cli.output import print_json
from crossfade.durations import format_seconds
from crossfade.paths import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def status(data_dir: DataDirOption = None, format_: FormatOption = Format.TEXT) -> None:
    """Check every part by using it; exit 0 only when all are healthy."""
    wired = wiring(data_dir)
    logs.to_stderr(logging.ERROR)  # what matters of a connection is a check's detail
    checks = asyncio.run(check_parts(wired.data, wired.settings))
    healthy = all(check.ok for check in checks)
    report = read_json(wired.data.run / "collect.json") or {}
    collectors = report.get("collectors", {}) if report.get("running") else {}
    if format_ is Format.JSON:
        told = [check.to_json() for check in checks]
        print_json({"healthy": healthy, "checks": told, "collectors": collectors})
    else:
        Console().print(table(checks))
        if collectors:
            Console().print()
            Console().print(collectors_table(collectors, datetime.now(UTC)))
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


def collectors_table(collectors: Mapping[str, Mapping[str, Any]], now: datetime) -> Group:
    """Return how each collector's readings go, from its report; a last error has a line of its own, below."""
    drawn = Table(box=None, pad_edge=False, header_style="dim")
    drawn.add_column("collector", no_wrap=True)
    for column in ("every", "last success"):
        drawn.add_column(column)
    counts = ("read", "failed", "timed_out", "late", "skipped")
    for column in counts:
        drawn.add_column(column.replace("_", " "), justify="right")
    drawn.add_column("status", overflow="fold")
    for name, ticks in collectors.items():
        last = ticks.get("last_success")
        ago = (now - datetime.fromisoformat(last)).total_seconds() if last else None
        drawn.add_row(
            Text(name),
            f"{ticks.get('interval_seconds') or 0:g} s",
            Text("never", "yellow") if ago is None else f"{format_seconds(ago)} ago",
            *(str(ticks.get(count, 0)) for count in counts),
            Text(str(ticks.get("status") or "")),
        )
    errors = ((name, ticks["last_error"]) for name, ticks in collectors.items() if ticks.get("last_error"))
    return Group(drawn, *(Text(f"last error of {name}: {error}", "red") for name, error in errors))
