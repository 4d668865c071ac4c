"""``crossfade up`` and ``crossfade stop``."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from crossfade import running
from crossfade.addresses import is_loopback
from crossfade.cli.display import make_display
from crossfade.cli.options import (
    DataDirOption,
    FlagsOption,
    ForOption,
    habit_option,
    port_option,
    settings_with,
)
from crossfade.cli.options import (
    data_dir as directory_of,
)
from crossfade.errors import CrossfadeError, UsageError
from crossfade.foreign import foreign_server
from crossfade.http_parts import HTTP_PARTS
from crossfade.locks import holder
from crossfade.plan import OPTIONAL, Addresses, Plan, alerts_file, choose, flags_file
from crossfade.tls import parse_ports, tls_of
from embedded.habits import HABITS
from legacy_ws.errors import InvalidMount
from legacy_ws.mounts import parse_mounts
from legacy_ws.protocol.catalogue import catalogue
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
    port_query: Annotated[int | None, port_option("query", "the query service", 8000)] = None,
    port_legacy: Annotated[int | None, port_option("legacy", "the legacy server", 8001)] = None,
    port_dashboard: Annotated[int | None, port_option("dashboard", "the dashboard", 8003)] = None,
    port_control: Annotated[int | None, port_option("control", "the control service", 8002)] = None,
    port_analytics: Annotated[int | None, port_option("analytics", "the analytics service", 8004)] = None,
    port_mcp: Annotated[int | None, port_option("mcp", "the MCP server", 9102)] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            "--tls-cert", metavar="PEM", help="The certificate, with its chain.", show_default=False
        ),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="PEM", help="Its private key.", show_default=False)
    ] = None,
    tls_port: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART=PORT",
            help="Let an HTTP service (query, control, ...) speak TLS there besides; repeat for more.",
        ),
    ] = None,
    legacy_mount: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[HOST:]PORT/PATH=DIALECT",
            help=f"Let the legacy server speak a dialect there too: {', '.join(catalogue())}; repeat for more.",
        ),
    ] = None,
    gateway: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[HOST:]PORT/PATH=DIALECT",
            help="Run the gateway: old clients of a dialect, served there from wherever the flags say; repeat for more.",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="This host's name in events. (default: its hostname)", show_default=False
        ),
    ] = None,
    interval: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="How often this host is read; up to twice as often while CPU or memory change much.",
        ),
    ] = 2.0,
    for_: ForOption = None,
    only: Annotated[list[str] | None, typer.Option(metavar="PART", help="Run only these parts.")] = None,
    without: Annotated[list[str] | None, typer.Option(metavar="PART", help="Leave these parts out.")] = None,
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with", metavar="PART", help=f"Run also these, which are off otherwise: {', '.join(OPTIONAL)}."
        ),
    ] = None,
    realtime_mode: Annotated[
        Literal["changes", "broadcast"] | None,
        typer.Option(
            help="How Supabase pushes events: by row changes, or by broadcast. (default: as it did last)",
            show_default=False,
        ),
    ] = None,
    no_docker: Annotated[bool, typer.Option("--no-docker", help="Do not look for Docker.")] = False,
    flags: FlagsOption = None,
    habit: Annotated[list[str] | None, habit_option(", ".join(HABITS))] = None,
) -> None:
    """Run everything on this machine, until Ctrl-C."""
    settings = settings_with(
        data_dir=data_dir,
        host=host,
        port_supabase=port_supabase,
        port_database=port_database,
        port_query=port_query,
        port_legacy=port_legacy,
        port_dashboard=port_dashboard,
        port_control=port_control,
        port_analytics=port_analytics,
        port_mcp=port_mcp,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_ports=_tls_ports(tls_port),
        legacy_mounts=_mounts(legacy_mount, "--legacy-mount"),
        gateway_mounts=_mounts(gateway, "--gateway"),
        flags=flags,
        realtime_mode=realtime_mode,
    )
    settings.require_complete()
    if habit and settings.hosted:
        raise UsageError("--habit is for the embedded Supabase, and SUPABASE_URL names another one")
    if not _SHORTEST_SECONDS <= interval <= _LONGEST_SECONDS:
        raise UsageError(
            f"--interval {interval:g}: choose from {_SHORTEST_SECONDS:g} to {_LONGEST_SECONDS:g} seconds"
        )
    if device is not None:
        try:
            stream_id(device, "system")
        except InvalidEvent as error:
            raise UsageError(f"--device: {error.reason}") from error
    if (tls := tls_of(settings)) is not None and (others := tls.ports.keys() - HTTP_PARTS.keys()):
        raise UsageError(f"{', '.join(sorted(others))} cannot speak TLS; {', '.join(HTTP_PARTS)} can")
    data = directory_of(settings)
    if (foreign := foreign_server(settings)) is not None:
        foreign.load()  # what is wrong with it is said before anything is started
        typer.echo(
            f"legacy backend: {foreign.shown}, bridged to Supabase; our own legacy server, this host's collector and "
            "the comparison are left out",
            err=True,
        )
    plan = Plan(
        data=data,
        addresses=Addresses.of(settings),
        settings=settings,
        parts=choose(
            only or (),
            without or (),
            (*(with_ or ()), settings.with_parts),
            hosted=settings.hosted,
            secret=settings.jwt_secret is not None,
            foreign=foreign is not None,
            gateway=bool(settings.gateway_mounts),
        ),
        flags=flags_file(data, settings),
        alerts=alerts_file(data, settings),
        device=device,
        interval_seconds=interval,
        docker=not no_docker,
        habits=tuple(habit or ()),
    )
    if not is_loopback(plan.addresses.host):
        typer.echo(
            f"listening on {plan.addresses.host}: whoever reaches this machine reaches all of it", err=True
        )
    if settings.hosted and settings.jwt_secret is None:
        typer.echo(
            "without SUPABASE_JWT_SECRET no token can be checked: no query service, and so no polling",
            err=True,
        )
    running.run(plan, make_display(), seconds=for_.total_seconds() if for_ else None)


def _tls_ports(given: list[str] | None) -> str | None:
    """Return where services speak TLS as the setting has it; raises UsageError."""
    if not given:
        return None
    text = ",".join(given)
    try:
        parse_ports(text)
    except ValueError as error:
        raise UsageError(f"--tls-port: {error}") from error
    return text


def _mounts(given: list[str] | None, option: str) -> str | None:
    """Return the mounts that were given as the setting has them; raises UsageError."""
    if not given:
        return None
    text = ",".join(given)
    try:
        parse_mounts(text, catalogue())
    except InvalidMount as error:
        raise UsageError(f"{option}: {error}") from error
    return text


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
