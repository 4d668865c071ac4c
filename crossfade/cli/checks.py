"""``crossfade checks``: what is checked, and how it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from collectors.checks.collector import probe_of
from collectors.checks.document import InvalidChecks
from collectors.checks.result import Result, milliseconds
from crossfade.checks_file import read_checks
from crossfade.cli.options import DataDirOption, Format, FormatOption, wiring
from crossfade.cli.output import print_json
from crossfade.errors import CrossfadeError, UsageError
from crossfade.paths import read_json
from monitoring.device_status import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from collectors.checks.config import Check
    from crossfade.wiring import Wiring

app = typer.Typer(help="Check what machines serve: HTTP, PostgreSQL, Redis.", no_args_is_help=True)

_STYLES = {Outcome.WHOLE: "green", Outcome.PARTIAL: "yellow"}


def _path(wired: Wiring) -> Path:
    return wired.settings.checks or wired.data.checks


def _read(path: Path) -> Mapping[str, Check]:
    try:
        return read_checks(path)
    except InvalidChecks as error:
        raise CrossfadeError(f"{path}: {error}; correct it, the last good checks stay in force") from error


@app.command("list")
def list_(data_dir: DataDirOption = None, format_: FormatOption = Format.TEXT) -> None:
    """Show each check of the file, and how the running collector found it last."""
    wired = wiring(data_dir)
    path = _path(wired)
    checks = _read(path)
    running: Mapping[str, Any] = (read_json(wired.data.run / "collect.json") or {}).get("collectors", {})
    known = {name: running.get(f"check {name}", {}) for name in checks}
    if format_ is Format.JSON:
        told = [
            {
                "check": name,
                "type": check.kind,
                "target": check.target,
                "every_seconds": check.every,
                "status": known[name].get("status"),
                "last_success": known[name].get("last_success"),
                "last_error": known[name].get("last_error"),
            }
            for name, check in checks.items()
        ]
        print_json({"file": str(path), "checks": told})
        return
    table = Table(
        "check", "type", "target", "every", "status", "", title=str(path), title_justify="left", box=None
    )
    for name, check in checks.items():
        status, error = known[name].get("status"), known[name].get("last_error")
        table.add_row(
            name,
            check.kind,
            Text(check.target),
            f"{check.every:g} s",
            status or "not running",
            Text(error or ""),
        )
    Console().print(table if checks else Text(f"no checks: {_absent(path)}"))


def _absent(path: Path) -> str:
    return f"{path} has none" if path.exists() else f"{path} is not there; docs/checks.md says what to write"


@app.command()
def validate(data_dir: DataDirOption = None, format_: FormatOption = Format.TEXT) -> None:
    """Read the file and say what is wrong with it; asks nobody."""
    path = _path(wiring(data_dir))
    checks = _read(path)
    if format_ is Format.JSON:
        print_json({"file": str(path), "checks": list(checks)})
    else:
        typer.echo(f"{path}: {len(checks)} checks" if checks else f"no checks: {_absent(path)}")


@app.command("test")
def try_(
    names: Annotated[list[str] | None, typer.Argument(help="Which checks; all of them without one.")] = None,
    data_dir: DataDirOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Ask each check once, from here; exit 0 only when all are met. Tells nobody else."""
    path = _path(wiring(data_dir))
    checks = _read(path)
    if unknown := [name for name in names or () if name not in checks]:
        raise UsageError(f"{path} has no check {unknown[0]!r}; it has {', '.join(checks) or 'none'}")
    chosen = {name: checks[name] for name in (names or checks)}
    results = asyncio.run(_ask(chosen))
    if format_ is Format.JSON:
        print_json({"checks": [_told(name, chosen[name], result) for name, result in results.items()]})
    elif not results:
        typer.echo(f"no checks: {_absent(path)}")
    else:
        table = Table("check", "", "latency", "finding", box=None)
        for name, result in results.items():
            took = milliseconds(result.latency_seconds)
            outcome = Text(result.outcome, _STYLES.get(result.outcome, "bold red"))
            table.add_row(name, outcome, "" if took is None else f"{took:g} ms", Text(result.reason))
        Console().print(table)
    raise typer.Exit(0 if all(result.outcome == Outcome.WHOLE for result in results.values()) else 1)


async def _ask(checks: Mapping[str, Check]) -> dict[str, Result]:
    return dict(
        zip(checks, await asyncio.gather(*(probe_of(check)() for check in checks.values())), strict=True)
    )


def _told(name: str, check: Check, result: Result) -> dict[str, Any]:
    return {
        "check": name,
        "type": check.kind,
        "target": check.target,
        "outcome": result.outcome,
        "reason": result.reason,
        "latency_ms": milliseconds(result.latency_seconds),
        **result.details,
    }
