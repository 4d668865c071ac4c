"""Options that several commands share, and the settings they are laid over."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crossfade.durations import parse_duration
from crossfade.paths import DataDir
from crossfade.settings import Settings, load_settings
from crossfade.wiring import Wiring
from embedded.habits import UnknownHabit, habits

if TYPE_CHECKING:
    from datetime import timedelta


class Format(StrEnum):
    """How a report is written."""

    TEXT = "text"
    JSON = "json"


def _duration(text: str) -> timedelta:
    return parse_duration(text)


DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Where everything is kept. (default: .crossfade)",
        show_default=False,
    ),
]
FormatOption = Annotated[Format, typer.Option("--format", help="How the report is written.")]
ForOption = Annotated[
    Any,
    typer.Option(
        "--for", parser=_duration, metavar="DURATION", help="End after 30, 30s, 10m ...", show_default=False
    ),
]
FlagsOption = Annotated[
    Path | None,
    typer.Option("--flags", metavar="PATH", help="The flag file. (default: flags.yaml)", show_default=False),
]


def _habit(text: str) -> str:
    try:
        habits([text])
    except UnknownHabit as error:
        raise typer.BadParameter(str(error)) from None
    return text


def habit_option(listed: str) -> Any:
    """Return the option for the real server's habits; `listed` says which there are."""
    return typer.Option(
        "--habit",
        metavar="NAME",
        parser=_habit,
        help=f"For tests: let the embedded Supabase do what the real one does worse; repeat for more. {listed}.",
    )


def port_option(name: str, what: str, default: int) -> Any:
    """Return a port option; 0 takes a free port."""
    return typer.Option(
        f"--port-{name}",
        min=0,
        max=65535,
        metavar="PORT",
        help=f"Port of {what}; 0 takes a free one. (default: {default})",
        show_default=False,
    )


def settings_with(**given: object) -> Settings:
    """Return the settings of the environment with the options that were given laid over; raises UsageError."""
    settings = load_settings()
    chosen = {name: value for name, value in given.items() if value is not None}
    if not chosen:
        return settings
    return settings.model_copy(update=chosen)


def data_dir(settings: Settings) -> DataDir:
    """Return the data directory of the settings."""
    return DataDir.of(settings.data_dir)


def wiring(data: Path | None, flags: Path | None = None) -> Wiring:
    """Return the wiring of a command that uses what runs on a data directory."""
    settings = settings_with(data_dir=data, flags=flags)
    return Wiring(data_dir(settings), settings)


def debugging() -> bool:
    """Whether tracebacks were asked for."""
    return bool(os.environ.get("CROSSFADE_DEBUG"))
