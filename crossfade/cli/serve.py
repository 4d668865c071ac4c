"""``crossfade serve``: one part, in the foreground."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from crossfade import single
from crossfade.cli.options import DataDirOption, FlagsOption, settings_with
from crossfade.cli.options import (
    data_dir as directory_of,
)
from crossfade.errors import UsageError
from crossfade.plan import (
    LISTENING,
    PARTS,
    Plan,
    alerts_file,
    choose,
    flags_file,
    known_addresses,
    part_names,
    parts_running,
    port_name,
    running_state,
)

if TYPE_CHECKING:
    from crossfade.paths import DataDir
    from crossfade.settings import Settings


def serve(
    part: Annotated[
        str, typer.Argument(metavar="PART", help=f"One of {', '.join(PARTS)}.", show_default=False)
    ],
    data_dir: DataDirOption = None,
    host: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="Address to listen on. (default: 127.0.0.1)", show_default=False),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            metavar="PORT",
            help="Where it listens. (default: its setting)",
            show_default=False,
        ),
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(metavar="PART", help="Parts that this installation does not have.")
    ] = None,
    flags: FlagsOption = None,
) -> None:
    """Run one part in the foreground, for systemd or a container engine to supervise.

    The other parts are started the same way, or by a `crossfade up` on the same data directory, or run on a hosted Supabase.
    """
    settings = settings_with(data_dir=data_dir, host=host, flags=flags)
    settings.require_complete()
    names = part_names([part])
    if len(names) != 1:
        raise UsageError("name one part; crossfade up runs several")
    data = directory_of(settings)
    addresses = known_addresses(data, settings)
    if host is not None:
        addresses = replace(addresses, host=host)
    if port is not None:
        if names[0] not in LISTENING:
            raise UsageError(f"{names[0]} has no port of its own; leave out --port")
        addresses = addresses.at(**{port_name(names[0]): port})
    chosen = choose(
        names,
        (),
        hosted=settings.hosted,
        secret=settings.jwt_secret is not None,
        gateway=bool(settings.gateway_mounts),
        foreign=settings.legacy_url is not None,
    )
    plan = Plan(
        data=data,
        addresses=addresses,
        settings=settings,
        parts=chosen,
        flags=flags_file(data, settings),
        alerts=alerts_file(data, settings),
        elsewhere=_elsewhere(data, settings, without or (), names[0]),
    )
    single.replace_process(plan)


def _elsewhere(
    data: DataDir, settings: Settings, without: list[str] | tuple[()], part: str
) -> tuple[str, ...]:
    """Return the other parts of the installation: those that run now, else those that its settings call for."""
    if running_state(data) is not None and not without:
        found = parts_running(data)
    else:
        found = choose(
            (),
            without,
            (settings.with_parts,),
            hosted=settings.hosted,
            secret=settings.jwt_secret is not None,
            gateway=bool(settings.gateway_mounts),
            foreign=settings.legacy_url is not None,
        )
    return tuple(name for name in found if name != part)
