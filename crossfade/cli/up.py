"""``crossfade up`` and ``crossfade stop``."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Annotated

import typer

from crossfade import running
from crossfade.addresses import is_loopback
from crossfade.cli.display import make_display
from crossfade.cli.options import (
    DataDirOption,
    FlagsOption,
    ForOption,
    port_option,
    settings_with,
)
from crossfade.cli.options import (
    data_dir as directory_of,
)
from crossfade.errors import CrossfadeError, UsageError
from crossfade.locks import holder
from crossfade.plan import Addresses, Plan, choose, flags_file
from monitoring.errors import InvalidEvent
from monitoring.events import stream_id

if TYPE_CHECKING:
    from crossfade.paths import DataDir

_STOP_SECONDS = 40.0
_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.2, 3600.0


def up(
    data_dir: DataDirOption = None,
    host: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="Address to listen on. (default: 127.0.0.1)", show_default=False),
    ] = None,
    port_supabase: Annotated[int | None, port_option("supabase", "the embedded Supabase", 54321)] = None,
    port_database: Annotated[int | None, port_option("database", "the embedded PostgreSQL", 54322)] = None,
    port_legacy: Annotated[int | None, port_option("legacy", "the legacy server", 8001)] = None,
    port_dashboard: Annotated[int | None, port_option("dashboard", "the dashboard", 8003)] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="This host's name in events. (default: its hostname)", show_default=False
        ),
    ] = None,
    interval: Annotated[float, typer.Option(metavar="SECONDS", help="How often this host is read.")] = 2.0,
    for_: ForOption = None,
    only: Annotated[list[str] | None, typer.Option(metavar="PART", help="Run only these parts.")] = None,
    without: Annotated[list[str] | None, typer.Option(metavar="PART", help="Leave these parts out.")] = None,
    no_docker: Annotated[bool, typer.Option("--no-docker", help="Do not look for Docker.")] = False,
    flags: FlagsOption = None,
) -> None:
    """Run everything on this machine, until Ctrl-C."""
    settings = settings_with(
        data_dir=data_dir,
        host=host,
        port_supabase=port_supabase,
        port_database=port_database,
        port_legacy=port_legacy,
        port_dashboard=port_dashboard,
        flags=flags,
    )
    settings.require_complete()
    if not _SHORTEST_SECONDS <= interval <= _LONGEST_SECONDS:
        raise UsageError(
            f"--interval {interval:g}: choose from {_SHORTEST_SECONDS:g} to {_LONGEST_SECONDS:g} seconds"
        )
    if device is not None:
        try:
            stream_id(device, "system")
        except InvalidEvent as error:
            raise UsageError(f"--device: {error.reason}") from error
    data = directory_of(settings)
    plan = Plan(
        data=data,
        addresses=Addresses.of(settings),
        settings=settings,
        parts=choose(only or (), without or (), hosted=settings.hosted),
        flags=flags_file(data, settings),
        device=device,
        interval_seconds=interval,
        docker=not no_docker,
    )
    if not is_loopback(plan.addresses.host):
        typer.echo(
            f"listening on {plan.addresses.host}: whoever reaches this machine reaches all of it", err=True
        )
    running.run(plan, make_display(), seconds=for_.total_seconds() if for_ else None)


def stop(data_dir: DataDirOption = None) -> None:
    """Stop what runs on a data directory, from another terminal."""
    data = directory_of(settings_with(data_dir=data_dir))
    stop_holder(data)


def stop_holder(data: DataDir) -> None:
    """End the process that runs on a data directory, and wait until it has ended; raises CrossfadeError."""
    held = holder(data)
    if held is None:
        typer.echo(f"nothing runs on {data.root}")
        return
    pid, what = held
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it ended a moment ago
    except PermissionError:
        raise CrossfadeError(f"{what} (pid {pid}) belongs to another user; stop it as that user") from None
    deadline = time.monotonic() + _STOP_SECONDS
    while (now := holder(data)) is not None and now[0] == pid:
        if time.monotonic() > deadline:
            raise CrossfadeError(
                f"{what} (pid {pid}) has not ended after {_STOP_SECONDS:g} s; see {data.logs}"
            )
        time.sleep(0.05)
    typer.echo(f"{what} (pid {pid}) has stopped")
