"""``crossfade token``: a token for a client of this installation's embedded Supabase and its services."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crossfade.cli.options import DataDirOption, wiring
from crossfade.durations import parse_duration
from crossfade.errors import UsageError
from crossfade.wiring import Role, access_token, embedded_keys

if TYPE_CHECKING:
    from datetime import timedelta


def _duration(text: str) -> timedelta:
    return parse_duration(text)


def token(
    subject: Annotated[
        str, typer.Argument(metavar="NAME", help="Who it is for, as it will show in records.")
    ],
    role: Annotated[Role, typer.Option(help="What its holder may do.")] = Role.VIEWER,
    for_: Annotated[
        Any, typer.Option("--for", metavar="DURATION", parser=_duration, help="How long it is valid.")
    ] = "24h",
    data_dir: DataDirOption = None,
) -> None:
    """Print a token, for connect("http://HOST:8000", token=...) on another machine.

    It cannot be taken back before it expires, but by making the installation's secret anew.
    """
    wired = wiring(data_dir)
    if wired.settings.hosted:
        raise UsageError("SUPABASE_URL is set: tokens of a hosted project come from signing in there")
    secret = embedded_keys(wired.data).jwt_secret
    typer.echo(access_token(secret, subject, role, now=time.time(), seconds=for_.total_seconds()))
