"""``crossfade export``: events or a series into a file, as CSV or JSON lines."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from crossfade.asking import asking
from crossfade.cli.options import DataDirOption, wiring
from crossfade.cli.projects import find_project
from crossfade.durations import parse_duration
from crossfade.errors import CrossfadeError
from crossfade.wiring import Wiring

app = typer.Typer(help="Write events or a series into a file.", no_args_is_help=True)


class Table(StrEnum):
    """The forms of an export."""

    CSV = "csv"
    JSONL = "jsonl"


def _duration(text: str) -> timedelta:
    return parse_duration(text)


SinceOption = Annotated[
    Any,
    typer.Option("--since", parser=_duration, metavar="DURATION", help="How far back: 30m, 1d ..."),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="PATH", help="The file. (default: standard output)", show_default=False),
]


@app.command()
def events(
    topic: Annotated[
        list[str] | None,
        typer.Option(metavar="TOPIC", help="For example devices.web-1; repeat for more.", show_default=False),
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="Repeat for more.", show_default=False)
    ] = None,
    project: Annotated[
        str | None, typer.Option(metavar="PROJECT", help="What belongs to a project.", show_default=False)
    ] = None,
    since: SinceOption = "1h",
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many at most.")] = 100_000,
    format_: Annotated[Table, typer.Option("--format", help="How it is written.")] = Table.JSONL,
    out: OutOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Write events that the feed still has, the newest first."""
    wired = wiring(data_dir)
    query = {
        "topic": topic or None,
        "kind": kind or None,
        "project": find_project(wired, project),
        "from": _ago(since),
        "limit": limit,
        "format": format_.value,
    }
    _write(wired, "/api/export/events", query, out)


@app.command()
def series(
    stream: Annotated[
        str, typer.Argument(metavar="STREAM", help="DEVICE/CATEGORY, for example web-1/system.")
    ],
    field: Annotated[str, typer.Argument(metavar="FIELD", help="A number of it, for example cpu_usage.")],
    since: SinceOption = "1d",
    points: Annotated[int, typer.Option(min=1, max=10_000, help="About so many steps at most.")] = 1000,
    format_: Annotated[Table, typer.Option("--format", help="How it is written.")] = Table.CSV,
    out: OutOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Write a number over time: mean, lowest, highest and count of each step."""
    query = {"stream": stream, "field": field, "from": _ago(since), "points": points, "format": format_.value}
    head = 1 if format_ is Table.CSV else 0
    if _write(wiring(data_dir), "/api/export/series", query, out) <= head:
        typer.echo(f"{stream} has no number {field} in this time; see crossfade watch --for 10s", err=True)


def _ago(since: timedelta) -> str:
    return (datetime.now(UTC) - since).isoformat()


def _write(wired: Wiring, path: str, query: dict[str, Any], out: Path | None) -> int:
    """Write an export to standard output, or to a file that is there only when it is whole; return how many lines it has.

    Raises CrossfadeError.
    """
    lines = 0
    with asking(wired, "GET", path, query=query) as answer:
        if out is None:
            for part in answer.iter_bytes():
                lines += part.count(b"\n")
                sys.stdout.buffer.write(part)
            sys.stdout.buffer.flush()
            return lines
        part_of_it = out.with_name(f"{out.name}.part")
        try:
            with part_of_it.open("wb") as file:
                for part in answer.iter_bytes():
                    lines += part.count(b"\n")
                    file.write(part)
            part_of_it.replace(out)
        except OSError as error:
            raise CrossfadeError(f"{out} cannot be written: {error.strerror or error}") from error
        finally:
            part_of_it.unlink(missing_ok=True)
    typer.echo(f"written: {out}")
    return lines
