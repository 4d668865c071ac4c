"""``crossfade capacity``: what a number of clients needs of Realtime, and what breaks first."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from crossfade.cli.options import DataDirOption, Format, FormatOption, wiring
from crossfade.cli.output import print_json
from crossfade.errors import UsageError
from crossfade.rollout.load import measured
from monitoring.capacity import PLANS, Load, recommend, to_json


def capacity(
    clients: Annotated[
        int | None, typer.Option(min=1, help="Clients at the same time.", show_default=False)
    ] = None,
    streams: Annotated[int | None, typer.Option(min=1, help="Streams in all.", show_default=False)] = None,
    rate: Annotated[
        float | None, typer.Option(min=0, help="Events a second in all.", show_default=False)
    ] = None,
    plan: Annotated[
        Literal["free", "pro", "team", "own"] | None,
        typer.Option(
            help="The hosted plan; own: a server of one's own. (default: CROSSFADE_PLAN)", show_default=False
        ),
    ] = None,
    devices: Annotated[int | None, typer.Option(min=1, help="Devices in all.", show_default=False)] = None,
    share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Of the streams, what each client follows.")
    ] = 1.0,
    batch: Annotated[float, typer.Option(min=1, help="Events that stand in one transaction.")] = 1.0,
    data_dir: DataDirOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Predict channels, joins and messages against a plan's limits and measured ones, in both modes.

    What is not given is taken from what runs: its clients, streams and rate. Exit 1 when neither mode fits.
    """
    wired = wiring(data_dir)
    chosen = PLANS[plan or wired.settings.plan]
    found = None if clients and streams and rate is not None else measured(wired.data)
    if found is None and not (clients and streams and rate is not None):
        raise UsageError("nothing runs there to measure: give --clients, --streams and --rate")
    load = Load(
        clients=clients or (found.clients if found else 0),
        streams=streams or (found.streams if found else 1),
        rate=rate if rate is not None else (found.rate if found else 0.0),
        devices=devices or (found.devices if found else 1),
        share=share,
        batch=batch,
        beat_seconds=wired.settings.heartbeat_seconds or 15.0,
    )
    mode, predictions = recommend(load, chosen)
    if format_ is Format.JSON:
        print_json(to_json(load, chosen))
        raise typer.Exit(0 if mode else 1)
    typer.echo(
        f"{load.clients} clients, {load.streams} streams, {load.rate:g} events/s, plan {chosen.name}: "
        + (f"take {mode}" if mode else "neither mode fits")
    )
    for name, prediction in predictions.items():
        first = prediction.first_to_break
        typer.echo(f"\n{name}: {prediction.verdict}; first to break: {first.name if first else '-'}")
        for use in prediction.uses:
            limit = (
                "no limit"
                if use.limit is None
                else f"of {number(use.limit)}{use.unit} ({use.share:.0%}, {use.source})"
            )
            typer.echo(f"  {use.name:<32}{number(use.needed):>16}{use.unit:<3} {limit}")
    raise typer.Exit(0 if mode else 1)


def number(value: float) -> str:
    """Return a number as people read it: three digits that count of a small one, no part of a large one."""
    return f"{value:,.0f}" if value == int(value) or round(value) >= _WHOLE else f"{value:.3g}"


_WHOLE = 100
