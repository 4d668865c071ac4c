"""``crossfade logs``: what all parts said, as one stream."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from crossfade.cli.options import DataDirOption, settings_with
from crossfade.cli.options import (
    data_dir as directory_of,
)
from crossfade.errors import UsageError
from crossfade.log_lines import LogTail, merged
from crossfade.plan import part_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crossfade.log_lines import LogLine
    from crossfade.paths import DataDir

_PAUSE_SECONDS = 0.2


def logs(
    parts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PART]...", help="Parts to show. (default: all)", show_default=False),
    ] = None,
    data_dir: DataDirOption = None,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, metavar="N", help="Newest lines of each part.")
    ] = 50,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is said from now on.")
    ] = False,
    request: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Only lines that name this request or correlation id.", show_default=False
        ),
    ] = None,
) -> None:
    """Show what the parts said, merged by time, each line with its part."""
    data = directory_of(settings_with(data_dir=data_dir))
    names = part_names(parts or ()) or _written(data)
    if not names:
        raise UsageError(f"nothing has been logged in {data.logs}; start it with crossfade up{data.option}")
    tails = [LogTail(name, data.log(name)) for name in names]
    width = max(map(len, names))
    keep = lines if request is None else 1_000_000_000
    _print(merged(tail.last(keep) for tail in tails), width, request)
    while follow:
        time.sleep(_PAUSE_SECONDS)
        _print(merged(tail.added() for tail in tails), width, request)


def _written(data: DataDir) -> list[str]:
    return sorted(path.stem for path in data.logs.glob("*.log"))


def _print(found: Sequence[LogLine], width: int, request: str | None) -> None:
    for line in found:
        if request is None or request in line.text:
            typer.echo(f"{line.part:<{width}} | {line.text}")
